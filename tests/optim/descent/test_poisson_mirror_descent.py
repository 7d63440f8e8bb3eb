"""DEQ-MD: closed forms, finite differences, and decrease of the energy."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.fixed_points import Status
from deepinv_equilibrium.optim import (
    KullbackLeibler,
    NetworkResidualPrior,
    PoissonMirrorDescent,
    ScalarNetworkPrior,
)

from ...one_test import in_one_test
from ...quiet_trainer import train_for_an_epoch
from ..central_differences import directional_derivative

F64 = torch.float64
KERNEL = torch.full((1, 1, 3, 3), 1 / 9, dtype=F64)


class Shrink(dinv.models.Denoiser):
    r""":math:`N(x) = c x`: the prior is :math:`\frac{1}{2} (1-c)^2 \|x\|^2`."""

    def __init__(self, c: float = 0.4) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.tensor(c, dtype=F64))

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return self.c * x


def potential(channels: int = 1) -> ScalarNetworkPrior:
    network = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.Softplus())
    return ScalarNetworkPrior(network)


def blur(
    size: tuple[int, ...], gain: float | Tensor = 0.125, normalize: bool = True
) -> dinv.physics.BlurFFT:
    noise = dinv.physics.PoissonNoise(gain, normalize=normalize)
    return dinv.physics.BlurFFT(size, filter=KERNEL, noise_model=noise)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("stepsize", [0.05, 1.0, 1e4])
def test_minimiser_and_its_derivatives_have_the_closed_form(
    stepsize: float, normalize: bool
) -> None:
    """(1 - y / x) / gain + w x = 0, clipped to the box."""
    prior = NetworkResidualPrior(Shrink())
    model = PoissonMirrorDescent(
        prior,
        g_param=0.1,
        lambda_reg=5.0,
        bounds=(0.05, 1.0),
        stepsize=stepsize,
        max_iter=20000,
        rtol=1e-13,
        adjoint=deq.Implicit(deq.GMRES(rtol=1e-12)),
    )
    noise = dinv.physics.PoissonNoise(0.125, normalize=normalize)
    y = torch.tensor([[0.3, 0.8], [0.0, 4.0]], dtype=F64)[:, None, None]
    y = (y if normalize else y / 0.125).requires_grad_()
    unit = 1.0 if normalize else 0.125
    c = prior.denoiser.c
    x = model(y, dinv.physics.Denoising(noise))
    assert model.solution is not None
    assert model.solution.converged.all()
    weight = 5.0 * (1 - c) ** 2
    exact = ((64 + 32 * weight * y * unit).sqrt() - 8) / (2 * weight)
    exact = exact.clamp(0.05, 1.0)
    torch.testing.assert_close(x, exact, rtol=1e-7, atol=1e-9)
    w = torch.rand_like(x)
    ours = torch.autograd.grad((w * x).sum(), [y, c])
    theirs = torch.autograd.grad((w * exact).sum(), [y, c])
    for mine, true in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, true, rtol=1e-5, atol=1e-7)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.1, 1.0, 5.0]),
    weight=st.sampled_from([0.1, 10.0]),
    gain=st.sampled_from([1e-3, 0.1]),
    upper=st.sampled_from([1.0, float("inf")]),
)
def test_energy_of_a_random_network_decreases_sufficiently(
    seed: int, scale: float, weight: float, gain: float, upper: float
) -> None:
    """Energies are computed again in float64. The prior is not convex."""
    generator = torch.Generator().manual_seed(seed)
    filters = scale * torch.randn(4, 1, 3, 3, generator=generator, dtype=F64)

    def bumps(x: Tensor) -> Tensor:
        waves = torch.conv2d(x, filters, padding=1)
        return torch.sin(3 * waves).flatten(1).sum(1)

    model = PoissonMirrorDescent(
        dinv.optim.Prior(g=bumps),
        lambda_reg=weight,
        bounds=(1e-4, upper),
        max_iter=25,
        rtol=0,
        on_failure="ignore",
    )
    physics = blur((1, 5, 6), gain)
    x = torch.rand(2, 1, 5, 6, generator=generator, dtype=F64)
    y = gain * torch.poisson(x / gain, generator=generator)
    with torch.no_grad():
        x = model(y, physics)
        fidelity = KullbackLeibler()(x, y, physics)
    descent = model.solution
    assert descent is not None
    assert set(descent.status) == {Status.COMPLETED}
    assert bool((descent.largest_increase <= 1e-13).all())
    assert bool((x >= 1e-4).all())
    for i in range(2):
        count = int(descent.iterations[i])
        assert 1 <= int(descent.checked[i]) <= count
        last = float(descent.energy[count, i])
        assert last == pytest.approx(float(fidelity[i] + weight * bumps(x)[i]))


def test_backtracking_accepts_steps_below_the_bound_of_relative_smoothness() -> None:
    """Every step with tau <= (1 - kappa) / L is accepted."""
    physics = blur((1, 4, 5))
    y = torch.poisson(8 * torch.rand(3, 1, 4, 5, dtype=F64)) / 8
    model = PoissonMirrorDescent(dinv.optim.ZeroPrior(), max_iter=300, rtol=0)
    with torch.no_grad():
        model(y, physics)
    assert model.solution is not None
    bound = KullbackLeibler().relative_smoothness(y, physics)
    assert bool((model.solution.stepsize >= 0.5 * 0.2 / bound).all())


def test_gradient_of_the_solution_agrees_with_finite_differences() -> None:
    """With respect to the weights of a scalar network; also Jacobian-free."""
    prior = potential().double()
    weight = prior.network[0].weight
    kernel = torch.tensor([[0.05, 0.9, 0.05]], dtype=F64)[None, None]
    noise = dinv.physics.PoissonNoise(0.05)
    physics = dinv.physics.BlurFFT((1, 4, 5), filter=kernel, noise_model=noise)
    y = 0.4 + 0.4 * torch.rand(2, 1, 4, 5, dtype=F64)
    model = PoissonMirrorDescent(
        prior,
        bounds=(0.05, 1.0),
        max_iter=5000,
        rtol=1e-11,
        adjoint=deq.Implicit(deq.GMRES(rtol=1e-11)),
    )
    w = torch.rand(2, 1, 4, 5, dtype=F64)
    (gradient,) = torch.autograd.grad((w * model(y, physics)).sum(), weight)
    direction = torch.randn_like(weight)
    central = directional_derivative(
        lambda: (w * model(y, physics)).sum(), weight, direction
    )
    assert float((gradient * direction).sum()) == pytest.approx(central, rel=1e-4)
    # The Jacobian-free gradient is that of the last step, a part of a Neumann series.
    model.adjoint = deq.JacobianFree()
    x = model(y, physics)
    (free,) = torch.autograd.grad((w * x).sum(), weight)
    assert model.solution is not None
    tau = model.solution.stepsize.reshape(2, 1, 1, 1)
    energy = model.energy(y, physics)
    _, slope = energy.value_and_gradient(x.detach())
    inside = (x > 0.05) & (x < 1)
    pull = -(w * inside * tau * x.detach() ** 2 * slope).sum()
    (expected,) = torch.autograd.grad(pull, weight)
    torch.testing.assert_close(free, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("channels", [1, 3])
def test_sample_does_not_depend_on_the_rest_of_the_batch(
    channels: int, dtype: torch.dtype
) -> None:
    """Samples have different gains and step sizes; images are grey and colour, of odd
    sizes."""
    gain = torch.tensor([1e-2, 0.1, 1.0], dtype=dtype)
    noise = dinv.physics.PoissonNoise(gain)
    x = torch.rand(3, channels, 9, 10, dtype=dtype)
    y = noise(x)
    model = PoissonMirrorDescent(potential(channels).to(dtype), max_iter=25, rtol=0)
    kernel = KERNEL.to(dtype)
    with torch.no_grad():
        physics = dinv.physics.Blur(kernel, padding="circular", noise_model=noise)
        together = model(y, physics)
        batch = model.solution
        assert batch is not None
        for i in range(3):
            single = dinv.physics.PoissonNoise(gain[i : i + 1])
            physics = dinv.physics.Blur(kernel, padding="circular", noise_model=single)
            alone = model(y[i : i + 1], physics)
            tolerance = 1e-11 if dtype == F64 else 1e-4
            torch.testing.assert_close(
                together[i], alone[0], rtol=tolerance, atol=tolerance
            )
            assert model.solution is not None
            assert batch.stepsize[i] == model.solution.stepsize[0]
    assert together.dtype is dtype
    assert len(set(batch.stepsize.tolist())) > 1
    assert bool((batch.largest_increase <= 33 * torch.finfo(dtype).eps).all())


def test_output_is_equal_with_and_without_gradients() -> None:
    model = PoissonMirrorDescent(potential(), max_iter=30, on_failure="ignore")
    y = torch.rand(2, 1, 6, 6)
    physics = dinv.physics.Denoising(dinv.physics.PoissonNoise(0.1))
    with torch.no_grad():
        expected = model(y, physics)
    model.train()
    torch.testing.assert_close(model(y, physics), expected)


def test_nonfinite_sample_is_marked_and_leaves_the_others_unchanged() -> None:
    model = PoissonMirrorDescent(potential().double(), on_failure="ignore")
    physics = dinv.physics.Denoising(dinv.physics.PoissonNoise(0.1))
    y = torch.rand(3, 1, 6, 6, dtype=F64)
    bad = y.clone()
    bad[1, 0, 3, 3] = torch.nan
    grads = []
    for data in (bad, y[[0, 2]]):
        model.zero_grad()
        x = model(data, physics)
        (x[[0, 2]] if data is bad else x).sum().backward()
        grads.append(next(model.parameters()).grad.clone())
        if data is bad:
            assert model.solution is not None
            assert model.solution.status[1] is Status.NONFINITE
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-8, atol=1e-10)


def test_state_dict_restores_the_model(tmp_path: Path) -> None:
    first, second = (PoissonMirrorDescent(potential(), rtol=1e-3) for _ in range(2))
    torch.save(first.state_dict(), tmp_path / "model.pt")
    second.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    y = torch.rand(1, 1, 6, 6)
    physics = dinv.physics.Denoising(dinv.physics.PoissonNoise(0.1))
    with torch.no_grad():
        assert torch.equal(first(y, physics), second(y, physics))


def test_trainer_trains_the_preset() -> None:
    model = deq.plugins.create(
        "reconstructors", "deq-md", prior=potential(), rtol=1e-2, on_failure="ignore"
    )
    physics = dinv.physics.Denoising(dinv.physics.PoissonNoise(0.1))
    x = torch.rand(4, 1, 8, 8)
    pairs = [{"x": image, "y": physics(image[None])[0]} for image in x]
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    train_for_an_epoch(model, physics, optimizer, pairs, batch_size=2)
    after = model.state_dict()
    assert all(not torch.equal(after[key], before[key]) for key in before)
    assert len(before) == 2


def test_preset_accepts_the_name_of_a_prior() -> None:
    model = deq.plugins.create(
        "reconstructors",
        "deq-md",
        prior="ridge-regulariser",
        g_param=0.1,
        lambda_reg=100.0,
        rtol=1e-3,
    )
    physics = dinv.physics.Denoising(dinv.physics.PoissonNoise(1 / 60))
    x = torch.full((1, 1, 16, 16), 0.5)
    y = physics(x)
    with torch.no_grad():
        denoised = model(y, physics)
    assert float((denoised - x).norm()) < 0.7 * float((y - x).norm())


@in_one_test(
    ("name", "value"),
    [
        ("lambda_reg", 0.0),
        ("lambda_reg", -1.0),
        ("g_param", -0.1),
        ("bounds", (0.0, 1.0)),
        ("bounds", (1.0, 0.5)),
        ("bounds", (float("nan"), 1.0)),
        ("stepsize", 0.0),
    ],
)
def test_constructor_refuses_numbers_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        PoissonMirrorDescent(potential(), **{name: value})


def test_constructor_and_forward_refuse_other_types() -> None:
    with pytest.raises(TypeError, match=r"prior must be a deepinv.optim.Prior.*Shrink"):
        PoissonMirrorDescent(Shrink())
    with pytest.raises(ValueError, match=r"prior must have a value.*PnP.*BurgEntropy"):
        PoissonMirrorDescent(dinv.optim.PnP(Shrink()))
    with pytest.raises(TypeError, match=r"must be a deq.optim.Kullback.*got L2"):
        PoissonMirrorDescent(potential(), data_fidelity=dinv.optim.L2())
    for bounds in (None, 0.5, "ab", (1e-4,)):
        with pytest.raises(TypeError, match=r"bounds must be \(l, u\) with .* got"):
            PoissonMirrorDescent(potential(), bounds=bounds)
    with pytest.raises(TypeError, match=r"bounds.* must be a number, got 'a'"):
        PoissonMirrorDescent(potential(), bounds=("a", "b"))
    model = PoissonMirrorDescent(potential())
    with pytest.raises(TypeError, match=r"must be a deepinv.physics.LinearPhysics"):
        model(torch.ones(1, 1, 4, 4), dinv.physics.Physics())
    with pytest.raises(ValueError, match="y must be nonnegative"):
        model(-torch.ones(1, 1, 4, 4), blur((1, 4, 4)))
