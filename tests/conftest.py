"""What every test starts from: one thread, a seed, and no display."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator

os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from _pytest.runner import runtestprotocol


def pytest_configure(config: pytest.Config) -> None:
    """Set up torch and hypothesis, which the process that only starts the workers does
    not import."""
    if config.getoption("numprocesses", 0):
        return
    # Tensors and graphs are freed by reference counts. Collections at torch's rate of
    # allocations took a fifth of the suite's time, and a seventh of a worker's start.
    gc.set_threshold(200_000, 50, 50)
    import hypothesis
    import torch

    # One thread is the faster choice for small tensors, and fixes the order of sums.
    torch.set_num_threads(1)
    # A failure must be found again by whoever runs the tests next: no random database,
    # and no deadline, because the first call of a kernel is slower than the later ones.
    hypothesis.settings.register_profile(
        "tests", deadline=None, derandomize=True, max_examples=60
    )
    hypothesis.settings.load_profile("tests")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two workers for the whole suite; none where tests are named, because each would
    import deepinv before it begins."""
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    return 0 if named or config.option.keyword else 2


# Modules that set up for seconds what all of their tests share.
SHARED = re.compile(
    r"tests/(gallery/.*|.*(_figures|test_distributed|test_plugins)\.py)"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put half of the modules with a long set-up first in the half of each of two
    workers. A worker that has finished its half takes tests from the end of the
    other's, where a module would be set up again."""
    modules = [item.nodeid.split("::")[0] for item in items]
    shared = filter(SHARED.fullmatch, dict.fromkeys(modules))
    worker = {name: number % 2 for number, name in enumerate(shared)}
    first, second, rest = (
        [i for i, m in zip(items, modules, strict=True) if worker.get(m) == number]
        for number in (0, 1, None)
    )
    half = max(len(items) // 2 - len(first), 0)
    items[:] = first + rest[:half] + second + rest[half:]


def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> bool | None:
    """Send one report of a test from a worker instead of the usual five messages: each
    wakes the process that prints, which costs as much as running a small test. A set-up
    or a teardown is reported if it fails or takes long."""
    if not hasattr(item.config, "workerinput"):
        return None
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed or report.duration > 0.01:
            item.ihook.pytest_runtest_logreport(report=report)
    return True


@pytest.fixture(scope="session", autouse=True)
def freeze() -> Iterator[None]:
    """Let the collector pass over what torch, deepinv and the tests' collection made,
    hundreds of thousands of objects: it has only to look at what the tests make."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def seed() -> None:
    """Give every test the same random numbers, in whatever order the tests run."""
    import torch

    # torch.manual_seed formats the stack for each kind of device that is not there,
    # which takes longer than many tests.
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(0)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the tests of an accelerator take a real one."""
    parser.addoption(
        "--accelerator",
        help="a device such as cuda for tests/accelerator, not a pretended one",
    )
