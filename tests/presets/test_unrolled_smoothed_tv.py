"""Unrolled proximal gradient descent with smoothed total variation."""

from __future__ import annotations

from pathlib import Path

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.optim import SmoothedTVPrior
from deepinv_equilibrium.presets import unrolled_smoothed_tv

from ..quiet_trainer import train_for_an_epoch

DOUBLE = torch.float64


def masked() -> dinv.physics.LinearPhysics:
    mask = torch.tensor([[1.0, 0.5, 0.0, 2.0]]).repeat(4, 1).to(DOUBLE)
    return dinv.physics.Inpainting((1, 4, 4), mask=mask[None])


@pytest.mark.parametrize("tied", [True, False])
def test_layers_are_proximal_gradient_steps(tied: bool) -> None:
    taus, weights = ([0.4] * 3, [0.05] * 3) if tied else ([0.4, 0.1, 0.3], [0, 0.2, 1])
    model = unrolled_smoothed_tv(
        3,
        taus[0] if tied else taus,
        weights[0] if tied else weights,
        tied,
        smoothing=0.1,
        trainable_params=[],
    )
    physics, y = masked(), torch.rand(2, 1, 4, 4, dtype=DOUBLE)
    prior, x = SmoothedTVPrior(0.1), physics.A_adjoint(y)
    for tau, weight in zip(taus, weights, strict=True):
        moved = x - tau * physics.A_adjoint(physics.A(x) - y)
        x = prior.prox(moved, gamma=tau * weight)
    torch.testing.assert_close(model(y, physics), x, rtol=0, atol=1e-8)


@pytest.mark.parametrize("tied", [True, False])
def test_model_trains_two_numbers_or_two_for_each_layer(tied: bool) -> None:
    model = deq.plugins.create(
        "reconstructors", "unrolled-smoothed-tv", layers=4, tied=tied
    )
    assert sum(p.numel() for p in model.parameters()) == (2 if tied else 8)
    assert type(model) is deq.optim.PGD


def test_gradients_agree_with_finite_differences() -> None:
    model = unrolled_smoothed_tv(2, 0.4, 0.1, smoothing=0.3).double()
    physics, y = masked(), torch.rand(1, 1, 4, 4, dtype=DOUBLE, requires_grad=True)

    def loss() -> torch.Tensor:
        return model(y, physics).pow(3).sum()

    leaves = [y, *model.parameters()]
    gradients = torch.autograd.grad(loss(), leaves)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        direction = torch.randn_like(leaf)
        values = []
        for step in (1e-4, -2e-4):  # to leaf + h and to leaf - h
            leaf.data.add_(direction, alpha=step)
            values.append(loss().detach())
        leaf.data.add_(direction, alpha=1e-4)
        difference = (values[0] - values[1]) / 2e-4
        assert difference.abs() > 1e-4
        expected = (gradient * direction).sum()
        torch.testing.assert_close(difference, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_are_independent(channels: int) -> None:
    model, physics = unrolled_smoothed_tv(2, 0.8, 0.01), dinv.physics.Denoising()
    y = torch.rand(2, channels, 4, 5, dtype=DOUBLE)
    with torch.no_grad():
        together = model(y, physics)
        alone = torch.cat([model(sample[None], physics) for sample in y])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-8)


def test_saved_model_can_be_loaded(tmp_path: Path) -> None:
    model = unrolled_smoothed_tv(2, [0.3, 0.6], [0.1, 0.2])
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = unrolled_smoothed_tv(2)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert other.params_algo["stepsize"][1].item() == pytest.approx(0.6)
    y, physics = torch.rand(1, 1, 5, 5), dinv.physics.Denoising()
    # Values are the start of a model times an exponential, and round differently.
    torch.testing.assert_close(other.state_dict(), model.state_dict())
    torch.testing.assert_close(
        model(y, physics), other(y, physics), rtol=1e-4, atol=1e-4
    )


def test_training_improves_images_and_changes_every_layer() -> None:
    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    x = (torch.arange(8) >= 4).float().expand(12, 1, 8, 8)
    pairs = [{"x": a, "y": b} for a, b in zip(x, physics(x), strict=True)]
    model = unrolled_smoothed_tv(2, 0.5, 0.01)
    y = physics(x)

    def error() -> float:
        with torch.no_grad():
            return float((model(y, physics) - x).square().mean())

    untrained = error()
    optimizer = torch.optim.Adam(model.parameters(), 0.2)
    train_for_an_epoch(model, physics, optimizer, pairs, batch_size=2)
    assert error() < 0.75 * untrained
    for name, start in (("stepsize", 0.5), ("lambda", 0.01)):
        for value in model.params_algo[name]:
            assert value.item() != pytest.approx(start, rel=1e-3)


def test_preset_raises_for_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="layers must be an integer >= 1, got 0"):
        unrolled_smoothed_tv(0)
    with pytest.raises(ValueError, match=r"stepsize must be one number, .* layers=3"):
        unrolled_smoothed_tv(3, [0.1, 0.2])
    with pytest.raises(ValueError, match=r"lambda_reg must be one .* tied=True"):
        unrolled_smoothed_tv(2, lambda_reg=[0.1, 0.2], tied=True)
    with pytest.raises(TypeError, match="takes no argument 'step_size'"):
        unrolled_smoothed_tv(step_size=1.0)
    with pytest.raises(ValueError, match="smoothing must be positive"):
        unrolled_smoothed_tv(smoothing=0.0)
