"""One iteration of ISTA, as the formula in coefficients writes it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepinv_equilibrium.models.sparse_coding import ISTAStep
from deepinv_equilibrium.models.sparse_coding.ista_step import require_relative

from ...certificates.dense_operator import matrix
from .problems import (
    DOUBLE,
    blur,
    convolutional_frame,
    dense_frame,
    matrix_physics,
    synthesis_matrix,
)


def shrink(v: torch.Tensor, t: float) -> torch.Tensor:
    return v.sign() * (v.abs() - t).clamp_min(0)


def test_is_the_formula_with_matrices() -> None:
    """S((I - tau W A'A W') z + tau W A'y): the data term has the sign +."""
    frame, size = dense_frame(), (1, 3, 4)
    A = torch.randn(7, 12, dtype=DOUBLE)
    y, z = torch.randn(2, 7, dtype=DOUBLE), torch.randn(2, 15, dtype=DOUBLE)
    tau, weight = torch.tensor(0.01, dtype=DOUBLE), torch.full((15,), 3.0, dtype=DOUBLE)
    step = ISTAStep(y, matrix_physics(A, size), frame, tau, weight, layers=2)
    B = A @ synthesis_matrix(frame, size)
    expected = z
    for _ in range(2):
        filtered = expected @ (torch.eye(15, dtype=DOUBLE) - 0.01 * B.mT @ B)
        expected = shrink(filtered + 0.01 * y @ B, 0.03)
    torch.testing.assert_close(step(z), expected)


def test_in_an_orthonormal_frame_it_is_the_iteration_of_the_image() -> None:
    """x+ = W' S(W (x - tau A'(A x - y)))."""
    Q, _ = torch.linalg.qr(torch.randn(12, 12, dtype=DOUBLE))
    frame = dense_frame(atoms=12)
    with torch.no_grad():
        frame.matrix.copy_(Q)
    A = torch.randn(7, 12, dtype=DOUBLE)
    y, x = torch.randn(2, 7, dtype=DOUBLE), torch.randn(2, 12, dtype=DOUBLE)
    tau, weight = torch.tensor(0.02, dtype=DOUBLE), torch.full((12,), 2.0, dtype=DOUBLE)
    step = ISTAStep(y, matrix_physics(A, (1, 3, 4)), frame, tau, weight)
    moved = x - 0.02 * (x @ A.mT - y) @ A
    expected = shrink(moved @ Q.mT, 0.04) @ Q
    torch.testing.assert_close(step(x @ Q.mT) @ Q, expected)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), relative=st.floats(0.05, 1.0))
def test_the_objective_goes_down(seed: int, relative: float) -> None:
    """For every step size up to 1 / (bound of the squared norms)."""
    torch.manual_seed(seed)
    frame, physics = convolutional_frame(1, 2), blur(1, 5, 4)
    A = matrix(physics.A, (1, 5, 4)) @ synthesis_matrix(frame, (1, 5, 4))
    y, weight = torch.randn(1, 1, 5, 4, dtype=DOUBLE), torch.rand(4, dtype=DOUBLE)
    norm = torch.linalg.matrix_norm(matrix(physics.A, (1, 5, 4)), 2) ** 2
    tau = relative / (norm * frame.squared_norm().detach())

    def objective(z: torch.Tensor) -> float:
        fit = (A @ z.flatten() - y.flatten()).square().sum() / 2
        return float(fit + (weight[:, None, None] * z.abs()).sum())

    z = torch.randn(1, 4, 6, 5, dtype=DOUBLE)
    with torch.no_grad():
        after = ISTAStep(y, physics, frame, tau, weight)(z)
    # Sufficient decrease of proximal gradient descent.
    decrease = (after - z).square().sum() / (2 * tau)
    assert objective(after) <= objective(z) - (1 - 1e-9) * float(decrease) + 1e-9


def test_steps_beyond_convergence_are_refused() -> None:
    for stepsize in (0.0, 2.0, float("nan")):
        with pytest.raises(ValueError, match="must be between 0 and 2, got"):
            require_relative(stepsize)
