"""The weighted wavelet norm as a prior."""

from __future__ import annotations

from pathlib import Path

import deepinv as dinv
import pytest
import pywt
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.optim import WeightedWaveletPrior

DOUBLE = torch.float64


def random_prior(channels: int | None = 3, levels: int = 2) -> WeightedWaveletPrior:
    prior = WeightedWaveletPrior(channels, levels=levels, initial_weight=0.2).double()
    with torch.no_grad():
        prior.log_scale.add_(0.5 * torch.randn_like(prior.log_scale))
        prior.log_band.normal_(0, 0.7)
    return prior


@pytest.mark.parametrize(("channels", "count"), [(None, 7), (1, 7), (3, 13)])
def test_prior_has_the_number_of_weights_of_the_paper(
    channels: int | None, count: int
) -> None:
    prior = WeightedWaveletPrior(channels)
    assert sum(p.numel() for p in prior.parameters()) == count


@pytest.mark.parametrize("channels", [None, 3])
def test_fn_is_the_norm_of_the_paper(channels: int | None) -> None:
    """Equations (44) and (45), evaluated with the coefficients of PyWavelets."""
    prior, x = random_prior(channels), torch.rand(2, 3, 32, 40, dtype=DOUBLE)
    _, *details = pywt.wavedec2(x.numpy(), "db4", mode="periodization", level=2)
    scale = prior.log_scale.exp().tolist()
    band = prior.log_band.exp().expand(3, 3)
    expected = torch.zeros(2, dtype=DOUBLE)
    for weight, bands in zip(scale, details, strict=True):
        w = torch.stack([torch.from_numpy(b) for b in bands], dim=2)
        square = band[:, :, None, None] * w.square()
        groups = square.sum((1, 2)) if channels else square.sum(2)
        expected += weight * groups.sqrt().flatten(1).sum(1)
    torch.testing.assert_close(prior(x), expected)


@given(
    st.sampled_from([None, 3]),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 2**31),
    st.floats(-3, 2),
)
@torch.no_grad()
def test_prox_minimises_its_objective(
    channels: int | None, height: int, width: int, seed: int, exponent: float
) -> None:
    """Other points are worse by at least what strong convexity implies."""
    torch.manual_seed(seed)
    gamma = 10.0**exponent
    prior, v = random_prior(channels), torch.randn(1, 3, height, width, dtype=DOUBLE)
    best = prior.prox(v, gamma=gamma)

    def energy(x: Tensor) -> float:
        return float((x - v).square().sum() / 2 + gamma * prior(x))

    for size in (1e-3, 1.0):
        other = best + size * torch.randn_like(best)
        growth = float((other - best).square().sum()) / 2
        rounding = 1e-12 * (1 + energy(other))
        assert energy(other) >= energy(best) + growth - rounding
    # The operator is firmly nonexpansive.
    u = v + torch.randn_like(v)
    moved = prior.prox(u, gamma=gamma) - best
    assert float((moved * (u - v)).sum()) >= float(moved.square().sum()) - 1e-12


def test_approximation_is_not_penalised() -> None:
    x = torch.full((1, 3, 32, 32), 0.6, dtype=DOUBLE)
    prior = WeightedWaveletPrior(3, initial_weight=100.0).double()
    assert prior(x).item() == pytest.approx(0, abs=1e-8)
    torch.testing.assert_close(prior.prox(x), x)


@pytest.mark.parametrize("channels", [None, 3])
def test_gradients_agree_with_finite_differences(channels: int | None) -> None:
    prior = random_prior(channels)
    x = torch.randn(2, 3, 9, 8, dtype=DOUBLE, requires_grad=True)
    gamma = torch.tensor([1.3, 0.4], dtype=DOUBLE, requires_grad=True)
    inputs = [x, gamma, *prior.parameters()]
    weight = torch.randn_like(x)

    def loss() -> Tensor:
        return (weight * prior.prox(x, gamma=gamma).square()).sum()

    gradients = torch.autograd.grad(loss(), inputs)
    for tensor, gradient in zip(inputs, gradients, strict=True):
        direction, values = torch.randn_like(tensor), []
        for sign in (1, -1):
            with torch.no_grad():
                tensor += sign * 1e-6 * direction
                values.append(loss().item())
                tensor -= sign * 1e-6 * direction
        slope = (values[0] - values[1]) / 2e-6
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_samples_are_independent_and_float32_is_preserved(channels: int | None) -> None:
    prior = WeightedWaveletPrior(channels, initial_weight=0.3)
    with torch.no_grad():
        prior.log_band.normal_()
    x = torch.rand(3, channels or 2, 13, 10)
    gamma = torch.tensor([0.1, 1.0, 3.0])
    got = prior.prox(x, gamma=gamma)
    expected = prior.double().prox(x.double(), gamma=gamma.double())
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-5)
    alone = prior.prox(x[1:2].double(), 0.05, gamma=1.0)  # g_param is ignored
    torch.testing.assert_close(alone, expected[1:2], rtol=0, atol=1e-12)


def test_state_dict_restores_the_weights(tmp_path: Path) -> None:
    prior, x = random_prior(3, levels=4), torch.rand(1, 3, 9, 9, dtype=DOUBLE)
    torch.save(prior.state_dict(), tmp_path / "prior.pt")
    other = deq.plugins.create("priors", "weighted-wavelet", channels=3).double()
    other.load_state_dict(torch.load(tmp_path / "prior.pt", weights_only=True))
    assert other.prox(x).equal(prior.prox(x))


@pytest.mark.parametrize("value", [-1e30, 1e30])
def test_prox_is_finite_for_extreme_weights(value: float) -> None:
    prior = WeightedWaveletPrior(3)
    with torch.no_grad():
        prior.log_scale.fill_(value)
        prior.log_band[0] = -value
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    prior.prox(x).square().sum().backward()
    for tensor in (x, *prior.parameters()):
        assert tensor.grad is not None
        assert bool(tensor.grad.isfinite().all())


def test_optimisers_of_deepinv_accept_the_prior() -> None:
    """Their rates are certified, because the proximal operator is exact."""
    prior, y = random_prior(), torch.rand(2, 3, 12, 9, dtype=DOUBLE)
    physics = dinv.physics.Denoising()
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=prior,
        stepsize=0.5,
        trainable_params=[],
        DEQ=deq.Equilibrium(deq.Picard(max_iter=200, rtol=1e-13)),
    ).double()
    torch.testing.assert_close(model(y, physics), prior.prox(y))
    rate = deq.certify(model, physics, (3, 12, 9)).rate
    assert rate.is_certified
    assert rate.value == pytest.approx(0.5)


def test_constructor_and_methods_refuse_bad_input() -> None:
    with pytest.raises(ValueError, match="channels"):
        WeightedWaveletPrior(0)
    with pytest.raises(ValueError, match="initial_weight must be positive"):
        WeightedWaveletPrior(initial_weight=0.0)
    with pytest.raises(TypeError, match="initial_weight must be a number, got 'a'"):
        WeightedWaveletPrior(initial_weight="a")
    prior = WeightedWaveletPrior(3)
    with pytest.raises(ValueError, match=r"channels=3, got images of shape \(1, 1,"):
        prior(torch.rand(1, 1, 8, 8))
    with pytest.raises(ValueError, match="gamma must be a nonnegative number"):
        prior.prox(torch.rand(1, 3, 8, 8), gamma=-1.0)
    with pytest.raises(ValueError, match="one for each of the 1 images"):
        prior.prox(torch.rand(1, 3, 8, 8), gamma=torch.ones(2))
    with pytest.raises(ValueError, match="has no gradient"):
        prior.grad(torch.rand(1, 3, 8, 8))
    with pytest.raises(TypeError, match="unexpected keyword"):
        WeightedWaveletPrior(chanels=3)
