"""
Wrong formulas against the short attack: ``python -m tests.attack.mutants``.

Each patch of ``patches.py`` is applied to a copy of the package, on which the short
attack runs. The command reports which property notices which patch; the exit status is
1 unless all are noticed. ``--only TEXT`` chooses patches by their words.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path

import deepinv  # noqa: F401, loaded once for all processes, as torch is
import hypothesis  # noqa: F401
import torch

from .patches import PATCHES, Patch

ROOT = Path(__file__).parents[2]


def noticed_by(patch: Patch | None) -> str:
    """Return the name of the property that notices a patch, empty if none does."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("deepinv_equilibrium", "tests"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, Path(folder) / part, ignore=ignored)
        if patch is not None:
            patch.apply(Path(folder) / "deepinv_equilibrium")
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            text = "not run"
            try:
                text = first_failure(folder)
            except BaseException as error:  # noqa: BLE001, the parent reports it
                text = f"not run: {error!r}"
            finally:
                os.write(writer, text.encode()[:4000])
                os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        with os.fdopen(reader) as pipe:
            text = pipe.read()
    if text.startswith("not run"):
        raise RuntimeError(f"the attack did not run with {patch}: {text}")
    return text


def first_failure(folder: str) -> str:
    """Return the first property of the short attack that fails, in a process of its
    own, with the package in a folder."""
    sys.path = [folder, *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
    for name in [m for m in sys.modules if m.split(".")[0] == "tests"]:
        del sys.modules[name]
    import deepinv_equilibrium

    if not deepinv_equilibrium.__file__.startswith(folder):
        raise ImportError(f"the package is {deepinv_equilibrium.__file__}")
    from tests.attack.attacks import ATTACKS
    from tests.attack.cases import outcome, run_cases

    for name, attack in ATTACKS.items():
        try:
            run_cases(attack, attack.short, None, partial(outcome, attack))
        except Exception:  # noqa: BLE001, every error is noticed
            return name
    return ""


def main() -> int:
    """Report which patches the short attack notices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    chosen = [patch for patch in PATCHES if options.only in patch.what]
    if name := noticed_by(None):
        print(f"{name}: fails without a patch")
        return 1
    missed = 0
    for patch in chosen:
        name = noticed_by(patch)
        print(f"{patch.what}: {name or 'NOT NOTICED'}", flush=True)
        missed += not name
    print(f"{len(chosen) - missed} of {len(chosen)} wrong formulas were noticed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
