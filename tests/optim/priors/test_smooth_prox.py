from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium import ConvergenceWarning
from deepinv_equilibrium.optim.priors.smooth_proximal import (
    smooth_prox,
    smooth_prox_error,
)

DOUBLE = {"dtype": torch.float64}


def quadratic(
    batch: int, n: int, seed: int, scale: float = 1.0
) -> tuple[Tensor, float]:
    """Return random positive semidefinite matrices and their largest eigenvalue."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(batch, n, n, generator=generator, **DOUBLE)
    matrix = scale * factor @ factor.mT
    return matrix, float(torch.linalg.eigvalsh(matrix).max())


def matvec(matrix: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("bij,bj->bi", matrix, x)


def exact(matrix: Tensor, x: Tensor, gamma: Tensor) -> Tensor:
    system = torch.eye(x.shape[1], **DOUBLE) + gamma[..., None] * matrix
    return torch.linalg.solve(system, x)


@settings(max_examples=60)
@given(
    batch=st.integers(1, 3),
    n=st.integers(1, 6),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-6, 1e-2, 1.0, 30.0, 1e3]),
    gamma=st.sampled_from([0.0, 0.1, 1.0, 4.0]),
)
def test_smooth_prox_of_a_quadratic_has_the_closed_form_within_its_error(
    batch: int, n: int, seed: int, scale: float, gamma: float
):
    matrix, smoothness = quadratic(batch, n, seed, scale)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, n, generator=generator, **DOUBLE)
    weight = torch.full((batch, 1), gamma, **DOUBLE)
    truth = exact(matrix, x, weight)

    def gradient(z: Tensor) -> Tensor:
        return matvec(matrix, z)

    found = smooth_prox(gradient, x, weight, smoothness)
    bound = smooth_prox_error(gradient, found, x, weight, smoothness)
    error = (found - truth).norm(dim=1)
    assert (error <= bound + 1e-13 * truth.norm(dim=1)).all()
    assert (bound <= 1e-8 * (1 + gamma * smoothness) * x.norm(dim=1)).all()
    # The bound holds for every approximation.
    guess = truth + torch.randn(batch, n, generator=generator, **DOUBLE)
    bound = smooth_prox_error(gradient, guess, x, weight, smoothness)
    assert ((guess - truth).norm(dim=1) <= bound).all()


def test_gradient_reaches_all_arguments_and_closed_over_tensors():
    matrix, smoothness = quadratic(2, 3, seed=0)
    matrix.requires_grad_()
    x = torch.randn(2, 3, **DOUBLE, requires_grad=True)
    gamma = torch.tensor([[0.3], [2.0]], **DOUBLE, requires_grad=True)

    def found(matrix: Tensor, x: Tensor, gamma: Tensor) -> Tensor:
        # Symmetrised, because finite differences perturb single entries.
        symmetric = (matrix + matrix.mT) / 2
        return smooth_prox(
            lambda z: matvec(symmetric, z), x, gamma, smoothness, rtol=1e-13
        )

    assert torch.autograd.gradcheck(found, (matrix, x, gamma), atol=1e-7)


def test_sample_does_not_depend_on_the_rest_of_the_batch():
    matrix, smoothness = quadratic(3, 4, seed=1)
    x = torch.randn(3, 4, **DOUBLE)
    gamma = torch.tensor([[0.1], [1.0], [10.0]], **DOUBLE)
    together = smooth_prox(lambda z: matvec(matrix, z), x, gamma, smoothness)
    for i in range(3):
        one = slice(i, i + 1)
        alone = smooth_prox(
            lambda z, one=one: matvec(matrix[one], z), x[one], gamma[one], smoothness
        )
        torch.testing.assert_close(together[one], alone, rtol=1e-8, atol=1e-8)


def test_unconverged_solve_warns_and_its_error_is_bounded():
    # This is not the gradient of a convex function, against the assumption.
    x = torch.ones(1, 2, **DOUBLE)
    gamma = torch.ones(1, 1, **DOUBLE)
    with pytest.warns(ConvergenceWarning):
        smooth_prox(lambda z: -3 * z, x, gamma, smoothness=1.0)


def test_float32_is_solved_up_to_rounding():
    matrix, smoothness = quadratic(1, 5, seed=2)
    x, gamma = torch.randn(1, 5), torch.ones(1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = smooth_prox(lambda z: matvec(matrix.float(), z), x, gamma, smoothness)
    assert found.dtype == torch.float32
    truth = exact(matrix, x.double(), gamma.double())
    assert (found - truth).norm() < 1e-5 * (1 + smoothness) * truth.norm()


@pytest.mark.parametrize("gamma", [-1.0, float("nan"), 1e13])
def test_smooth_prox_refuses_gamma_out_of_range(gamma: float):
    x = torch.ones(1, 2)
    with pytest.raises(ValueError, match="gamma must be at least 0 and less than"):
        smooth_prox(lambda z: z, x, torch.full((1, 1), gamma), 1.0)
