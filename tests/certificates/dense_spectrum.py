"""The exact spectrum of a small physics, the reference for intervals."""

import math

import torch


def dense_spectrum(physics, shape):
    """Return the smallest and the largest squared singular value of A.

    The physics is in float64, and the shape includes the batch.
    """
    n = math.prod(shape)
    impulses = torch.eye(n, dtype=torch.float64).reshape(n, *shape)
    if shape[0] == 1:
        # The impulses are the images of a batch.
        columns = [flatten(physics.A(part[:, 0])) for part in impulses.split(256)]
    else:
        columns = [flatten(physics.A(impulse)).reshape(1, -1) for impulse in impulses]
    matrix = torch.cat(columns).mT
    values = torch.linalg.svdvals(matrix).square()
    smallest = float(values[-1]) if matrix.shape[0] >= n else 0.0
    return smallest, float(values[0])


def flatten(y):
    """Return the measurements of a batch as real vectors."""
    if not isinstance(y, torch.Tensor):
        return torch.cat([flatten(part) for part in y], dim=1)
    return (torch.view_as_real(y) if y.is_complex() else y).flatten(1)


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
