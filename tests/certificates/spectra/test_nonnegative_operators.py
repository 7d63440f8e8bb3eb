import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepinv_equilibrium.certificates.spectra.nonnegative_operators import (
    collatz_wielandt,
)

CPU = torch.device("cpu")


def bound(matrix, shape, **kwargs):
    def gram(x):
        return (matrix.T @ (matrix @ x.flatten())).reshape(shape)

    return collatz_wielandt(gram, shape, CPU, **kwargs)


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.floats(0, 0.95),
    st.floats(-40, 40),
)
def test_collatz_wielandt_bounds_the_norm_of_random_matrices(
    seed, size, sparsity, exponent
):
    # Sparse matrices have rows and columns of zeros, and disjoint blocks.
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.rand(size, generator=generator, dtype=torch.float64) ** 4
    matrix *= torch.rand(size, generator=generator) >= sparsity
    matrix *= 10.0**exponent
    truth = float(torch.linalg.matrix_norm(matrix, 2)) ** 2
    schur = float(matrix.sum(0).max() * matrix.sum(1).max())
    value = bound(matrix, (1, 1, size[1]))
    assert truth <= value <= max(1.01 * truth, 0.0) + 1e-300
    assert value <= schur * (1 + 1e-10)


def test_collatz_wielandt_bounds_blocks_of_very_different_scale():
    blocks = torch.block_diag(
        torch.rand(5, 5, dtype=torch.float64, generator=torch.Generator()),
        1e-9 * torch.ones(4, 4, dtype=torch.float64),
        torch.zeros(3, 3, dtype=torch.float64),
    )
    truth = float(torch.linalg.matrix_norm(blocks, 2)) ** 2
    for shape in ((1, 1, 12), (1, 12), (12, 1, 1), (1, 3, 4), (3, 1, 4)):
        assert truth <= bound(blocks, shape) <= 1.01 * truth


def test_collatz_wielandt_of_the_zero_matrix_is_0():
    assert bound(torch.zeros(3, 4, dtype=torch.float64), (1, 1, 4)) == 0


def test_collatz_wielandt_adds_the_rounding():
    matrix = torch.eye(4, dtype=torch.float64)
    assert bound(matrix, (1, 1, 4), rounding=0.25) == pytest.approx(1.25)
    assert 1 < bound(matrix, (1, 1, 4)) < 1 + 1e-10
