from __future__ import annotations

from importlib import resources
from pathlib import Path

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.datasets import Photos
from deepinv_equilibrium.models import ConvexPotentialDenoiser

from ...dense_jacobian import dense_jacobian
from ...one_test import in_one_test
from ...quiet_trainer import train_for_an_epoch
from ..images import psnr, random_noise_map

DOUBLE = {"dtype": torch.float64}
EXACT = {"rtol": 1e-12, "atol": 1e-12}
ROUNDING = 1e-12


def make_denoiser(
    seed: int = 0, in_channels: int = 1, scale: float = 1.0, steps: int = 0, **arguments
) -> ConvexPotentialDenoiser:
    """Return a denoiser with random weights after a few diverging optimiser steps."""
    torch.manual_seed(seed)
    sizes = {"layers": 2, "generators": 1, "kernel_size": 3} | arguments
    denoiser = ConvexPotentialDenoiser(in_channels, pretrained=None, **sizes)
    with torch.no_grad():
        for layer in denoiser.layers:
            layer.generators.mul_(scale)
            layer.log_threshold.add_(torch.randn(()))
            layer.log_exponent.add_(0.3 * torch.randn(()))
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=10.0 ** -seed.bit_count())
    x = torch.rand(1, in_channels, 6, 6)
    for _ in range(steps):
        optimizer.zero_grad()
        denoiser(x, 0.1).square().sum().backward()
        optimizer.step()
    return denoiser.double()


def jacobian(denoiser: torch.nn.Module, x: Tensor, sigma: Tensor | float) -> Tensor:
    return dense_jacobian(lambda x: denoiser(x, sigma), x)


denoisers = st.builds(
    make_denoiser,
    seed=st.integers(0, 10**6),
    in_channels=st.integers(1, 3),
    scale=st.sampled_from([1e-12, 1e-3, 1.0, 1e3, 1e12]),
    steps=st.integers(0, 3),
    firmly_nonexpansive=st.booleans(),
    contraction=st.sampled_from([0.5, 0.9, 0.99, 1.0]),
    layers=st.integers(1, 4),
    kernel_size=st.sampled_from([3, 5]),
)


@settings(max_examples=60)
@given(
    denoiser=denoisers,
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    spread=st.sampled_from([1e-3, 1.0, 1e3]),
    sigma=st.sampled_from([0.0, 1e-3, 0.1, 2.0]),
    mapped=st.booleans(),
)
def test_lipschitz_bound_holds_for_dense_jacobians(
    denoiser: ConvexPotentialDenoiser,
    height: int,
    width: int,
    spread: float,
    sigma: float,
    mapped: bool,
):
    x = spread * torch.randn(1, denoiser.in_channels, height, width, **DOUBLE)
    levels = sigma * random_noise_map(height, height, width) if mapped else sigma
    dense = jacobian(denoiser, x, levels)
    bound = deq.lipschitz(denoiser, x.shape[1:])
    assert bound.is_certified
    assert torch.linalg.matrix_norm(dense, 2) <= bound.value
    assert bound.value <= denoiser.contraction * (1 + ROUNDING) ** 2
    if denoiser.is_firmly_nonexpansive:
        identity = torch.eye(len(dense), **DOUBLE)
        assert torch.linalg.matrix_norm(2 * dense - identity, 2) <= 1 + ROUNDING


@settings(max_examples=60)
@given(
    denoiser=denoisers,
    side=st.integers(1, 8),
    sigma=st.sampled_from([1e-3, 0.1, 2.0]),
)
def test_forward_is_averaged_as_declared_for_random_pairs(
    denoiser: ConvexPotentialDenoiser, side: int, sigma: float
):
    x, z = torch.randn(2, 1, denoiser.in_channels, side, side + 1, **DOUBLE)
    with torch.no_grad():
        moved = denoiser(x, sigma) - denoiser(z, sigma)
    # alpha-averaged: ||Dx - Dz||^2 + (1/alpha - 1) ||(I-D)x - (I-D)z||^2 <= ||x - z||^2
    # with alpha = 1/2 or, for K firmly nonexpansive layers, K / (K + 1).
    excess = (x - z - moved).square().sum()
    alphas = [denoiser.averagedness_bound().value]
    if denoiser.is_firmly_nonexpansive:
        alphas.append(0.5)
    elif denoiser.contraction == 1:
        alphas.append(len(denoiser.layers) / (len(denoiser.layers) + 1))
        assert alphas[0] <= alphas[1] * (1 + 1e-9)
    for alpha in alphas:
        sum_of_squares = moved.square().sum() + (1 / alpha - 1) * excess
        assert sum_of_squares <= (x - z).square().sum() + ROUNDING


@in_one_test("layers", [1, 2])
@in_one_test("firmly_nonexpansive", [False, True])
@in_one_test("relaxation", [1.0, 2.0, 3.0])
def test_declarations_follow_the_layers(
    layers: int, firmly_nonexpansive: bool, relaxation: float
):
    denoiser = make_denoiser(
        3, layers=layers, firmly_nonexpansive=firmly_nonexpansive, scale=10.0
    )
    for layer in denoiser.layers:
        layer.relaxation = relaxation
    w = 0.5 if firmly_nonexpansive else 1.0
    limit = 1 - w + w * max(1.0, relaxation - 1) ** layers
    assert 0.8 * limit < denoiser.lipschitz_bound().value <= limit * (1 + 1e-11)
    firm = (relaxation <= 2) if firmly_nonexpansive else (relaxation * layers <= 1)
    assert denoiser.is_firmly_nonexpansive is firm
    assert (denoiser.averagedness_bound().value <= 1) is (relaxation <= 2)


def test_lipschitz_bound_is_attained():
    # Differences of constants are multiplied by L, so that no smaller bound holds.
    for contraction in (1.0, 0.9):
        denoiser = make_denoiser(contraction=contraction)
        dense = jacobian(denoiser, torch.rand(1, 1, 4, 4, **DOUBLE), 0.1)
        norm = torch.linalg.matrix_norm(dense, 2).item()
        assert denoiser.lipschitz_bound().value == pytest.approx(norm, rel=1e-11)


def test_lipschitz_bound_names_its_source():
    denoiser = make_denoiser(firmly_nonexpansive=True, contraction=0.9)
    assert str(denoiser.lipschitz_bound()) == (
        "<= 0.9 (certified: 2 convex potential layers, averaged with the identity, "
        "contracted by 0.9)"
    )


@pytest.mark.parametrize("firmly_nonexpansive", [False, True])
def test_forward_computes_the_documented_formula(firmly_nonexpansive: bool):
    arguments = {"firmly_nonexpansive": firmly_nonexpansive, "layers": 3}
    denoiser = make_denoiser(1, 2, contraction=0.8, **arguments)
    x = torch.rand(2, 2, 5, 6, **DOUBLE)
    sigma = torch.tensor([0.1, 0.3], **DOUBLE)
    composed = x
    for layer in denoiser.layers:
        assert layer.relaxation == (2 if firmly_nonexpansive else 1)
        composed = layer(composed, sigma[:, None, None, None])
    w = 0.5 if firmly_nonexpansive else 1.0
    expected = 0.5 + 0.8 * ((1 - w) * x + w * composed - 0.5)
    torch.testing.assert_close(denoiser(x, sigma), expected, **EXACT)


def test_forward_does_not_change_mid_grey():
    denoiser = make_denoiser(contraction=0.3)
    grey = torch.full((1, 1, 6, 5), 0.5, **DOUBLE)
    torch.testing.assert_close(denoiser(grey, 0.2), grey, **EXACT)


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (33, 18)])
def test_forward_commutes_with_rotations_reflections_and_constants(
    in_channels: int, size: tuple[int, int]
):
    denoiser = ConvexPotentialDenoiser(in_channels).double()
    x = torch.rand(2, in_channels, *size, **DOUBLE)
    brighter = torch.randn(1, in_channels, 1, 1, **DOUBLE)
    with torch.no_grad():
        denoised = denoiser(x, 0.1)
        assert denoised.shape == x.shape
        for move in (
            lambda x: x.rot90(1, (-2, -1)),
            lambda x: x.flip(-1),
            lambda x: x + brighter,
        ):
            torch.testing.assert_close(denoiser(move(x), 0.1), move(denoised), **EXACT)


def test_forward_accepts_noise_levels_of_all_shapes():
    denoiser = make_denoiser(2, 3)
    x = torch.rand(2, 3, 7, 6, **DOUBLE)
    levels = torch.tensor([0.05, 0.5], **DOUBLE)
    expected = torch.cat([denoiser(x[i : i + 1], levels[i].item()) for i in range(2)])
    for sigma in (levels, levels.reshape(2, 1, 1, 1), levels.float()):
        # 0.05 and the thresholds are rounded to seven digits in float32.
        tolerance = 1e-7 if sigma.dtype == torch.float32 else 1e-14
        torch.testing.assert_close(denoiser(x, sigma), expected, rtol=0, atol=tolerance)
    shared = denoiser(x, 0.05)
    for sigma in (levels[0], levels[:1], levels[:1].reshape(1, 1, 1, 1)):
        torch.testing.assert_close(denoiser(x, sigma), shared, rtol=0, atol=1e-15)
    assert (expected - shared).abs().max() > 1e-3
    # A constant map gives what the number gives, without a rounding error.
    constant = levels[:, None, None, None].expand(2, 1, 7, 6)
    assert torch.equal(denoiser(x, constant), denoiser(x, levels))
    assert torch.equal(denoiser(x, constant[:1]), shared)
    maps = random_noise_map(2, 7, 6, 2)
    expected = torch.cat([denoiser(x[i : i + 1], maps[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(denoiser(x, maps), expected, rtol=0, atol=1e-14)


def test_float32_weights_denoise_float64_images():
    denoiser = make_denoiser(3)
    x = torch.rand(1, 1, 9, 9, **DOUBLE)
    expected = denoiser(x, 0.1)
    out = denoiser.float()(x, 0.1)
    assert out.dtype == torch.float64
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)
    out = denoiser(x.float(), 0.1)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-6)


def test_train_and_eval_mode_are_the_same_map():
    denoiser = make_denoiser(4)
    x = torch.rand(1, 1, 9, 8, **DOUBLE)
    trained = denoiser.train()(x, 0.1)
    with torch.no_grad():
        assert torch.equal(denoiser(x, 0.1), trained)
        assert torch.equal(denoiser.eval()(x, 0.1), trained)


@pytest.mark.parametrize("firmly_nonexpansive", [False, True])
def test_derivatives_agree_with_finite_differences(firmly_nonexpansive: bool):
    denoiser = make_denoiser(
        5, firmly_nonexpansive=firmly_nonexpansive, contraction=0.9
    )
    x = torch.rand(2, 1, 3, 3, **DOUBLE, requires_grad=True)
    sigma = torch.tensor([0.3, 1.0], **DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(denoiser, (x, sigma), fast_mode=True)
    assert torch.autograd.gradgradcheck(denoiser, (x, sigma), fast_mode=True)


def test_loaded_denoiser_computes_as_the_saved_one(tmp_path: Path):
    source = make_denoiser(6, 2, layers=3).float()
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    copy = ConvexPotentialDenoiser(
        2,
        pretrained=tmp_path / "weights.pt",
        layers=3,
        generators=1,
        kernel_size=3,
    )
    x = torch.rand(1, 2, 9, 9)
    assert not copy.training
    with torch.no_grad():
        assert torch.equal(source(x, 0.1), copy(x, 0.1))


def certified_at_every_step(
    model: torch.nn.Module, denoiser: ConvexPotentialDenoiser, lr: float
) -> list[float]:
    """Train for an epoch, check the bounds after each step, and return them."""
    torch.manual_seed(0)
    x = torch.rand(12, 1, 6, 6, **DOUBLE)
    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    y = x + 0.1 * torch.randn_like(x)
    pairs = [{"x": x[i], "y": y[i]} for i in range(len(x))]
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=lr)
    bounds: list[float] = []

    def check(*_) -> None:
        with torch.enable_grad():
            dense = jacobian(denoiser, y[len(bounds)][None], 0.1)
        bound = deq.lipschitz(denoiser)
        assert bound.is_certified
        assert torch.linalg.matrix_norm(dense, 2) <= bound.value
        bounds.append(bound.value)

    optimizer.register_step_post_hook(check)
    train_for_an_epoch(model, physics, optimizer, pairs, batch_size=2)
    return bounds


@pytest.mark.parametrize("lr", [1e-2, 10.0])
def test_bound_holds_after_every_training_step(lr: float):
    denoiser = make_denoiser(7, contraction=0.9)
    before = [p.detach().clone() for p in denoiser.parameters()]
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=1.0,
        sigma_denoiser=0.1,
        trainable_params=[],
        DEQ=deq.Equilibrium(deq.Anderson(), deq.Implicit()),
    )
    bounds = certified_at_every_step(model, denoiser, lr)
    assert len(bounds) == 6
    assert max(bounds) <= 0.9 * (1 + 1e-11)
    for old, new in zip(before, denoiser.parameters(), strict=True):
        assert not torch.equal(old, new)


@in_one_test("in_channels", [1, 3])
@in_one_test("firmly_nonexpansive", [False, True])
def test_bundled_weights_are_small_plain_tensors(
    in_channels: int, firmly_nonexpansive: bool
):
    kind = "firmly_nonexpansive" if firmly_nonexpansive else "averaged"
    colours = "grey" if in_channels == 1 else "colour"
    file = resources.files("deepinv_equilibrium.models.denoisers") / (
        f"weights/convex_potential_{kind}_{colours}.pt"
    )
    with resources.as_file(file) as path:
        assert path.stat().st_size < 32e3
        weights = torch.load(path, weights_only=True)
    denoiser = ConvexPotentialDenoiser(in_channels, firmly_nonexpansive)
    assert weights.keys() == denoiser.state_dict().keys()
    assert not denoiser.training
    assert sum(p.numel() for p in denoiser.parameters()) == 8 * (100 * in_channels + 2)


@pytest.mark.parametrize(
    ("grey", "arguments", "gains"),
    [
        (True, {}, {15: 3.2, 25: 4.2}),
        (True, {"contraction": 0.99}, {15: 3.0, 25: 4.1}),
        (True, {"firmly_nonexpansive": True}, {15: 2.5, 25: 3.6}),
        (False, {}, {15: 6.5, 25: 7.6}),
        (False, {"contraction": 0.99}, {15: 6.3, 25: 7.4}),
        (False, {"firmly_nonexpansive": True}, {15: 5.4, 25: 6.4}),
    ],
)
def test_bundled_weights_denoise_every_held_out_photo(
    grey: bool, arguments: dict[str, float], gains: dict[int, float]
):
    denoiser = ConvexPotentialDenoiser(1 if grey else 3, **arguments)
    torch.manual_seed(0)
    for sample in Photos("test", grey=grey, img_size=128):
        x = sample["x"][None]
        for level, gain in gains.items():
            y = x + level / 255 * torch.randn_like(x)
            with torch.no_grad():
                assert psnr(denoiser(y, level / 255), x) > psnr(y, x) + gain


def test_constructor_raises_for_channels_without_bundled_weights():
    with pytest.raises(ValueError, match=r"in_channels must be 1 .* got 2"):
        ConvexPotentialDenoiser(in_channels=2)


@in_one_test(
    ("arguments", "message"),
    [
        ({"contraction": 0.0}, r"contraction must be in \(0, 1\], got 0.0"),
        ({"contraction": 1.1}, r"contraction must be in \(0, 1\], got 1.1"),
        ({"contraction": float("nan")}, "contraction must be in"),
        ({"layers": 0}, "layers must be an integer >= 1, got 0"),
    ],
)
def test_constructor_raises_for_bad_arguments(
    arguments: dict[str, float], message: str
):
    with pytest.raises(ValueError, match=message):
        ConvexPotentialDenoiser(pretrained=None, **arguments)
    with pytest.raises(TypeError, match="contraction must be a number, got 'a'"):
        ConvexPotentialDenoiser(pretrained=None, contraction="a")


def test_forward_raises_for_bad_images_and_noise_levels():
    denoiser = ConvexPotentialDenoiser(pretrained=None)
    with pytest.raises(ValueError, match=r"x must be .* \(B, 3, H, W\), got"):
        denoiser(torch.rand(1, 1, 8, 8), 0.1)
    with pytest.raises(ValueError, match=r"sigma must be .* \(2, 1, 1, 1\)"):
        denoiser(torch.rand(2, 3, 8, 8), torch.full((3,), 0.1))
