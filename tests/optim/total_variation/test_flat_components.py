from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components as of_scipy
from torch import Tensor

from deepinv_equilibrium.optim.total_variation import connected_components

from ...one_test import in_one_test


def expected_labels(joined: Tensor) -> Tensor:
    """Return the smallest index of each component, sample by sample."""
    shape = (*joined.shape[1:2], *joined.shape[3:])
    pixels = torch.arange(joined[0, :, 0].numel()).reshape(shape)
    rows = []
    for sample in joined:
        edges = []
        for d, n in enumerate(shape[1:]):
            inside = sample[:, d].narrow(1 + d, 0, n - 1)
            start = pixels.narrow(1 + d, 0, n - 1)[inside]
            edges.append(torch.stack([start, pixels.narrow(1 + d, 1, n - 1)[inside]]))
        start, end = torch.cat(edges, 1).numpy()
        size = pixels.numel()
        graph = coo_matrix((torch.ones(len(start)).numpy(), (start, end)), (size, size))
        _, labels = of_scipy(graph, directed=False)
        names = torch.from_numpy(labels).long()
        least = torch.full((size,), size).scatter_reduce(
            0, names, torch.arange(size), "amin"
        )
        rows.append(least[names])
    return torch.stack(rows)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from(
        [(2, 2, 9, 7), (3, 1, 30, 30), (2, 1, 5, 6, 7), (1, 2, 1, 40), (2, 3, 1, 1)]
    ),
    share=st.sampled_from([0.0, 0.3, 0.5, 0.6, 0.9, 1.0]),
)
def test_connected_components_of_random_grids(
    seed: int, shape: tuple[int, ...], share: float
):
    generator = torch.Generator().manual_seed(seed)
    full = (*shape[:2], len(shape) - 2, *shape[2:])
    joined = torch.rand(full, generator=generator) < share
    assert torch.equal(connected_components(joined), expected_labels(joined))


def along(path: list[tuple[int, int]], size: int) -> Tensor:
    """Return the joins of consecutive pixels of a path."""
    joined = torch.zeros(1, 1, 2, size, size, dtype=torch.bool)
    for (i, j), (k, m) in itertools.pairwise(path):
        joined[0, 0, 0 if i != k else 1, min(i, k), min(j, m)] = True
    return joined


def snake(size: int) -> list[tuple[int, int]]:
    return [
        (i, j if i % 2 == 0 else size - 1 - j) for i in range(size) for j in range(size)
    ]


def spiral(size: int) -> list[tuple[int, int]]:
    left, path = {(i, j) for i in range(size) for j in range(size)}, [(0, 0)]
    step = (0, 1)
    left.remove((0, 0))
    while left:
        ahead = (path[-1][0] + step[0], path[-1][1] + step[1])
        if ahead not in left:
            step = (step[1], -step[0])
            continue
        left.remove(ahead)
        path.append(ahead)
    return path


@in_one_test("size", [2, 7, 32])
@in_one_test("make", [snake, spiral])
def test_long_path_is_one_component(
    make: Callable[[int], list[tuple[int, int]]], size: int
):
    path = make(size)
    joined = along(path, size)
    assert (connected_components(joined) == 0).all()
    # The path, cut in the middle, is two components.
    (i, j), (k, m) = path[len(path) // 2 - 1 : len(path) // 2 + 1]
    joined[0, 0, 0 if i != k else 1, min(i, k), min(j, m)] = False
    labels = connected_components(joined)
    assert torch.equal(labels, expected_labels(joined))
    assert len(labels.unique()) == 2


def test_last_entries_of_an_axis_are_ignored():
    joined = torch.ones(1, 1, 2, 2, 2, dtype=torch.bool)
    joined[0, 0, 0, 0] = joined[0, 0, 1, :, 0] = False
    assert connected_components(joined).tolist() == [[0, 1, 2, 3]]
