from __future__ import annotations

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.equilibrium.measured_physics import MeasuredPhysics
from deepinv_equilibrium.optim import RidgeL2

IMAGE = (2, 5, 4)
SIGMA, KAPPA = 0.5, 0.3


MATRIX = torch.randn(20, 40, generator=torch.Generator().manual_seed(0)).double() / 5
EYE = torch.eye(40, dtype=torch.float64)


def operator(matrix: Tensor) -> dinv.physics.LinearPhysics:
    return dinv.physics.LinearPhysics(
        A=lambda x, **kwargs: x.flatten(1) @ matrix.T,
        A_adjoint=lambda y, **kwargs: (y @ matrix).reshape(-1, *IMAGE),
        max_iter=200,
        tol=1e-14,
    )


@pytest.fixture
def physics() -> dinv.physics.LinearPhysics:
    """A matrix with a null space."""
    return operator(MATRIX)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, *IMAGE, dtype=torch.float64)


@pytest.fixture
def y() -> Tensor:
    return torch.randn(3, 20, dtype=torch.float64)


def normal_equations(x: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
    """Return the proximal operator by a dense solve."""
    hessian = MATRIX.T @ MATRIX / SIGMA**2 + KAPPA * EYE
    gamma = gamma.reshape(-1, 1, 1).expand(len(x), 1, 1)
    right = x.flatten(1)[:, :, None] + gamma * (y @ MATRIX)[:, :, None] / SIGMA**2
    return torch.linalg.solve(EYE + gamma * hessian, right).reshape_as(x)


def test_grad_is_the_derivative_of_fn(
    physics: dinv.physics.LinearPhysics, x: Tensor, y: Tensor
) -> None:
    fidelity = RidgeL2(SIGMA, KAPPA)
    x.requires_grad_()
    (expected,) = torch.autograd.grad(fidelity(x, y, physics).sum(), x)
    torch.testing.assert_close(fidelity.grad(x, y, physics), expected)


def test_fn_without_residual_is_the_ridge(x: Tensor, y: Tensor) -> None:
    zero = operator(0 * MATRIX)
    value = RidgeL2(SIGMA, KAPPA)(x, 0 * y, zero)
    torch.testing.assert_close(value, KAPPA / 2 * x.flatten(1).pow(2).sum(1))


@pytest.mark.parametrize("gamma", [0.7, torch.tensor(0.7), torch.tensor([0.1, 1, 9])])
def test_prox_solves_the_normal_equations(
    physics: dinv.physics.LinearPhysics, x: Tensor, y: Tensor, gamma: float | Tensor
) -> None:
    expected = normal_equations(x, y, torch.as_tensor(gamma, dtype=torch.float64))
    if isinstance(gamma, Tensor):
        gamma = gamma.double()
    measured = MeasuredPhysics(physics, y).physics  # deepinv's solver stops near 1e-6
    found = RidgeL2(SIGMA, KAPPA).prox(x, y, measured, gamma=gamma)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_prox_is_exact_for_a_mask() -> None:
    """deepinv has a closed form for a mask, without iterations."""
    mask = torch.tensor([[1.0, 0.0, 0.5]], dtype=torch.float64)
    physics = dinv.physics.Inpainting((1, 1, 3), mask=mask[None])
    x, y = torch.randn(2, 1, 1, 1, 3, dtype=torch.float64)
    found = RidgeL2(SIGMA, KAPPA).prox(x, y, physics, gamma=0.7)
    weight = 0.7 / SIGMA**2
    expected = (x + weight * mask * y) / (1 + 0.7 * KAPPA + weight * mask**2)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("algorithm", ["PGD", "GD", "HQS", "DRS", "ADMM"])
def test_equilibrium_and_its_gradient_equal_a_linear_solve(
    algorithm: str, physics: dinv.physics.LinearPhysics, y: Tensor
) -> None:
    """The problem is Tikhonov's. (Half-quadratic splitting has the Moreau envelope in
    the place of f.)"""
    model = getattr(deq.optim, algorithm)(
        data_fidelity=RidgeL2(SIGMA, KAPPA),
        prior=dinv.optim.Tikhonov(),
        stepsize=0.125,
        lambda_reg=0.5,
        trainable_params=[],
        DEQ=deq.Equilibrium(
            deq.Anderson(max_iter=1000, rtol=1e-13),
            deq.Implicit(deq.GMRES(max_iter=400, rtol=1e-12)),
        ),
    )
    gram = MATRIX.T @ MATRIX / SIGMA**2
    hessian = gram + KAPPA * EYE
    if algorithm == "HQS":
        P = torch.linalg.inv(EYE + 0.125 * hessian)
        inverse = torch.linalg.inv((1 + 0.125 * 0.5) * EYE - P) @ P * 0.125
    else:
        inverse = torch.linalg.inv(hessian + 0.5 * EYE)
    solution_map = inverse @ MATRIX.T / SIGMA**2
    y.requires_grad_()
    x = model(y, physics).flatten(1)
    torch.testing.assert_close(x, y @ solution_map.T, rtol=1e-9, atol=1e-9)
    weight = torch.randn_like(x)
    (gradient,) = torch.autograd.grad((weight * x).sum(), y)
    torch.testing.assert_close(gradient, weight @ solution_map, rtol=1e-8, atol=1e-8)


def test_grad_in_the_null_space_is_that_of_the_ridge(
    physics: dinv.physics.LinearPhysics,
) -> None:
    """Without the ridge the gradient would be 0 in the null space."""
    y = torch.zeros(1, 20, dtype=torch.float64)
    null = torch.linalg.svd(MATRIX)[2][-1].reshape(1, *IMAGE)
    torch.testing.assert_close(
        RidgeL2(SIGMA, KAPPA).grad(null, y, physics), KAPPA * null
    )


def test_float32_is_preserved(x: Tensor, y: Tensor) -> None:
    physics = operator(MATRIX.float())
    grad = RidgeL2(SIGMA, KAPPA).grad(x.float(), y.float(), physics)
    assert grad.dtype is torch.float32


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["sigma", "kappa"])
def test_constructor_refuses_numbers_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        RidgeL2(**{name: value})
