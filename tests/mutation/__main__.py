"""
Small changes of the core against its tests: ``python -m tests.mutation``.

An operator, a sign or a constant of a module is changed, in a process of its own, and
the tests of its folder run until one fails. The mutants are drawn at random, as many
from each folder. A mutant that no test notices is listed in ``survivors.json`` with the
reason why its result is as right as the one of the original; the command fails if there
is another one. ``--only TEXT`` chooses mutants by their words.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.machinery
import importlib.util
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

import deepinv  # noqa: F401, loaded once for all processes, as torch is
import pytest
from tqdm import tqdm

from .mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
PACKAGE = "deepinv_equilibrium"
# The folders of the core, and those whose tests run them. The tests of a module itself
# come first.
TESTS = {
    "fixed_points": ("fixed_points", "accelerator", "equilibrium"),
    "certificates": ("certificates", "attack"),
    "equilibrium": ("equilibrium", "presets"),
}
SECONDS = 600.0


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a mutant in the place of its module."""

    def __init__(self, name: str, mutant: Mutant) -> None:
        super().__init__(name, str(ROOT / mutant.path))
        self.mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.mutant.source, self.path, "exec", dont_inherit=True)


class _Finder:
    """Finds a mutant in the place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = ".".join(mutant.path.with_suffix("").parts)
        self.mutant = mutant

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.util.spec_from_loader(name, _Loader(name, self.mutant))


def drawn(count: int, seed: int) -> list[Mutant]:
    """Return random mutants, as many from each folder of the core."""
    generator, chosen = random.Random(seed), []
    for folder in TESTS:
        paths = sorted((ROOT / PACKAGE / folder).rglob("*.py"))
        known = [m for p in paths for m in mutants(ROOT, p.relative_to(ROOT))]
        chosen += generator.sample(known, count // len(TESTS))
    return chosen


def tests_of(mutant: Mutant) -> list[str]:
    """Return the tests that run for a mutant, the nearest ones first."""
    parts = mutant.path.parts[1:]
    folder = ROOT.joinpath("tests", *parts[:-1])
    nearest = [folder / f"test_{parts[-1]}", folder]
    others = [ROOT / "tests" / name for name in TESTS[parts[0]]]
    return [str(path) for path in (*nearest, *others) if path.exists()]


def result(mutant: Mutant | None, paths: Sequence[str]) -> str:
    """Return "noticed", "timed out" or "survived", of a mutant or of the package as it
    is."""
    child = os.fork()
    if child == 0:
        os.setsid()
        if mutant is not None:
            sys.meta_path.insert(0, _Finder(mutant))
        with (
            open(os.devnull, "w") as nothing,
            contextlib.redirect_stdout(nothing),
            contextlib.redirect_stderr(nothing),
        ):
            options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
            status = 1
            with contextlib.suppress(BaseException):
                status = pytest.main([*options, *paths])
        os._exit(int(status))
    start = time.monotonic()
    while time.monotonic() - start < SECONDS:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "noticed"
        time.sleep(0.1)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timed out"


def main() -> int:
    """Report which mutants the tests notice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="TEXT")
    args = parser.parse_args()

    survivors = Path(__file__).with_name("survivors.json")
    explained = json.loads(survivors.read_text("utf-8"))
    for folder, names in TESTS.items():
        if result(None, [str(ROOT / "tests" / name) for name in names]) != "survived":
            print(f"tests of {folder} fail without a change")
            return 1
    results: Counter[str] = Counter()
    chosen = [m for m in drawn(args.count, args.seed) if args.only in str(m)]
    for mutant in tqdm(chosen):
        found = result(mutant, tests_of(mutant))
        if found == "survived" and str(mutant) in explained:
            found = "explained"
        results[found] += 1
        if found in ("survived", "timed out"):
            tqdm.write(f"{found}: {mutant} (line {mutant.line})")
    print(", ".join(f"{number} {name}" for name, number in results.items()))
    return int(results["survived"] > 0)


if __name__ == "__main__":
    sys.exit(main())
