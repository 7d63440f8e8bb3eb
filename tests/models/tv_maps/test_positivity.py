from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepinv_equilibrium.models import BoundedSigmoid, Positivity, Softplus

from ...one_test import in_one_test

BOTH = [Softplus(), Softplus(scale=3.0), BoundedSigmoid(), BoundedSigmoid(bound=7.0)]
DTYPES = [torch.float32, torch.float64]
EXTREMES = [0.0, 1.0, 30.0, 100.0, 1e4, 1e30, 3e38, math.inf]


def test_forward_is_the_published_function_up_to_the_floor():
    raw = torch.linspace(-8, 8, 50, dtype=torch.float64)
    torch.testing.assert_close(
        Softplus()(raw), 0.1 * torch.log1p(raw.exp()), rtol=0, atol=1.1e-7
    )
    torch.testing.assert_close(
        BoundedSigmoid()(raw), 0.5 / (1 + (-raw).exp()), rtol=0, atol=5.1e-7
    )


@in_one_test("dtype", DTYPES)
@in_one_test("positivity", BOTH, ids=str)
def test_forward_is_positive_and_finite_with_finite_gradients(
    positivity: Positivity, dtype: torch.dtype
):
    extremes = [sign * value for value in EXTREMES for sign in (-1, 1)]
    raw = torch.tensor(extremes, dtype=dtype, requires_grad=True)
    weight = positivity(raw)
    assert weight.dtype == dtype
    assert bool((weight > 0).all())
    assert bool((1 / weight).isfinite().all())
    assert bool(weight.square().isfinite().all())  # step sizes and energies square it
    (gradient,) = torch.autograd.grad(weight.sum(), raw)
    assert bool((gradient >= 0).all())
    assert bool(gradient.isfinite().all())


@given(raw=st.floats(allow_nan=False), single=st.booleans())
def test_forward_is_between_floor_and_cap(raw: float, single: bool):
    raw = torch.tensor(raw, dtype=torch.float32 if single else torch.float64)
    rounding = 4 * torch.finfo(raw.dtype).eps
    for positivity, lower, upper in (
        (Softplus(0.1), 1e-7, 1e5),
        (BoundedSigmoid(0.5), 5e-7, 0.5),
    ):
        weight = positivity(raw).item()
        assert lower * (1 - rounding) <= weight <= upper * (1 + 1e-6)


@in_one_test("positivity", BOTH, ids=str)
def test_forward_of_nan_is_nan(positivity: Positivity):
    assert positivity(torch.tensor(torch.nan)).isnan()


@in_one_test("positivity", BOTH, ids=str)
def test_gradient_agrees_with_finite_differences(positivity: Positivity):
    raw = torch.tensor([-30.0, -3.0, 0.0, 2.0, 19.99, 20.01, 45.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(positivity, raw.requires_grad_())


@pytest.mark.parametrize("positivity", BOTH, ids=str)
@given(fraction=st.floats(1e-4, 0.999))
def test_initial_is_the_inverse_of_forward(positivity: Positivity, fraction: float):
    unbounded = isinstance(positivity, Softplus)
    for value in (1e4 * fraction, fraction) if unbounded else (0.5 * fraction,):
        raw = torch.tensor(positivity.initial(value), dtype=torch.float64)
        assert positivity(raw).item() == pytest.approx(value, rel=1e-9)


@in_one_test("value", [0.0, -1.0, 1e-8, math.inf, math.nan])
@in_one_test("positivity", BOTH, ids=str)
def test_initial_raises_for_weights_out_of_range(positivity: Positivity, value: float):
    with pytest.raises(ValueError, match=r"must be between .* change (scale|bound)"):
        positivity.initial(value)


def test_initial_raises_for_a_weight_above_the_bound():
    with pytest.raises(ValueError, match=r"5e-07 and 0\.5, .* got 0\.5; change bound"):
        BoundedSigmoid().initial(0.5)


@in_one_test("value", [0.0, -0.1, math.inf, math.nan])
def test_constructor_raises_for_bad_arguments(value: float):
    with pytest.raises(ValueError, match=r"scale must be in \(0, inf\)"):
        Softplus(value)
    with pytest.raises(ValueError, match=r"bound must be in \(0, inf\)"):
        BoundedSigmoid(value)


def test_repr_shows_the_arguments():
    assert repr(Softplus()) == "Softplus(scale=0.1)"
    assert repr(BoundedSigmoid()) == "BoundedSigmoid(bound=0.5)"
