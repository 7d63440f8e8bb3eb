from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import torch
from deepinv.models import DRUNet
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import pad

from deepinv_equilibrium.datasets import Photos
from deepinv_equilibrium.models import SmallDRUNet
from deepinv_equilibrium.physics import ChannelwiseBlur

from ..images import psnr

DOUBLE = {"dtype": torch.float64}
EXACT = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture(scope="module")
def denoiser() -> SmallDRUNet:
    return SmallDRUNet().double()


def test_bundled_weights_are_small_plain_tensors_in_half_precision():
    folder = resources.files("deepinv_equilibrium.models.denoisers")
    file = folder / "weights/small_drunet.pt"
    with resources.as_file(file) as path:
        assert path.stat().st_size < 1.25e6
        weights = torch.load(path, weights_only=True)
    assert {w.dtype for w in weights.values()} == {torch.float16}
    assert sum(w.numel() for w in weights.values()) == 575_472


@pytest.mark.parametrize(
    ("grey", "sigma", "gain"),
    [
        (False, 0.025, 4.0),
        (False, 0.05, 6.2),
        (False, 0.1, 7.9),
        (False, 0.2, 9.7),
        (True, 0.025, 1.2),
        (True, 0.05, 2.6),
        (True, 0.1, 4.9),
        (True, 0.2, 6.7),
    ],
)
def test_bundled_weights_denoise_every_held_out_photo(
    grey: bool, sigma: float, gain: float
):
    denoiser = SmallDRUNet(in_channels=1 if grey else 3)
    for sample in Photos("test", grey=grey, img_size=160):
        x = sample["x"][None]
        y = x + sigma * torch.randn_like(x)
        with torch.no_grad():
            assert psnr(denoiser(y, sigma), x) > psnr(y, x) + gain


def test_forward_computes_as_the_network_of_deepinv(denoiser: SmallDRUNet):
    theirs = DRUNet(nc=(16, 32, 64, 128), nb=1, pretrained=None).double()
    theirs.load_state_dict(denoiser.state_dict())
    x = torch.rand(2, 3, 32, 40, **DOUBLE)
    sigma = torch.tensor([0.05, 0.2], **DOUBLE)
    assert torch.equal(denoiser(x, sigma), theirs(x, sigma))


@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_forward_extends_images_to_a_multiple_of_eight(
    denoiser: SmallDRUNet, height: int, width: int
):
    generator = torch.Generator().manual_seed(41 * height + width)
    x = torch.rand(1, 3, height, width, generator=generator, **DOUBLE)
    extended = pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
    with torch.no_grad():
        expected = denoiser(extended, 0.1)[..., :height, :width]
        assert torch.equal(denoiser(x, 0.1), expected)


def test_train_and_eval_mode_are_the_same_map(denoiser: SmallDRUNet):
    x = torch.rand(1, 3, 67, 70, **DOUBLE)
    with torch.no_grad():
        evaluated = denoiser.eval()(x, 0.1)
        trained = denoiser.train()(x, 0.1)
    denoiser.eval()
    assert torch.equal(evaluated, trained)


def test_noise_levels_of_all_shapes_agree(denoiser: SmallDRUNet):
    x = torch.rand(2, 3, 19, 24, **DOUBLE)
    levels = torch.tensor([0.05, 0.15], **DOUBLE)
    with torch.no_grad():
        expected = torch.cat(
            [denoiser(x[i : i + 1], levels[i].item()) for i in range(2)]
        )
        for sigma in (
            levels,
            levels[:, None, None, None],
            levels[:, None, None, None].expand(2, 1, 19, 24),
        ):
            torch.testing.assert_close(denoiser(x, sigma), expected, **EXACT)
        shared = denoiser(x, torch.tensor(0.1, **DOUBLE))
        torch.testing.assert_close(denoiser(x, 0.1), shared, rtol=0, atol=0)


def test_noise_level_map_acts_locally(denoiser: SmallDRUNet):
    x = torch.rand(1, 3, 16, 160, **DOUBLE)
    sigma = torch.full((1, 1, 16, 160), 0.05, **DOUBLE)
    sigma[..., 144:] = 0.2
    with torch.no_grad():
        change = (denoiser(x, sigma) - denoiser(x, 0.05)).abs().amax((0, 1, 2))
    assert change[144:].max() > 1e-2
    assert change[:16].max() == 0


def test_forward_scales_with_image_and_noise_level(denoiser: SmallDRUNet):
    x = torch.rand(1, 3, 16, 16, **DOUBLE)
    with torch.no_grad():
        scaled = denoiser(1e-3 * x, 1e-4)
        torch.testing.assert_close(scaled, 1e-3 * denoiser(x, 0.1), rtol=1e-9, atol=0)


def test_gradients_satisfy_the_identity_of_euler(denoiser: SmallDRUNet):
    # Without biases, D(x, sigma) is homogeneous of degree one, so that its derivative
    # along (x, sigma) is D. Finite differences would cross kinks.
    x = torch.rand(2, 3, 9, 11, **DOUBLE, requires_grad=True)
    sigma = torch.tensor([0.05, 0.1], **DOUBLE, requires_grad=True)
    weights = torch.randn(2, 3, 9, 11, **DOUBLE)
    weighted = weights * denoiser(x, sigma)
    along_x, along_sigma = torch.autograd.grad(weighted.sum(), (x, sigma))
    derivative = (along_x * x).flatten(1).sum(1) + along_sigma * sigma
    torch.testing.assert_close(derivative, weighted.flatten(1).sum(1), **EXACT)
    assert along_sigma.abs().min() > 1e-3


def test_plug_and_play_iteration_converges():
    sigma, stepsize = 0.03, 1.8
    denoiser, physics = SmallDRUNet(), ChannelwiseBlur()
    truth = torch.stack([s["x"] for s in Photos("test", img_size=32)])
    y = physics(truth) + 0.05 * torch.randn_like(truth)
    x = physics.A_adjoint(y)
    with torch.no_grad():
        for _ in range(200):
            previous = x
            gradient = physics.A_adjoint_A(x) - physics.A_adjoint(y)
            x = denoiser(x - stepsize * gradient, sigma)
    change = (x - previous).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)
    assert change.max() < 2e-5


def test_grey_network_is_the_mean_over_the_colours(denoiser: SmallDRUNet):
    grey = SmallDRUNet(in_channels=1).double()
    x = torch.rand(2, 1, 21, 16, **DOUBLE)
    with torch.no_grad():
        expected = denoiser(x.expand(-1, 3, -1, -1), 0.1).mean(1, keepdim=True)
        # The folded weights were summed in float32.
        torch.testing.assert_close(grey(x, 0.1), expected, rtol=0, atol=1e-6)


def test_constructor_loads_weights_from_a_file(tmp_path: Path, denoiser: SmallDRUNet):
    torch.manual_seed(1)
    source = SmallDRUNet(in_channels=2, pretrained=None)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    copy = SmallDRUNet(in_channels=2, pretrained=tmp_path / "weights.pt")
    x = torch.rand(1, 2, 16, 16)
    assert not copy.training
    assert torch.equal(source(x, 0.1), copy(x, 0.1))


def test_weights_are_cast_to_the_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        assert {p.dtype for p in SmallDRUNet().parameters()} == {torch.float64}
    finally:
        torch.set_default_dtype(torch.float32)


def test_constructor_raises_for_channels_without_bundled_weights():
    with pytest.raises(ValueError, match=r"in_channels must be 1 .* got 2"):
        SmallDRUNet(in_channels=2)


def test_forward_raises_for_bad_images(denoiser: SmallDRUNet):
    with pytest.raises(ValueError, match=r"x must be .* \(B, 3, H, W\), got"):
        denoiser(torch.rand(1, 1, 8, 8), 0.1)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 8, 8), (2, 1, 8, 9)])
def test_forward_raises_for_bad_noise_levels(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"sigma must be .* \(2, 1, 8, 8\)"):
        SmallDRUNet()(torch.rand(2, 3, 8, 8), torch.full(shape, 0.1))
