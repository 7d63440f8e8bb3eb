"""Run deepinv's own tests with the optimisers of this package in place of deepinv's::

    pip download deepinv==0.5.0 --no-binary :all: --no-deps
    tar xf deepinv-0.5.0.tar.gz
    pip install ptwt
    python -m tests.deepinv_suite deepinv-0.5.0

Run from the root of the repository; the run takes about fifteen minutes. Further
arguments are passed to pytest, e.g. ``-k test_DEQ``. A failure is expected if it is a
refusal of :data:`REFUSALS`, which the documentation explains on the page "Options of
deepinv". The exit status is 0 if there is no other failure. deepinv skips its tests
that cannot download their data.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import deepinv
import pytest

import deepinv_equilibrium as deq

FILES = ("test_unfolded", "test_optim", "test_loss_train")
OPTIMISERS = ("PGD", "GD", "HQS", "ADMM", "DRS", "PDCP", "MD", "PMD", "FISTA")
REFUSALS = (
    r"data_fidelity is missing: give \w+ one",
    r"(GD|MD) takes no argument 'g_first'",
)


class Failures:
    """pytest plugin that counts failures by their message."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self.unexplained: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a test that fails."""
        if not report.failed:
            return
        for refusal in REFUSALS:
            if re.search(refusal, report.longreprtext):
                self.refused[refusal] += 1
                return
        self.unexplained.append(report.nodeid)


def main(sdist: str, *options: str) -> int:
    """Run the tests in the unpacked source distribution, and print the failures."""
    for name in OPTIMISERS:
        setattr(deepinv.optim, name, getattr(deq.optim, name))
    folder = Path(sdist, "deepinv", "tests")
    files = [str(folder / f"{name}.py") for name in FILES]
    failures = Failures()
    code = pytest.main(["-p", "no:cacheprovider", *files, *options], [failures])
    for refusal, count in failures.refused.items():
        print(f"{count} tests are refused as documented: {refusal}")
    for failure in failures.unexplained:
        print(f"unexplained failure: {failure}")
    return int(code > pytest.ExitCode.TESTS_FAILED or bool(failures.unexplained))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
