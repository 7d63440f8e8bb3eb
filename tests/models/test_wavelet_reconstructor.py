"""WaveletReconstructor: minimiser, gradients and checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import WaveletReconstructor
from deepinv_equilibrium.optim import WeightedWaveletPrior

from ..quiet_trainer import train_for_an_epoch

DOUBLE = torch.float64
MINIMISER = deq.Equilibrium(
    deq.Anderson(max_iter=5000, rtol=1e-12), deq.Implicit(deq.GMRES(rtol=1e-11))
)
CONFIGURATIONS: dict[str, deq.Equilibrium] = {
    "ReTune": deq.ReTune(3, 4),
    "implicit": deq.Equilibrium(deq.Anderson(max_iter=500)),
    "Jacobian-free": deq.Equilibrium(deq.Anderson(max_iter=500), deq.JacobianFree()),
}


def make_model(
    channels: int | None = 3,
    config: deq.Equilibrium = MINIMISER,
    stepsize: Any = 1.95,
    normalised: bool = False,
) -> WaveletReconstructor:
    prior = WeightedWaveletPrior(channels, levels=2, initial_weight=0.3)
    with torch.no_grad():
        prior.log_scale.add_(0.3 * torch.randn_like(prior.log_scale))
        prior.log_band.normal_(0, 0.5)
    return WaveletReconstructor(prior, config, stepsize, normalised)


def blur() -> dinv.physics.Blur:
    kernel = torch.tensor([[0.0, 0.1, 0.02], [0.05, 0.7, 0.1], [0.0, 0.03, 0.0]])
    return dinv.physics.Blur(filter=kernel[None, None].double(), padding="circular")


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("stepsize", [1.95, "optimal", 1.0])
@pytest.mark.parametrize("channels", [None, 3])
def test_image_and_gradients_agree_with_the_proximal_operator_for_denoising(
    channels: int | None, stepsize: Any, normalised: bool
) -> None:
    """The gradients in the weights include the part from the output of the step."""
    model = make_model(channels, MINIMISER, stepsize, normalised).double()
    y = torch.rand(2, 3, 9, 12, dtype=DOUBLE, requires_grad=True)
    weight = torch.randn_like(y)
    inputs = [y, *model.parameters()]
    x = model(y, dinv.physics.Denoising())
    expected = model.prior.prox(y)
    assert (expected - y).norm() > 1
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-9)
    got = torch.autograd.grad((weight * x).sum(), inputs)
    truth = torch.autograd.grad((weight * expected).sum(), inputs)
    for ours, exact in zip(got, truth, strict=True):
        assert exact.norm() > 0
        assert (ours - exact).norm() <= 1e-7 * exact.norm()


@pytest.mark.parametrize("normalised", [False, True])
def test_minimiser_agrees_with_proximal_gradient_descent_on_images(
    normalised: bool,
) -> None:
    model, physics = make_model(normalised=normalised).double(), blur()
    y = torch.rand(2, 3, 7, 6, dtype=DOUBLE)
    on_images = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=model.prior,
        stepsize=1.0,
        trainable_params=[],
        DEQ=deq.Equilibrium(deq.Anderson(max_iter=5000, rtol=1e-13)),
    ).double()
    with torch.no_grad():
        torch.testing.assert_close(
            model(y, physics), on_images(y, physics), rtol=0, atol=1e-8
        )


def test_gradient_agrees_with_finite_differences() -> None:
    model, physics = make_model(normalised=True).double(), blur()
    physics.filter.requires_grad_()
    y = torch.rand(1, 3, 4, 5, dtype=DOUBLE, requires_grad=True)
    weight = torch.randn_like(y)
    inputs = [y, physics.filter, *model.parameters()]

    def loss() -> Tensor:
        return (weight * model(y, physics)).sum()

    for tensor, gradient in zip(
        inputs, torch.autograd.grad(loss(), inputs), strict=True
    ):
        direction, values = torch.randn_like(tensor), []
        for sign in (1, -1):
            with torch.no_grad():
                tensor += sign * 1e-5 * direction
                values.append(loss().item())
                tensor -= sign * 1e-5 * direction
        slope = (values[0] - values[1]) / 2e-5
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


UNROLLED = deq.Equilibrium(deq.Picard(max_iter=3, rtol=0.0), deq.Unrolled())


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("stepsize", [1.95, "optimal"])
@pytest.mark.parametrize("config", [deq.ReTune(1, 1), deq.ReTune(3, 1), UNROLLED])
def test_gradient_of_few_iterations_agrees_with_finite_differences(
    config: deq.Equilibrium, stepsize: Any, normalised: bool
) -> None:
    """The step size, the thresholds and the scaling depend on the weights."""
    for physics in (dinv.physics.Denoising(), blur()):
        model = make_model(3, config, stepsize, normalised).double()
        y = torch.rand(1, 3, 8, 6, dtype=DOUBLE)
        weight = torch.randn_like(y)

        def loss(
            model: WaveletReconstructor = model,
            y: Tensor = y,
            weight: Tensor = weight,
            physics: dinv.physics.LinearPhysics = physics,
        ) -> Tensor:
            return (weight * model(y, physics)).sum()

        parameters = list(model.parameters())
        got = torch.autograd.grad(loss(), parameters)
        for p, gradient in zip(parameters, got, strict=True):
            direction, values = torch.randn_like(p), []
            with torch.no_grad():
                for sign in (1, -1):
                    p += sign * 1e-6 * direction
                    values.append(loss().item())
                    p -= sign * 1e-6 * direction
            slope = (values[0] - values[1]) / 2e-6
            assert slope == pytest.approx(
                float((gradient * direction).sum()), rel=1e-5, abs=1e-7
            )


def test_iteration_is_equation_51_of_the_paper() -> None:
    """The iteration starts from u = D y."""
    model = make_model(3, deq.ReTune(1, 1)).double()
    y = torch.rand(1, 3, 16, 12, dtype=DOUBLE)
    got = model(y, dinv.physics.Denoising())
    _, *data = model.prior.transform.analysis(y)
    theta = model.prior.weights(y)
    tau = 1.95 * min(t.min() for t in theta) ** 2
    expected = []
    for z, t in zip(data, theta, strict=True):
        u = z - tau * (z / t - z) / t
        norm = u.square().sum((1, 2), keepdim=True).sqrt()
        expected.append(u * (1 - tau / norm).clamp_min(0) / t)
    approximation = model.prior.transform.analysis(y)[0]
    image = model.prior.transform.synthesis((approximation, *expected), (16, 12))
    torch.testing.assert_close(got, image)


@pytest.mark.parametrize("shape", [(3, 1, 9, 7), (2, 3, 8, 12), (1, 3, 1, 5)])
@pytest.mark.parametrize("mode", CONFIGURATIONS)
def test_samples_are_independent_and_single_precision_is_accurate(
    mode: str, shape: tuple[int, ...]
) -> None:
    model = make_model(None, CONFIGURATIONS[mode], normalised=True)
    y = torch.rand(shape)
    x = model(y, dinv.physics.Denoising())
    x.square().sum().backward()
    assert x.shape == shape
    assert x.dtype == torch.float32
    for p in model.parameters():
        assert p.grad is not None
        assert bool(p.grad.isfinite().all())
        assert bool(p.grad.any())
    assert model.train()(y, dinv.physics.Denoising()).equal(x)
    double = model.double()
    together = double(y.double(), dinv.physics.Denoising())
    torch.testing.assert_close(x.double(), together, rtol=0, atol=1e-3)
    for k in range(len(y)):
        alone = double(y[k : k + 1].double(), dinv.physics.Denoising())
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", CONFIGURATIONS)
def test_model_trains_saves_and_loads(mode: str, tmp_path: Path) -> None:
    model = deq.plugins.create(
        "reconstructors", "wavelet", channels=3, levels=2, DEQ=CONFIGURATIONS[mode]
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    pairs = [
        {"x": x, "y": x + 0.1 * torch.randn_like(x)} for x in torch.rand(4, 3, 8, 8)
    ]
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-2)
    train_for_an_epoch(model, dinv.physics.Denoising(), optimizer, pairs, 2)
    for name, p in model.named_parameters():
        assert bool((p != before[name]).all())
        assert bool(p.isfinite().all())
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other = deq.plugins.create(
        "reconstructors", "wavelet", channels=3, levels=2, DEQ=CONFIGURATIONS[mode]
    )
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    y = torch.rand(1, 3, 9, 8)
    physics = dinv.physics.Denoising()
    assert other(y, physics).equal(model(y, physics))


@pytest.mark.parametrize("weight", [1e-2, 3.0, 100.0])
def test_iterations_converge_for_small_and_large_weights(weight: float) -> None:
    """For weights above 1, the scaling of the approximation determines L."""
    config = deq.Equilibrium(deq.Picard(max_iter=1000, rtol=1e-8))
    prior = WeightedWaveletPrior(levels=2, initial_weight=weight).double()
    model, y = WaveletReconstructor(prior, config), torch.rand(1, 1, 8, 8, dtype=DOUBLE)
    x = model(y, dinv.physics.Denoising())
    torch.testing.assert_close(x, prior.prox(y), rtol=0, atol=1e-6)


def test_constructor_and_call_raise_for_wrong_arguments() -> None:
    prior, config = WeightedWaveletPrior(3), deq.ReTune(2, 2)
    with pytest.raises(TypeError, match="prior must be a WeightedWaveletPrior"):
        WaveletReconstructor(dinv.optim.L1Prior(), config)
    with pytest.raises(TypeError, match="DEQ must be"):
        WaveletReconstructor(prior, True)
    for stepsize in (0.0, 2.0, "best"):
        with pytest.raises(ValueError, match=r"must be between 0 and 2, or 'optimal'"):
            WaveletReconstructor(prior, config, stepsize)
    model, physics = WaveletReconstructor(prior, config), dinv.physics.Denoising()
    y = torch.rand(1, 3, 8, 8)
    with pytest.raises(TypeError, match="takes no argument 'sigma'"):
        model(y, physics, sigma=1.0)
    with pytest.raises(TypeError, match="physics must be a deepinv LinearPhysics"):
        model(y, dinv.physics.Physics(A=torch.tanh))
    with pytest.raises(ValueError, match="has weights for channels=3"):
        model(y[:, :1], physics)
    with pytest.raises(ValueError, match=r"\(B, C, H, W\)"):
        model(y[:, :, None], physics)
    mask = torch.ones(3, 8, 8)
    mask[:, 2] = 0
    holes = dinv.physics.Inpainting((3, 8, 8), mask=mask)
    with pytest.raises(ValueError, match="a positive lower end"):
        WaveletReconstructor(prior, config, "optimal")(y, holes)
