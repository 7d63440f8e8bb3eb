from __future__ import annotations

import math

import pytest
import torch

from deepinv_equilibrium.datasets.ellipses import pixel_centres, soft_ellipse

from ..one_test import in_one_test


def inside(size, centre, axes, angle):
    """Return which pixel centres are in the ellipse, by a rotation matrix."""
    down, right = pixel_centres(size)
    points = torch.stack(torch.broadcast_tensors(down, right), -1)
    points = points - torch.tensor(centre, dtype=torch.float64)
    # The first semi-axis points down; a clockwise rotation turns it to the left.
    first = torch.tensor([math.cos(angle), -math.sin(angle)], dtype=torch.float64)
    second = torch.tensor([math.sin(angle), math.cos(angle)], dtype=torch.float64)
    return (points @ first / axes[0]) ** 2 + (points @ second / axes[1]) ** 2 < 1


def test_pixel_centres_are_symmetric_and_evenly_spaced() -> None:
    down, right = pixel_centres((2, 4))
    assert down.flatten().tolist() == [-0.5, 0.5]
    assert right.tolist() == [-0.75, -0.25, 0.25, 0.75]


@in_one_test("size", [(64, 64), (40, 97)])
@in_one_test("centre", [(0.0, 0.0), (0.21, -0.13)])
@in_one_test("axes", [(0.5, 0.5), (0.2, 0.6), (0.7, 0.15)])
@in_one_test("angle", [0.0, 0.4, 2.0])
def test_coverage_is_half_at_boundary_and_sums_to_area(size, centre, axes, angle):
    coverage = soft_ellipse(size, centre, axes, angle)
    assert coverage.shape == size
    assert 0 <= coverage.min() < coverage.max() == 1
    assert torch.equal(coverage > 0.5, inside(size, centre, axes, angle))
    area = math.pi * axes[0] * axes[1] * size[0] * size[1] / 4
    assert float(coverage.sum()) == pytest.approx(area, rel=0.01)


def test_edge_is_one_pixel_wide() -> None:
    row = soft_ellipse((1, 200), (0.0, 0.0), (1e6, 0.503))[0]
    assert ((row > 0) & (row < 1)).sum() == 2  # one at each end
    assert float(row.sum()) == pytest.approx(100 * 2 * 0.503)


def test_pixel_at_centre_is_covered() -> None:
    assert soft_ellipse((5, 5), (0.0, 0.0), (0.6, 0.6))[2, 2] == 1


def test_tensors_give_one_ellipse_per_frame() -> None:
    down = torch.tensor([-0.2, 0.3], dtype=torch.float64)[:, None, None]
    radius = torch.tensor([0.4, 0.5], dtype=torch.float64)[:, None, None]
    frames = soft_ellipse((16, 20), (down, 0.1), (radius, 2 * radius), radius)
    for t in range(2):
        r = float(radius[t])
        alone = soft_ellipse((16, 20), (float(down[t]), 0.1), (r, 2 * r), r)
        torch.testing.assert_close(frames[t], alone)
