from __future__ import annotations

import warnings
from pathlib import Path

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import FBPUNet

from ...quiet_trainer import train_for_an_epoch
from ..images import random_images
from .test_learned_iterations import SIZE, scan


def small(channels: int = 1) -> FBPUNet:
    return FBPUNet(channels, channels_per_scale=(2, 4)).double()


def measurement(channels: int = 1) -> Tensor:
    return scan().A(random_images(0, (3, channels, SIZE, SIZE)))


def test_forward_adds_the_network_to_the_filtered_back_projection() -> None:
    model, y = small(), measurement()
    x = scan().A_dagger(y, fbp=True)
    with torch.no_grad():
        assert model(y, scan()).equal(model.backbone_net(x))
        # The last layer alone determines the correction.
        model.backbone_net.Conv_1x1.weight.zero_()
        model.backbone_net.Conv_1x1.bias.fill_(0.25)
        torch.testing.assert_close(model(y, scan()), x + 0.25)


@pytest.mark.parametrize("channels", [1, 3])
def test_forward_reconstructs_grey_and_colour_samples_independently(
    channels: int,
) -> None:
    model, y = small(channels), measurement(channels)
    with torch.no_grad():
        x = model.train()(y, scan())
        alone = torch.cat([model(sample[None], scan()) for sample in y])
        assert model.eval()(y, scan()).equal(x)
    assert x.shape == (3, channels, SIZE, SIZE)
    torch.testing.assert_close(x, alone, rtol=0, atol=1e-12)


def test_forward_accepts_any_physics_and_image_size() -> None:
    physics = dinv.physics.Inpainting((1, 5, 7), mask=torch.ones(1, 5, 7).double())
    x = random_images(1, (2, 1, 5, 7))
    model = small()
    with torch.no_grad():
        model.backbone_net.Conv_1x1.weight.zero_()
        model.backbone_net.Conv_1x1.bias.zero_()
        torch.testing.assert_close(model(physics.A(x), physics), x)


def test_gradients_agree_with_finite_differences() -> None:
    model = small()
    y = measurement()[:1].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda y: model(y, scan()), (y,), fast_mode=True, nondet_tol=1e-12
    )
    direction = torch.randn_like(model.backbone_net.Conv1[0].weight)
    weight = model.backbone_net.Conv1[0].weight
    (gradient,) = torch.autograd.grad(model(y, scan()).square().sum(), weight)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * 1e-6 * direction
            values.append(model(y, scan()).square().sum().item())
            weight -= sign * 1e-6 * direction
    slope = (values[0] - values[1]) / 2e-6
    assert slope == pytest.approx((gradient * direction).sum().item(), rel=1e-5)


def test_loaded_model_reconstructs_as_the_saved_one(tmp_path: Path) -> None:
    model, other, y = small(), small(), measurement()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    with torch.no_grad():
        assert other(y, scan()).equal(model(y, scan()))


def test_create_by_name_returns_a_model_that_trains() -> None:
    physics = dinv.physics.Tomography(5, SIZE, circle=True, normalize=True)
    x = random_images(2, (4, 1, SIZE, SIZE)).float()
    pairs = [{"x": image, "y": physics.A(image[None])[0]} for image in x]
    model = deq.plugins.create("reconstructors", "fbp-unet", channels_per_scale=(2, 4))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        train_for_an_epoch(model, physics, optimizer, pairs, 2)
    assert not any(
        p.equal(old) for p, old in zip(model.parameters(), before, strict=True)
    )


def test_constructor_and_forward_raise_for_bad_input() -> None:
    model, y = small(), measurement()
    with pytest.raises(TypeError, match=r"must be a deepinv Physics.*got str"):
        model(y, "scan")
    with pytest.raises(TypeError, match="takes no argument 'fbp'"):
        model(y, scan(), fbp=True)
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        small(3)(y, scan())
    with pytest.raises(TypeError, match=r"float64, and the weights of torch\.float32"):
        model.float()(y, scan())
    with pytest.raises(ValueError, match="two levels or more"):
        FBPUNet(channels_per_scale=(8,))
    with pytest.raises(ValueError, match="channels_per_scale must be an integer >= 1"):
        FBPUNet(channels_per_scale=(8, 0))
    for wrong in (5, "16,32"):
        with pytest.raises(TypeError, match="channels_per_scale must be a tuple"):
            FBPUNet(1, wrong)
