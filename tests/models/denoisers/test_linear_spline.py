from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium.models import LinearSpline
from deepinv_equilibrium.models.denoisers.linear_spline import (
    spline_integral,
    spline_slope,
    spline_value,
)

SLOPES = torch.tensor([2.0, -1.0, -1.0, 0.5, 0.0], dtype=torch.float64)
RADIUS = 0.4


def test_spline_has_the_values_between_its_knots():
    u = torch.tensor([0.0, 0.05, 0.1, 0.3, 0.4, 7.0, -0.05, -0.3, -7.0]).double()
    expected = torch.tensor([0.0, 0.1, 0.2, 0.0, 0.05, 0.05, -0.1, 0.0, -0.05])
    torch.testing.assert_close(spline_value(u, SLOPES, RADIUS), expected.double())


def test_spline_is_odd_where_its_values_at_positive_arguments_are_negative():
    slopes = torch.tensor([1.0, -3.0, 0.0], dtype=torch.float64)
    u = torch.tensor([-0.35, 0.35]).double()
    value = spline_value(u, slopes, RADIUS)
    torch.testing.assert_close(value, torch.tensor([0.25, -0.25]).double())


def test_slope_and_integral_belong_to_the_value():
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(200, generator=generator, dtype=torch.float64) / 4
    v = u.clone().requires_grad_()
    slopes = SLOPES.clone().requires_grad_()
    value = spline_value(v, slopes, RADIUS)
    (gradient,) = torch.autograd.grad(value.sum(), v, create_graph=True)
    assert torch.equal(gradient, spline_slope(u, SLOPES, RADIUS))
    integral = spline_integral(v, slopes, RADIUS)
    (back,) = torch.autograd.grad(integral.sum(), v)
    torch.testing.assert_close(back, value.detach())
    h = 1e-7
    ends = [spline_integral(u + s, SLOPES, RADIUS) for s in (h, -h)]
    difference = (ends[0] - ends[1]) / (2 * h)
    torch.testing.assert_close(difference, value.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("function", [spline_value, spline_integral])
def test_derivatives_in_arguments_and_slopes_agree_with_differences(function):
    u = torch.tensor([0.03, -0.17, 0.33, -0.5]).double().requires_grad_()
    slopes = SLOPES.clone().requires_grad_()

    def apply(u: Tensor, slopes: Tensor) -> Tensor:
        return function(u, slopes, RADIUS)

    torch.autograd.gradcheck(apply, (u, slopes))
    torch.autograd.gradgradcheck(apply, (u, slopes))


@given(
    seed=st.integers(0, 10**6),
    weak_convexity=st.sampled_from([0.0, 0.3, 1.0]),
    magnitude=st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_slopes_are_within_their_bounds_for_all_weights(
    seed: int, weak_convexity: float, magnitude: float
):
    spline = LinearSpline(weak_convexity, intervals=7)
    generator = torch.Generator().manual_seed(seed)
    for weight in spline.parameters():
        weight.data = magnitude * torch.randn(weight.shape, generator=generator)
    spline.log_slope.data.clamp_(-20, 20)
    slopes = spline.slopes().detach()
    assert len(slopes) == 8
    assert slopes[-1] == 0
    assert slopes.min() >= -weak_convexity
    assert slopes.max() <= spline.log_slope.exp()


def test_nan_and_infinity_do_not_break_the_lookup():
    u = torch.tensor([torch.nan, torch.inf, 1e30]).double()
    value = spline_value(u, SLOPES, RADIUS)
    assert value[0].isnan()
    assert value[2] == pytest.approx(0.05)
