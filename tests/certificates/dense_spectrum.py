"""The truth about a small physics."""

import math

import torch


def dense_spectrum(physics, shape):
    """The extremes of the squared singular values of A, in float64, from its columns;
    ``physics`` is in float64 and ``shape`` has the batch."""
    n = math.prod(shape)
    columns = []
    for k in range(n):
        impulse = torch.zeros(n, dtype=torch.float64)
        impulse[k] = 1
        columns.append(flatten(physics.A(impulse.reshape(shape))))
    matrix = torch.stack(columns, dim=1)
    values = torch.linalg.svdvals(matrix).square()
    smallest = float(values[-1]) if matrix.shape[0] >= n else 0.0
    return smallest, float(values[0])


def flatten(y):
    if not isinstance(y, torch.Tensor):
        return torch.cat([flatten(part) for part in y])
    return torch.view_as_real(y).flatten() if y.is_complex() else y.flatten()


def check(interval, truth, tightness=None):
    """Neither end is on the wrong side; the singular values of a matrix are known up to
    the rounding of the largest."""
    smallest, largest = truth
    assert interval.upper.value >= largest
    assert interval.lower.value <= smallest + 1e-14 * largest
    if tightness is not None:
        assert interval.upper.value <= tightness * largest
