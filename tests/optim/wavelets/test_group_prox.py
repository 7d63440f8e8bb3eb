"""The proximal operator of weighted group norms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium.optim.wavelets import group_prox

DOUBLE = torch.float64
GROUP = (1, 2)


def problem(seed: int, spread: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(2, 2, 3, 4, 5, dtype=DOUBLE, generator=generator)
    v[0, :, :, 0] *= 1e-3
    theta = (
        spread * torch.randn(1, 2, 3, 1, 1, dtype=DOUBLE, generator=generator)
    ).exp()
    return v, theta


@given(st.integers(0, 2**31), st.floats(0, 6), st.floats(-3, 2))
def test_group_prox_satisfies_the_optimality_conditions(
    seed: int, spread: float, exponent: float
) -> None:
    """The conditions are sufficient, because the problem is convex."""
    gamma = 10.0**exponent
    v, theta = problem(seed, spread)
    w = group_prox(v, theta, gamma, GROUP)
    norm = (theta * w).square().sum(GROUP, keepdim=True).sqrt()
    kept = norm > 0
    safe = torch.where(kept, norm, 1.0)
    gap = torch.where(kept, w - v + gamma * theta**2 * w / safe, 0.0)
    assert bool((gap.abs() <= 1e-12 * v.abs()).all())
    dual = (v / theta).square().sum(GROUP, keepdim=True).sqrt()
    torch.testing.assert_close(kept, dual > gamma)


def test_group_prox_of_equal_weights_is_the_soft_threshold() -> None:
    v, _ = problem(0, 1.0)
    theta = torch.full((1, 1, 1, 1, 1), 0.7, dtype=DOUBLE)
    norm = v.square().sum(GROUP, keepdim=True).sqrt()
    expected = v * (1 - 0.7 * 2.0 / norm).clamp_min(0)
    assert bool((expected == 0).any())
    torch.testing.assert_close(group_prox(v, theta, 2.0, GROUP), expected)


def test_group_prox_with_zero_gamma_is_the_identity() -> None:
    v, theta = problem(1, 2.0)
    v[0, ..., 0, 0] = 0
    torch.testing.assert_close(group_prox(v, theta, 0.0, GROUP), v)


def test_group_prox_has_first_and_second_derivatives() -> None:
    v, theta = problem(2, 0.7)
    v, gamma = v[:1, ..., 1:3, :2], torch.tensor([[[[[2.2]]]]], dtype=DOUBLE)
    kept = group_prox(v, theta, gamma, GROUP).abs().sum(GROUP) > 0
    assert bool(kept.any())
    assert not bool(kept.all())
    inputs = tuple(t.clone().requires_grad_() for t in (v, theta, gamma))

    def prox(v: Tensor, theta: Tensor, gamma: Tensor) -> Tensor:
        return group_prox(v, theta, gamma, GROUP)

    assert torch.autograd.gradcheck(prox, inputs)
    assert torch.autograd.gradgradcheck(prox, inputs)


def test_gradient_of_zero_groups_is_not_nan() -> None:
    v = torch.zeros(1, 1, 3, 2, 2, requires_grad=True)
    theta = torch.ones(1, 1, 3, 1, 1, requires_grad=True)
    group_prox(v, theta, 0.5, (2,)).sum().backward()
    for tensor in (v, theta):
        assert tensor.grad is not None
        assert not bool(tensor.grad.any())


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_float32_is_accurate_at_any_scale(scale: float) -> None:
    v, theta = problem(3, 1.0)
    expected = group_prox(v, theta, 0.4, GROUP) * scale
    got = group_prox((v * scale).float(), theta.float(), 0.4 * scale, GROUP)
    assert got.dtype == torch.float32
    error = (got.double() - expected).abs().max() / scale
    assert error < 1e-5
