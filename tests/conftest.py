"""What every test starts from: one thread, a seed, and no display."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import pytest
import torch

# One thread is the faster choice for small tensors, and fixes the order of sums.
torch.set_num_threads(1)

# A failure must be found again by whoever runs the tests next: no random database, and
# no deadline, because the first call of a kernel is slower than the later ones.
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, max_examples=60
)
hypothesis.settings.load_profile("tests")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two workers for the whole suite; none where tests are named, because each would
    import deepinv before it begins."""
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    return 0 if named or config.option.keyword else 2


@pytest.fixture(scope="session", autouse=True)
def freeze() -> Iterator[None]:
    """Let the collector pass over what torch, deepinv and the tests' collection made,
    hundreds of thousands of objects: it has only to look at what the tests make."""
    gc.collect()
    gc.freeze()
    # Tensors and graphs are freed by reference counts. Collections at torch's rate of
    # allocations took a fifth of the suite's time.
    gc.set_threshold(200_000, 50, 50)
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def seed() -> None:
    """Give every test the same random numbers, in whatever order the tests run."""
    torch.manual_seed(0)
