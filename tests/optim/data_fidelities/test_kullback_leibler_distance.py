"""The divergence: definition, gradient and proximal operator."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium.optim.data_fidelities.kullback_leibler_distance import (
    KullbackLeiblerDistance,
)

from ...one_test import in_one_test

F64 = torch.float64
GAINS = [0.05, 4.0, torch.tensor([0.1, 3.0], dtype=F64)]


def counts_and_mean() -> tuple[Tensor, Tensor]:
    u = 0.1 + torch.rand(2, 3, 4, 5, dtype=F64)
    return u, torch.poisson(2 * u)


@in_one_test("gain", GAINS)
@in_one_test("normalize", [True, False])
def test_fn_is_the_negative_log_likelihood(
    gain: float | Tensor, normalize: bool
) -> None:
    """Compared with torch's, minus its value at the most likely mean. Some pixels have
    no counts."""
    u, c = counts_and_mean()
    assert bool((c == 0).any())
    column = torch.as_tensor(gain, dtype=F64).reshape(-1, 1, 1, 1)
    y = c * column if normalize else c
    distance = KullbackLeiblerDistance(gain, normalize, background=0.2)
    mean = (u + 0.2) / column

    def likelihood(rate: Tensor) -> Tensor:
        poisson = torch.distributions.Poisson(rate, validate_args=False)
        return poisson.log_prob(c).flatten(1).sum(1)

    best = torch.special.xlogy(c, c) - c - torch.lgamma(c + 1)
    expected = best.flatten(1).sum(1) - likelihood(mean)
    torch.testing.assert_close(distance(u, y), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("normalize", [True, False])
def test_grad_is_the_derivative_of_fn(gain: float | Tensor, normalize: bool) -> None:
    u, y = counts_and_mean()
    distance = KullbackLeiblerDistance(gain, normalize, background=0.1)
    u.requires_grad_()
    assert torch.autograd.gradcheck(lambda u: distance(u, y), u)
    (expected,) = torch.autograd.grad(distance(u, y).sum(), u)
    torch.testing.assert_close(distance.grad(u, y), expected, rtol=1e-9, atol=1e-10)
    assert torch.autograd.gradcheck(lambda u: distance.grad(u, y), u)


def test_fn_without_counts_is_linear_up_to_the_boundary() -> None:
    distance = KullbackLeiblerDistance(0.5)
    u = torch.tensor([[[[0.0, 1.0]]]], dtype=F64)
    assert distance(u, torch.zeros_like(u)).tolist() == [2.0]
    assert distance.grad(u, torch.zeros_like(u)).tolist() == [[[[2.0, 2.0]]]]


@pytest.mark.parametrize("count", [0.0, 1.0])
def test_fn_is_infinite_outside_its_domain(count: float) -> None:
    distance = KullbackLeiblerDistance(1.0)
    u = torch.tensor([-1e-3, 0.0, 1.0], dtype=F64).reshape(3, 1)
    value = distance(u, torch.full_like(u, count))
    assert value.tolist() == [math.inf, math.inf if count else 0.0, 1.0 - count]


def test_fn_is_accurate_for_large_counts_in_float32() -> None:
    """A naive sum over millions of counts would lose all digits of so small a value."""
    y = 1e6 * (1 + torch.rand(1, 1, 64, 64))
    distance = KullbackLeiblerDistance(1.0)
    assert float(distance(y, y)) == 0.0
    u = y * (1 + 1e-3)
    exact = distance(u.double(), y.double())
    assert float(distance(u, y)) == pytest.approx(float(exact), rel=1e-3)


@given(
    v=st.floats(-20, 20),
    count=st.sampled_from([0.0, 1.0, 50.0]),
    tau=st.floats(1e-3, 1e3),
    gain=st.floats(1e-2, 1e2),
    background=st.sampled_from([0.0, 0.3]),
)
def test_prox_satisfies_its_optimality_condition(
    v: float, count: float, tau: float, gain: float, background: float
) -> None:
    """z + tau grad d(z) = v, or z + b = 0 at pixels without counts."""
    distance = KullbackLeiblerDistance(gain, background=background)
    x, y = torch.tensor([[v]], dtype=F64), torch.tensor([[gain * count]], dtype=F64)
    z = distance.prox(x, y, gamma=tau)
    assert float(z) + background >= 0
    gap = z + tau * distance.grad(z, y) - x
    if float(z) + background > 1e-13:
        scale = (
            abs(v) + tau / gain * (1 + count) + float(tau * y / gain / (z + background))
        )
        assert float(gap) == pytest.approx(0, abs=1e-10 * scale)
    else:
        assert count == 0
        assert float(gap) >= -1e-10


def test_prox_accepts_a_step_size_for_each_sample_and_has_a_gradient() -> None:
    v, y = counts_and_mean()
    v = v - 0.5
    distance = KullbackLeiblerDistance(torch.tensor([0.1, 3.0]), background=0.2)
    tau = torch.tensor([0.3, 7.0], dtype=F64, requires_grad=True)
    together = distance.prox(v, y, gamma=tau)
    for i, gain in enumerate([0.1, 3.0]):
        single = KullbackLeiblerDistance(torch.tensor(gain), background=0.2)
        alone = single.prox(v[i : i + 1], y[i : i + 1], gamma=tau[i])
        torch.testing.assert_close(together[i : i + 1], alone)
    v.requires_grad_()
    assert torch.autograd.gradcheck(lambda v, t: distance.prox(v, y, gamma=t), (v, tau))
    both = torch.zeros(1, 1, dtype=F64, requires_grad=True)
    corner = KullbackLeiblerDistance(1.0).prox(both + 1.0, torch.zeros(1, 1, dtype=F64))
    (gradient,) = torch.autograd.grad(corner.sum(), both)
    assert bool(gradient.isfinite().all())


def test_prox_conjugate_satisfies_the_identity_of_moreau() -> None:
    """PDCP uses this operator."""
    v, y = counts_and_mean()
    distance = KullbackLeiblerDistance(0.5)
    dual = distance.prox_conjugate(v, y, gamma=0.7)
    torch.testing.assert_close(dual, v - 0.7 * distance.prox(v / 0.7, y, gamma=1 / 0.7))
    assert bool((dual <= 2.0).all())  # the domain of the conjugate


def test_fn_raises_for_negative_counts_or_unknown_gain() -> None:
    u = torch.ones(1, 2)
    with pytest.raises(ValueError, match=r"y must be nonnegative.*got -0\.5"):
        KullbackLeiblerDistance(1.0)(u, torch.tensor([[1.0, -0.5]]))
    with pytest.raises(ValueError, match=r"gain must be given, as in Kullback"):
        KullbackLeiblerDistance(None).prox(u, u)


def test_gain_is_a_buffer_of_the_module() -> None:
    distance = KullbackLeiblerDistance(torch.tensor([0.1, 3.0]), background=0.2)
    assert list(distance.state_dict()) == ["gain"]
    assert distance.double().gain.dtype is F64


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 1, 1, 1)])
def test_gain_of_each_sample_applies_to_that_sample_only(
    shape: tuple[int, ...],
) -> None:
    """The gain may have further axes of length 1."""
    gains = torch.tensor([0.1, 1.0, 10.0], dtype=F64)
    u = 0.1 + torch.arange(30, dtype=F64).reshape(3, 10) / 30
    y = u.flip(1)
    distance = KullbackLeiblerDistance(gains.reshape(shape), background=0.1)
    value, gradient = distance(u, y), distance.grad(u, y)
    assert value.shape == (3,)
    for i, gain in enumerate(gains.tolist()):
        single = KullbackLeiblerDistance(gain, background=0.1)
        own = u[i : i + 1], y[i : i + 1]
        torch.testing.assert_close(value[i : i + 1], single(*own))
        torch.testing.assert_close(gradient[i : i + 1], single.grad(*own))


def test_fn_raises_for_numbers_that_do_not_fit_the_batch() -> None:
    u = torch.ones(3, 1, 2, 2, dtype=F64)
    two = torch.ones(2, dtype=F64)
    refusal = r" must be one number, or one for each of the 3 .*got shape \(2,\)"
    for name in ("gain", "background"):
        distance = KullbackLeiblerDistance(**{"gain": 1.0, name: two})
        with pytest.raises(ValueError, match=name + refusal):
            distance(u, u)
    with pytest.raises(ValueError, match="gamma" + refusal):
        KullbackLeiblerDistance(1.0).prox(u, u, gamma=two)
    # A batch of one sample does not accept several gains.
    with pytest.raises(ValueError, match=r"gain must be .* each of the 1 samples"):
        KullbackLeiblerDistance(torch.ones(3, dtype=F64))(u[:1], u[:1])


def test_background_may_differ_between_pixels() -> None:
    u, y = counts_and_mean()
    field = 0.1 + torch.arange(5, dtype=F64)[None, None, None]
    value = KullbackLeiblerDistance(0.5, background=field)(u, y)
    torch.testing.assert_close(value, KullbackLeiblerDistance(0.5)(u + field, y))


def test_fn_of_nan_is_nan() -> None:
    distance, u = KullbackLeiblerDistance(1.0), torch.ones(3, 2, dtype=F64)
    u_hat, y = u.clone(), u.clone()
    y[0, 1], u_hat[1, 0] = math.nan, math.nan
    assert distance(u_hat, y).isnan().tolist() == [True, True, False]
    assert distance.grad(u_hat, y).isnan().sum() == 2
