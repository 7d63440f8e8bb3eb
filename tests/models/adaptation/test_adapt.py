"""Adaptation: minimisers in closed form, stopping, and unchanged arguments."""

from __future__ import annotations

import copy
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.models import Reconstructor
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import AdaptationStatus

from ...one_test import in_one_test
from ..operators import DOUBLE, Gain, Scaling, gaussian_blur


def converge(model: Reconstructor, y: Tensor, physics: Any, **arguments: Any) -> Any:
    """Adapt until convergence, without the discrepancy principle."""
    arguments = {"lr": 1e-2, "max_steps": 3000, "rtol": 1e-6, **arguments}
    return deq.adapt(model, y, physics, noise_level=0, **arguments)


def test_adapt_returns_the_minimiser_in_closed_form() -> None:
    y = torch.randn(2, 3, 4, 5, dtype=DOUBLE)
    mu, start = 0.2, torch.tensor([0.5, 0.8, 1.2], dtype=DOUBLE)
    adapted = converge(Gain(*start.tolist()), y, dinv.physics.Denoising(), weight=mu)
    # The data term is a mean over three channels.
    energy = y.square().mean(dim=(0, 2, 3)) / 3
    expected = (energy + mu * start) / (energy + mu)
    assert adapted.status is AdaptationStatus.CONVERGED
    got = adapted.model.gain.flatten()
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert adapted.penalty[adapted.kept] == pytest.approx(
        float((expected - start).square().sum()), rel=1e-4
    )
    residual = y - adapted.model(y, adapted.physics)
    assert adapted.discrepancy[adapted.kept] == pytest.approx(
        residual.square().mean().item(), rel=1e-9
    )


@pytest.mark.parametrize("learned", [False, True])
def test_adapt_returns_the_operator_in_closed_form(learned: bool) -> None:
    """With fixed weights of the model, the objective is quadratic in the scale."""
    y = torch.randn(2, 1, 4, 5, dtype=DOUBLE)
    physics = Scaling(1.0, learned)
    model = FixedGain(0.5)
    adapted = converge(
        model,
        y,
        physics,
        weight=1e6,
        lr=1e-9,
        rtol=1e-4,
        physics_parameters=["scale"],
        physics_weight=0.1,
    )
    energy = float(y.square().mean())
    expected = (0.5 * energy + 0.1) / (0.25 * energy + 0.1)
    assert adapted.physics.scale.item() == pytest.approx(expected, abs=1e-5)
    assert adapted.physics_penalty[adapted.kept] == pytest.approx(
        (expected - 1) ** 2, rel=1e-4
    )
    assert isinstance(adapted.physics.scale, nn.Parameter) == learned
    assert physics.scale.item() == 1.0
    assert adapted.physics.scale.grad is None
    assert not adapted.physics.A(y).requires_grad or learned


class FixedGain(Gain):
    """A gain that does not use the operator."""

    def forward(self, y: Tensor, physics: Any, **kwargs: Any) -> Tensor:
        return self.gain.to(y.dtype) * y


@settings(max_examples=10)
@given(
    st.floats(1e-3, 10.0),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([0.01, 100.0]),
)
def test_minimiser_does_not_depend_on_batch_and_image_size(
    weight: float, copies: int, tiles: int, lr: float
) -> None:
    y = torch.tensor([[[[0.3, -1.0], [0.2, 0.7]]]], dtype=DOUBLE)
    larger = y.repeat(copies, 1, tiles, 1)
    gains = [
        deq.adapt(
            Gain(0.4),
            measured,
            dinv.physics.Denoising(),
            weight=weight,
            lr=lr,
            noise_level=0,
            max_steps=5,
            rtol=0,
        ).model.gain.item()
        for measured in (y, larger)
    ]
    assert gains[0] == pytest.approx(gains[1], rel=1e-10)


def test_adapt_stops_at_the_noise_level() -> None:
    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    y = torch.rand(2, 1, 8, 8, dtype=DOUBLE) + 1
    adapted = deq.adapt(Gain(0.5), y, physics, weight=1e-4, tau=1.5, lr=1e-2)
    assert adapted.status is AdaptationStatus.NOISE_LEVEL
    assert adapted.target == pytest.approx(0.15**2)
    assert adapted.kept == adapted.steps > 0
    assert adapted.discrepancy[-1] <= adapted.target < adapted.discrepancy[-2]

    # Noise levels of samples act through their mean square; that of physics is ignored.
    each = torch.tensor([0.0, 0.3])
    other = deq.adapt(Gain(0.5), y, physics, weight=1e-4, noise_level=each, lr=1e-2)
    assert other.target == pytest.approx(1.1**2 * 0.3**2 / 2)
    assert other.steps < adapted.steps
    # A model whose discrepancy is below the noise level is not changed.
    same = deq.adapt(Gain(0.99), y, physics, weight=1e-4)
    assert (same.steps, same.status.name) == (0, "NOISE_LEVEL")
    assert same.model.gain.item() == 0.99


def test_adapt_without_noise_level_does_not_stop_early() -> None:
    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    y = torch.rand(1, 1, 8, 8, dtype=DOUBLE) + 1
    free = converge(Gain(0.5), y, physics, weight=0.0)  # noise_level=0
    assert (free.target, free.status.name) == (None, "CONVERGED")
    assert free.discrepancy[free.kept] < 1e-6
    poisson = dinv.physics.Denoising(dinv.physics.PoissonNoise(0.1))
    assert deq.adapt(Gain(0.5), y, poisson, weight=1.0, lr=1e-2).target is None


def test_adapt_stops_after_max_steps() -> None:
    y, physics = torch.ones(1, 1, 4, 4, dtype=DOUBLE), dinv.physics.Denoising()
    spent = deq.adapt(
        Gain(0.5), y, physics, weight=0, max_steps=7, rtol=0, noise_level=0
    )
    assert (spent.status.name, spent.steps, spent.kept) == ("COMPLETED", 7, 7)
    assert len(spent.discrepancy) == len(spent.penalty) == 8
    assert spent.penalty[0] == 0
    with pytest.warns(deq.ConvergenceWarning, match="MAX_STEPS.*raise max_steps"):
        cut = deq.adapt(
            Gain(0.5), y, physics, weight=0, max_steps=7, rtol=0, noise_level=1e-3
        )
    assert cut.status is AdaptationStatus.MAX_STEPS


def test_adapt_returns_the_best_finite_weights() -> None:
    y, physics = torch.ones(1, 1, 4, 4, dtype=DOUBLE), dinv.physics.Denoising()
    with pytest.warns(deq.ConvergenceWarning, match="NONFINITE.*reduce lr"):
        burst = deq.adapt(Gain(0.5), y, physics, weight=0, lr=1e200)
    assert burst.status is AdaptationStatus.NONFINITE
    assert (burst.model.gain.item(), burst.kept) == (0.5, 0)
    # The steps overshoot, and the smallest objective is not the last one.
    swinging = deq.adapt(Gain(0.5), y, physics, weight=0, lr=0.2, rtol=0, max_steps=20)
    assert swinging.kept == int(swinging.discrepancy.argmin()) < 20
    gain = swinging.model.gain.item()
    assert swinging.discrepancy[swinging.kept] == pytest.approx((1 - gain) ** 2)


def test_adapt_does_not_change_model_and_physics() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    network[0].requires_grad_(False)
    model = AnyNetwork(network).double()
    model.network[2].eval()
    physics = gaussian_blur((1, 8, 8), 1.0, 0.1)
    y = physics(torch.rand(2, 1, 8, 8, dtype=DOUBLE))
    model(y, physics).sum().backward()
    before = copy.deepcopy(model.state_dict()), copy.deepcopy(physics.state_dict())
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    noise = physics.noise_model.rng.get_state()
    with torch.no_grad():
        adapted = deq.adapt(
            model, y, physics, weight=0, physics_parameters=["filter"], max_steps=30,
            noise_level=0, rtol=0,
        )  # fmt: skip
    for was, now in zip(before, (model, physics), strict=True):
        assert all(torch.equal(was[k], v) for k, v in now.state_dict().items())
    for grad, p in zip(grads, model.parameters(), strict=True):
        assert (grad is None) == (p.grad is None)
        assert grad is None or torch.equal(grad, p.grad)
    assert torch.equal(physics.noise_model.rng.get_state(), noise)
    assert not physics.filter.requires_grad

    changed = adapted.model
    assert changed.training
    assert not changed.network[2].training
    for p, q in zip(model.parameters(), changed.parameters(), strict=True):
        assert p.requires_grad == q.requires_grad
        assert q.grad is None
        assert torch.equal(p, q) != p.requires_grad
    assert not torch.equal(adapted.physics.filter, physics.filter)
    assert not adapted.physics.filter.requires_grad
    # The adapted operator uses the adapted parameters.
    again = dinv.physics.BlurFFT((1, 8, 8), adapted.physics.filter)
    torch.testing.assert_close(adapted.physics.A(y), again.A(y))


class AnyNetwork(Reconstructor):
    """A network applied to the adjoint of the measurement."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, y: Tensor, physics: Any, **kwargs: Any) -> Tensor:
        return self.network(physics.A_adjoint(y))


def denoiser(channels: int) -> nn.Module:
    return dinv.models.DnCNN(channels, channels, depth=3, nf=4, pretrained=None)


def unrolled(channels: int) -> Reconstructor:
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser(channels)),
        stepsize=0.5,
        sigma_denoiser=0.1,
        max_iter=3,
        unfold=True,
        trainable_params=["stepsize"],
    )


def contraction(channels: int) -> nn.Module:
    return deq.models.ConvexPotentialDenoiser(
        in_channels=channels, pretrained=None, layers=1, generators=1, kernel_size=3,
        contraction=0.9,
    )  # fmt: skip


MODELS = {
    "unrolled": unrolled,
    "retune-pgd": lambda channels: deq.plugins.create(
        "reconstructors",
        "retune-pgd",
        denoiser=contraction(channels),
        layers=2,
        restarts=2,
    ),
    "deq-pgd": lambda channels: deq.plugins.create(
        "reconstructors", "deq-pgd", denoiser=contraction(channels)
    ),
    "tv-map": lambda channels: deq.models.TVMapReconstructor(
        deq.models.UNetTVMap(channels, (0, 0), filters=2, depth=2), max_iter=4
    ),
    "unet": lambda channels: dinv.models.ArtifactRemoval(
        dinv.models.UNet(channels, channels, scales=2, batch_norm=False)
    ),
}


@pytest.mark.parametrize("name", [*MODELS])
@pytest.mark.parametrize("channels", [1, 3])
def test_adapt_reduces_the_discrepancy_of_every_model(name: str, channels: int) -> None:
    model = MODELS[name](channels).double()
    physics = gaussian_blur((channels, 8, 8), 1.0)
    y = physics(torch.rand(2, channels, 8, 8, dtype=DOUBLE))
    adapted = deq.adapt(
        model, y, physics, weight=0, noise_level=0, lr=1e-6, max_steps=3, rtol=0
    )
    assert bool((adapted.discrepancy.diff() < 0).all())
    with torch.no_grad():
        x = adapted.model(y, adapted.physics)
        residual = (y - adapted.physics.A(x)).square().mean()
    assert residual.item() == pytest.approx(adapted.discrepancy[-1].item(), rel=1e-3)
    assert x.dtype == DOUBLE
    # The adapted model can be saved.
    other = MODELS[name](channels).double()
    other.load_state_dict(adapted.model.state_dict())
    torch.testing.assert_close(other(y, adapted.physics).detach(), x)


def test_adapt_accepts_complex_measurements() -> None:
    y = torch.randn(2, 1, 4, 4, dtype=torch.complex128)
    adapted = converge(Gain(0.5), y, dinv.physics.Denoising(), weight=0.3)
    energy = float(y.abs().square().mean())
    expected = (energy + 0.3 * 0.5) / (energy + 0.3)
    assert adapted.model.gain.item() == pytest.approx(expected, abs=1e-5)


class Blind(Gain):
    """A model that detaches its output from its weights."""

    def forward(self, y: Tensor, physics: Any, **kwargs: Any) -> Tensor:
        return super().forward(y, physics).detach() + 0 * y.requires_grad_()


def frozen() -> Gain:
    return Gain(0.5).requires_grad_(False)


@in_one_test(
    ("changed", "error", "match"),
    [
        ({"model": nn.Identity()}, TypeError, "model must be .*Reconstructor"),
        ({"model": frozen()}, ValueError, r"Gain.*no weights.*requires_grad_\(True\)"),
        ({"model": Blind(0.5)}, ValueError, "Blind.*not differentiable.*no_grad"),
        ({"physics": None}, TypeError, "physics must be .*NoneType"),
        ({"y": [1.0]}, TypeError, r"y must be a torch\.Tensor.* got list"),
        ({"y": torch.full((1, 1, 2, 2), torch.nan)}, ValueError, "y has NaN"),
        ({"weight": -1.0}, ValueError, r"weight must be in \[0, inf\), got -1.0"),
        ({"weight": "1"}, TypeError, "weight must be a number, got '1'"),
        ({"physics_weight": torch.inf}, ValueError, "physics_weight must be"),
        ({"rtol": -1e-3}, ValueError, r"rtol must be in \[0, inf\)"),
        ({"tau": 0}, ValueError, r"tau must be in \(0, inf\), got 0"),
        ({"lr": 0.0}, ValueError, r"lr must be in \(0, inf\)"),
        ({"physics_lr": torch.nan}, ValueError, r"physics_lr must be in \(0, inf\)"),
        ({"max_steps": 0}, ValueError, "max_steps must be an integer >= 1"),
        ({"noise_level": -0.1}, ValueError, "noise_level must be nonnegative.*off"),
        ({"noise_level": torch.ones(5)}, ValueError, "each of the 2 samples, got 5"),
        ({"physics_parameters": "scale"}, TypeError, "'scale'; put it in a list"),
        ({"physics_parameters": [3]}, TypeError, "must be names, .* got 3"),
        ({"physics_parameters": 3}, TypeError, "a list of names, got 3"),
        ({"physics_parameters": ["scal"]}, ValueError, "did you mean 'scale'"),
        ({"physics_parameters": ["unused"]}, ValueError, "'unused'.*differentiably"),
        ({"steps": 3}, TypeError, "steps"),
    ],
)
def test_adapt_raises_for_bad_input(
    changed: dict[str, Any], error: type[Exception], match: str
) -> None:
    arguments = {
        "model": Gain(0.5),
        "y": torch.ones(2, 1, 4, 4, dtype=DOUBLE),
        "physics": Scaling(1.0),
        "weight": 1.0,
    }
    with pytest.raises(error, match=match):
        deq.adapt(**{**arguments, **changed})


class Normalised(Reconstructor):
    """A model with statistics that each forward pass in train mode changes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, dtype=DOUBLE)

    def forward(self, y: Tensor, physics: Any, **kwargs: Any) -> Tensor:
        return self.norm(y)


@pytest.mark.parametrize("worse", [True, False])
def test_adapt_returns_the_buffers_of_the_returned_weights(worse: bool) -> None:
    y = torch.randn(2, 1, 4, 5, dtype=DOUBLE)
    model = Normalised().train()
    lr = 1e3 if worse else 1e-3
    adapted = deq.adapt(
        model, y, dinv.physics.Denoising(), 0.0, lr=lr, rtol=0, max_steps=3,
        noise_level=0,
    )  # fmt: skip
    assert adapted.kept == (0 if worse else 3)
    own = adapted.model.norm
    assert own.num_batches_tracked == adapted.kept
    if worse:
        assert torch.equal(own.running_mean, model.norm.running_mean)
    assert model.norm.num_batches_tracked == 0
    # One more forward pass repeats the evaluation of the returned weights.
    residual = y - adapted.model(y, adapted.physics)
    assert residual.square().mean().item() == adapted.discrepancy[adapted.kept]


def test_adapt_works_in_inference_mode() -> None:
    with torch.inference_mode():
        y = torch.randn(2, 1, 4, 5).double()
        model = Gain(0.5)
        adapted = converge(
            model, y, Scaling(1.0), weight=0.2, max_steps=5, rtol=0,
            physics_parameters=["scale"], physics_weight=0.1,
        )  # fmt: skip
    assert adapted.kept == 5
    assert not adapted.model.gain.is_inference()
    assert adapted.model.gain.item() != 0.5
