"""Steps of ISTA against their formulas with matrices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepinv_equilibrium.models.sparse_coding import ISTAStep, NonnegativeISTAStep
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


def test_step_is_the_formula_with_matrices() -> None:
    """S((I - tau W A'A W') z + tau W A'y), with + before the data term."""
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


def test_step_in_an_orthonormal_frame_is_the_iteration_of_the_image() -> None:
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
def test_step_decreases_the_objective(seed: int, relative: float) -> None:
    """This holds for step sizes up to 1 / (bound of the squared norms)."""
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


def test_require_relative_raises_outside_0_and_2() -> None:
    for stepsize in (0.0, 2.0, float("nan")):
        with pytest.raises(ValueError, match="must be between 0 and 2, got"):
            require_relative(stepsize)


def nonnegative_problem(
    seed: int, stepsize: float = 1.0
) -> tuple[NonnegativeISTAStep, torch.Tensor, torch.Tensor, float]:
    """Return a step, the matrices of A W' and W', and sigma."""
    torch.manual_seed(seed)
    frame, size = dense_frame(), (1, 3, 4)
    A = torch.randn(7, 12, dtype=DOUBLE)
    S = synthesis_matrix(frame, size)
    squared = torch.linalg.matrix_norm(S, 2) ** 2
    tau = stepsize / (torch.linalg.matrix_norm(A, 2) ** 2 * squared)
    product = 0.99 * (1 - stepsize / 2) / squared
    y, weight = torch.randn(2, 7, dtype=DOUBLE), torch.rand(15, dtype=DOUBLE)
    physics = matrix_physics(A, size)
    step = NonnegativeISTAStep(y, physics, frame, tau, product, weight, layers=2)
    return step, A @ S, S, float(product / tau)


def test_nonnegative_step_is_the_formula_with_matrices() -> None:
    step, B, S, sigma = nonnegative_problem(0)
    z, v = torch.randn(2, 15, dtype=DOUBLE), torch.randn(2, 12, dtype=DOUBLE)
    expected, dual, threshold = z, v, step.threshold
    for _ in range(2):
        gradient = (expected @ B.mT - step.y) @ B + sigma * dual @ S
        before, moved = expected, expected - step.tau * gradient
        expected = moved.sign() * (moved.abs() - threshold).clamp_min(0)
        dual = (dual + (2 * expected - before) @ S.mT).clamp(max=0)
    (got, got_dual), image = step.step_and_output((z, v.reshape(2, 1, 3, 4)))
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(got_dual.flatten(1), dual)
    torch.testing.assert_close(image.flatten(1), (expected @ S.mT).clamp(min=0))


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), stepsize=st.floats(0.05, 1.95))
def test_nonnegative_step_is_nonexpansive_in_the_norm_of_condat(
    seed: int, stepsize: float
) -> None:
    step, _, S, sigma = nonnegative_problem(seed, stepsize)
    pairs = []
    for _ in range(2):
        z, v = torch.randn(2, 15, dtype=DOUBLE), torch.randn(2, 1, 3, 4, dtype=DOUBLE)
        with torch.no_grad():
            pairs.append(((z, v), step((z, v))))

    def squared_distance(k: int) -> torch.Tensor:
        (z, v), (other, w) = pairs[0][k], pairs[1][k]
        z, v = z - other, (v - w).flatten(1)
        product = (z @ S.mT * v).sum(dim=1)
        squares = z.square().sum(dim=1) / step.tau + sigma * v.square().sum(dim=1)
        return squares - 2 * sigma * product

    assert (squared_distance(1) <= (1 + 1e-9) * squared_distance(0)).all()
