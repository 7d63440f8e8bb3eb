"""Run each reproduction against the installed deepinv, as it is and with its patch.

A reproduction must fail without its patch and pass with it::

    python upstream/check.py                 # all of them, about five minutes
    python upstream/check.py poisson_prox
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def passes(name: str, package: Path | None = None) -> bool:
    """Return whether the test of a reproduction passes, with deepinv of a folder."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-c", os.devnull, "--rootdir", str(HERE), str(HERE / f"test_{name}.py")]
    environment = dict(os.environ)
    if package is not None:
        environment["PYTHONPATH"] = str(package)
    finished = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    if finished.returncode not in (0, 1):
        raise RuntimeError(finished.stdout + finished.stderr)
    return finished.returncode == 0


def main() -> int:
    """Check the reproductions; return how many do not behave as described."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted(path.stem[5:] for path in HERE.glob("test_*.py"))
    parser.add_argument("names", nargs="*", help="default: all")
    args = parser.parse_args()

    spec = importlib.util.find_spec("deepinv")
    assert spec is not None
    assert spec.origin is not None
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in args.names or names:
            copy = Path(folder) / name
            shutil.copytree(Path(spec.origin).parent, copy / "deepinv")
            patch = HERE / "patches" / f"{name}.patch"
            command = ["patch", "-p1", "-s", "-d", str(copy), "-i", str(patch)]
            subprocess.run(command, check=True)
            before, after = passes(name), passes(name, copy)
            wrong += before or not after
            words = {True: "passes", False: "fails"}
            print(f"{name:28s}{words[before]} without, {words[after]} with the patch")
            shutil.rmtree(copy)
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())
