"""The exact spectrum of a small physics, the reference for intervals."""

import math

import torch


def dense_spectrum(physics, shape):
    """Return the smallest and the largest squared singular value of A.

    The physics is in float64, and the shape includes the batch.
    """
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
    """Check that an interval contains the spectrum, up to the rounding of its largest
    value, and that its upper end is tight."""
    smallest, largest = truth
    assert interval.upper.value >= largest
    assert interval.lower.value <= smallest + 1e-14 * largest
    if tightness is not None:
        assert interval.upper.value <= tightness * largest


def random(seed, *shape, dtype=torch.float64):
    """Return a random tensor that depends only on its seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)
