"""The data fidelity of Poisson noise: gain, relative smoothness, optimisers."""

from __future__ import annotations

from typing import Any

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.fixed_points import Status
from deepinv_equilibrium.optim import KullbackLeibler

from ...one_test import in_one_test

F64 = torch.float64
KERNEL = torch.tensor([[1.0, 2.0, 1.0]], dtype=F64)[None, None] / 4


def blur(gain: Any = 0.1, normalize: bool = True) -> dinv.physics.BlurFFT:
    noise = dinv.physics.PoissonNoise(gain, normalize=normalize)
    return dinv.physics.BlurFFT((1, 4, 5), filter=KERNEL, noise_model=noise)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("normalize", [True, False])
def test_grad_is_the_derivative_of_fn(channels: int, normalize: bool) -> None:
    gain = torch.tensor([0.05, 2.0], dtype=F64)
    noise = dinv.physics.PoissonNoise(gain, normalize=normalize)
    physics = dinv.physics.BlurFFT((channels, 4, 5), filter=KERNEL, noise_model=noise)
    x = 0.1 + torch.rand(2, channels, 4, 5, dtype=F64)
    y = physics(x)
    fidelity = KullbackLeibler(background=0.1)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: fidelity(x, y, physics), x)
    (expected,) = torch.autograd.grad(fidelity(x, y, physics).sum(), x)
    torch.testing.assert_close(fidelity.grad(x, y, physics), expected)


def test_expected_gradient_is_zero_at_the_true_image() -> None:
    """The gradient is averaged over many measurements of the noise model."""
    x = 0.5 + torch.rand(1, 1, 4, 5, dtype=F64)
    for normalize in (True, False):
        physics = blur(0.02, normalize)
        many = physics(x.expand(20000, -1, -1, -1))
        gradient = KullbackLeibler().grad(x, many.mean(0, keepdim=True), physics)
        scale = (1 / (0.02 * x)).sqrt() / 20000**0.5  # standard deviation of one pixel
        assert float((gradient / scale).abs().max()) < 5


def test_given_gain_takes_precedence_over_the_noise_model() -> None:
    x = 0.5 + torch.rand(2, 1, 4, 5, dtype=F64)
    y = torch.poisson(x)
    counts = KullbackLeibler(gain=1.0, normalize=False)(x, y, blur(0.1))
    torch.testing.assert_close(counts, KullbackLeibler()(x, y, blur(1.0)))
    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    with pytest.raises(ValueError, match=r"gain must be given.*got GaussianNoise"):
        KullbackLeibler()(x, y, physics)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), gain=st.floats(0.01, 100), spread=st.floats(0.1, 4))
def test_relative_smoothness_bounds_the_bregman_divergence(
    seed: int, gain: float, spread: float
) -> None:
    """D_f <= L D_h for two positive images and a nonnegative operator."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.rand(3, 4, generator=generator, dtype=F64)
    matrix = matrix * (torch.rand(3, 4, generator=generator) < 0.6)
    matrix[:, 0] += 0.01  # no row of zeros
    physics = dinv.physics.LinearPhysics(
        A=lambda x, **kwargs: x @ matrix.T,
        A_adjoint=lambda y, **kwargs: y @ matrix,
        noise_model=dinv.physics.PoissonNoise(torch.tensor([gain], dtype=F64)),
    )
    x, z = (spread * torch.randn(2, 5, 4, generator=generator, dtype=F64)).exp()
    c = torch.poisson(torch.rand(5, 3, generator=generator) * 20, generator=generator)
    y = gain * c.double()
    fidelity = KullbackLeibler(background=0.1 * (seed % 2))
    inner = (fidelity.grad(z, y, physics) * (x - z)).sum(1)
    f, at_z = fidelity(x, y, physics), fidelity(z, y, physics)
    divergence = dinv.optim.BurgEntropy().div(x, z)
    bound = fidelity.relative_smoothness(y, physics)
    torch.testing.assert_close(bound, c.double().sum(1))
    rounding = 1e-11 * (f + at_z + inner.abs() + bound * divergence.abs())
    assert bool((f - at_z - inner <= bound * divergence + rounding).all())


def test_relative_smoothness_is_attained() -> None:
    """For one row and one pixel f = L h up to a linear term."""
    physics = dinv.physics.Denoising(dinv.physics.PoissonNoise(0.5))
    x, z, y = (torch.tensor([[v]], dtype=F64) for v in (0.01, 2.0, 1.5))
    fidelity = KullbackLeibler()
    inner = (fidelity.grad(z, y, physics) * (x - z)).sum()
    bregman = fidelity(x, y, physics) - fidelity(z, y, physics) - inner
    bound = fidelity.relative_smoothness(y, physics)
    expected = bound * dinv.optim.BurgEntropy().div(x, z)
    torch.testing.assert_close(bregman, expected, rtol=1e-10, atol=1e-12)


def test_samples_are_independent_and_float32_is_preserved() -> None:
    """(deepinv's likelihood adds the logarithms of all samples to each sample.)"""
    x = 0.1 + torch.rand(3, 1, 4, 5)
    y = torch.poisson(3 * x)
    gain = torch.tensor([0.1, 1.0, 10.0])
    together = KullbackLeibler(gain)(x, y, dinv.physics.Denoising())
    assert together.dtype is torch.float32
    for i in range(3):
        alone = KullbackLeibler(float(gain[i]))(
            x[i : i + 1], y[i : i + 1], dinv.physics.Denoising()
        )
        torch.testing.assert_close(together[i : i + 1], alone)


def test_prox_raises_unless_the_physics_is_denoising() -> None:
    x, y = torch.rand(2, 1, 1, 4, 5, dtype=F64)
    noise = dinv.physics.PoissonNoise(0.1)
    fidelity = KullbackLeibler()
    z = fidelity.prox(x, y, dinv.physics.Denoising(noise), gamma=0.3)
    gradient = fidelity.grad(z, y, dinv.physics.Denoising(noise))
    torch.testing.assert_close(z + 0.3 * gradient, x)
    with pytest.raises(ValueError, match=r"must be a Denoising.*got BlurFFT.*MD"):
        fidelity.prox(x, y, blur())


@pytest.mark.parametrize("config", ["retune", "jacobian-free", "implicit"])
def test_mirror_descent_at_equilibrium_finds_the_minimiser(config: str) -> None:
    """The minimiser has a closed form."""
    physics = dinv.physics.Denoising(dinv.physics.PoissonNoise(0.125))
    y = torch.tensor([[[[0.4, 0.9]]]], dtype=F64, requires_grad=True)
    deq_of = {
        "retune": deq.ReTune(layers=100, restarts=8),
        "jacobian-free": deq.Equilibrium(
            deq.Picard(max_iter=800, rtol=1e-13), deq.JacobianFree(steps=300)
        ),
        "implicit": deq.Equilibrium(
            deq.Picard(max_iter=800, rtol=1e-13), deq.Implicit(deq.GMRES(rtol=1e-12))
        ),
    }
    model = deq.optim.MD(
        bregman_potential=dinv.optim.BurgEntropy(),
        data_fidelity=KullbackLeibler(),
        prior=dinv.optim.Tikhonov(),
        lambda_reg=5.0,
        stepsize=0.05,
        trainable_params=[],
        DEQ=deq_of[config],
    )
    x = model(y, physics)
    # (1 - y / x) / gain + lambda x = 0
    exact = (-8 + (64 + 160 * y).sqrt()) / 10
    torch.testing.assert_close(x, exact, rtol=1e-9, atol=1e-10)
    (ours,) = torch.autograd.grad(x.sum(), y)
    (theirs,) = torch.autograd.grad(exact.sum(), y)
    tolerance = 2e-3 if config == "retune" else 1e-7
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=0)


def test_mirror_descent_that_leaves_the_domain_ends_as_diverged() -> None:
    physics = dinv.physics.Denoising(dinv.physics.PoissonNoise(0.01))
    model = deq.optim.MD(
        bregman_potential=dinv.optim.BurgEntropy(),
        data_fidelity=KullbackLeibler(),
        prior=dinv.optim.ZeroPrior(),
        stepsize=1.0,
        trainable_params=[],
        custom_init=lambda y, physics: torch.full_like(y, 0.1),
        DEQ=deq.Equilibrium(deq.Picard(), deq.JacobianFree(), on_failure="ignore"),
    )
    with torch.no_grad():
        model(torch.ones(1, 1, 1, 2), physics)
    assert model.solution is not None
    assert model.solution.status == (Status.DIVERGED,)


@in_one_test(
    ("name", "value"),
    [
        ("gain", 0.0),
        ("gain", -1.0),
        ("gain", torch.tensor([1.0, 0.0])),
        ("gain", float("nan")),
        ("background", -0.1),
        ("background", float("inf")),
    ],
)
def test_constructor_refuses_numbers_out_of_range(
    name: str, value: float | Tensor
) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be in .0, inf\)"):
        KullbackLeibler(**{name: value})


def test_registry_creates_and_state_dict_restores_the_data_fidelity(
    tmp_path: Any,
) -> None:
    gain = torch.tensor([0.1, 0.2])
    fidelity = deq.plugins.create("data_fidelities", "kullback-leibler", gain=gain)
    assert isinstance(fidelity, KullbackLeibler)
    torch.save(fidelity.state_dict(), tmp_path / "fidelity.pt")
    other = KullbackLeibler(gain=torch.ones(2))
    other.load_state_dict(torch.load(tmp_path / "fidelity.pt", weights_only=True))
    assert torch.equal(torch.as_tensor(other.d.gain), gain)
    with pytest.raises(TypeError, match="bkg"):
        deq.plugins.create("data_fidelities", "kullback-leibler", bkg=0.1)


@pytest.mark.parametrize("name", ["gain", "background"])
def test_constructor_refuses_arguments_of_other_types(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a number, got 'a'"):
        KullbackLeibler(**{name: "a"})
