"""The primal-dual iteration: norm, fixed points and derivatives."""

from __future__ import annotations

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.fixed_points import State
from deepinv_equilibrium.optim.total_variation import (
    differences,
    differences_adjoint,
    differences_norm_squared,
)
from deepinv_equilibrium.optim.total_variation.primal_dual_step import PrimalDualTVStep
from deepinv_equilibrium.optim.total_variation.tv_groups import TV_NORMS, TVNorm

DOUBLE = torch.float64
SHAPE, FIELD = (2, 1, 4, 3), (2, 1, 2, 4, 3)
KERNEL = torch.tensor([[0.0, 0.1, 0.0], [0.2, 0.6, 0.0], [0.1, 0.0, 0.0]])
# A nonnegative kernel of sum 1: the norm with circular padding is 1.
PHYSICS = dinv.physics.Blur(filter=KERNEL[None, None].double(), padding="circular")


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=DOUBLE)


def make_step(
    norm: TVNorm, tau: float, dual: float = 0.99, layers: int = 1
) -> PrimalDualTVStep:
    """Return a step with sigma tau |D|^2 = dual and one weight a difference."""
    y = torch.rand(SHAPE, dtype=DOUBLE)
    weight = 0.2 * torch.rand(2, 1, 2, 4, 3, dtype=DOUBLE)
    weight[0, 0, :, 1, 1] = 0.0
    weight[1, 0, 0, 2, 1] = 0.0
    sigma = dual / (tau * differences_norm_squared(SHAPE[2:]))
    return PrimalDualTVStep(
        y, PHYSICS, weight, norm, number(tau), number(sigma), layers
    )


def distance(step: PrimalDualTVStep, a: object, b: object) -> Tensor:
    """Return the norm in which the iteration is averaged."""
    assert isinstance(a, tuple)
    assert isinstance(b, tuple)
    x, p = ((s - t).square().flatten(1).sum(1) for s, t in zip(a, b, strict=True))
    return x / step.tau + p / step.sigma


@pytest.mark.parametrize("norm", TV_NORMS)
@pytest.mark.parametrize("tau", [1.98e-6, 0.3, 1.0, 1.98])
@pytest.mark.parametrize("dual", [1e-6, 0.99])
def test_step_is_nonexpansive_at_the_largest_step_sizes(
    norm: TVNorm, tau: float, dual: float
) -> None:
    step = make_step(norm, tau, dual)
    for scale in (1e-3, 1.0, 1e3):
        a, b = (
            (scale * torch.randn(SHAPE).double(), scale * torch.randn(FIELD).double())
            for _ in range(2)
        )
        for _ in range(20):
            before = distance(step, a, b)
            a, b = step(a), step(b)
            assert bool((distance(step, a, b) <= (1 + 1e-12) * before).all())


@pytest.mark.parametrize("norm", TV_NORMS)
def test_fixed_point_is_the_minimiser_with_its_dual(norm: TVNorm) -> None:
    step = make_step(norm, 1.0)
    state: State = (torch.zeros(SHAPE).double(), torch.zeros(FIELD).double())
    found = deq.fixed_point(step, state, deq.Anderson(max_iter=3000, rtol=1e-13))
    x, p = found.x
    pulled = p if step.ratio is None else p * step.ratio
    stationary = PHYSICS.A_adjoint(PHYSICS.A(x) - step.y) + differences_adjoint(pulled)
    torch.testing.assert_close(stationary, torch.zeros(SHAPE).double())
    # The dual is a subgradient: feasible, and aligned with the differences.
    groups = (2,) if norm == "isotropic" else ()
    moved = step.weight * differences(x)
    if norm == "isotropic":
        assert bool((p.norm(dim=2, keepdim=True) <= step.radius + 1e-12).all())
        energy = moved.norm(dim=groups).sum()
    else:
        assert bool((p.abs() <= step.radius + 1e-12).all())
        energy = moved.abs().sum()
    torch.testing.assert_close((pulled * differences(x)).sum(), energy)


def test_block_of_layers_is_as_many_iterations() -> None:
    torch.manual_seed(1)
    one = make_step("isotropic", 1.0)
    torch.manual_seed(1)
    block = make_step("isotropic", 1.0, layers=3)
    state = torch.rand(SHAPE, dtype=DOUBLE), torch.rand(FIELD, dtype=DOUBLE)
    for got, expected in zip(block(state), one(one(one(state))), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("norm", TV_NORMS)
@pytest.mark.parametrize("dtype", [DOUBLE, torch.complex128])
def test_step_has_the_derivatives_of_finite_differences(
    norm: TVNorm, dtype: torch.dtype
) -> None:
    physics = dinv.physics.Denoising()

    def run(
        x: Tensor, p: Tensor, y: Tensor, weight: Tensor, tau: Tensor, sigma: Tensor
    ) -> object:
        return PrimalDualTVStep(y, physics, weight, norm, tau, sigma, 2)((x, p))

    inputs = (
        torch.randn(1, 1, 3, 2, dtype=dtype),
        torch.randn(1, 1, 2, 3, 2, dtype=dtype),
        torch.randn(1, 1, 3, 2, dtype=dtype),
        1 + torch.rand(1, 1, 2, 3, 2, dtype=DOUBLE),
        number(0.7),
        number(0.1),
    )
    for tensor in inputs:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
