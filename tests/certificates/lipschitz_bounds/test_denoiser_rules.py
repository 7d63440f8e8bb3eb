from __future__ import annotations

from typing import Any

import deepinv as dinv
import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModuleError

from ...one_test import in_one_test


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_lipschitz_of_dncnn_bounds_its_jacobian(depth: int) -> None:
    model = dinv.models.DnCNN(1, 1, depth, nf=4, pretrained=None).double()
    bound = deq.lipschitz(model)
    assert bound.is_certified
    assert str(depth) in bound.source
    for _ in range(5):
        x = torch.randn(1, 1, 5, 5, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(model, x).reshape(25, 25)
        assert torch.linalg.matrix_norm(jacobian, 2) <= bound.value


def test_lipschitz_of_dncnn_is_1_plus_the_product_of_its_layers() -> None:
    model = dinv.models.DnCNN(3, 3, 4, nf=4, pretrained=None)
    product = 1.0
    for layer in (model.in_conv, *model.conv_list, model.out_conv):
        product *= deq.lipschitz(layer).value
    assert deq.lipschitz(model).value == pytest.approx(1 + product)


def test_lipschitz_refuses_a_dncnn_with_other_output_channels() -> None:
    model = dinv.models.DnCNN(1, 3, 3, nf=4, pretrained=None)
    with pytest.raises(UncertifiableModuleError, match="channels"):
        deq.lipschitz(model)


def edited_dncnn(part: str, layer: nn.Module) -> nn.Module:
    model = dinv.models.DnCNN(1, 1, 3, nf=2, pretrained=None)
    if part == "in_conv":
        model.in_conv = layer
    elif part == "out_conv":
        model.out_conv = layer
    else:
        model.get_submodule(part)[0] = layer
    return model


@in_one_test(
    ("part", "layer"),
    [
        # It overwrites the image that is added.
        ("in_conv", nn.Sequential(nn.SELU(inplace=True), nn.Conv2d(1, 2, 1))),
        # The result has other sizes, and the sum is broadcast.
        ("out_conv", nn.Conv2d(2, 1, 3, padding=0)),
        ("conv_list", nn.Conv2d(2, 2, 3, stride=2, padding=1)),
        ("nl_list", nn.AvgPool2d(3)),
        ("out_conv", nn.Conv2d(2, 3, 3, padding=1)),
    ],
)
def test_lipschitz_refuses_a_dncnn_with_other_layers(
    part: str, layer: nn.Module
) -> None:
    with pytest.raises(
        UncertifiableModuleError, match=r"DnCNN|channels|adds the image"
    ):
        deq.lipschitz(edited_dncnn(part, layer))


def random_ffdnet(data: st.DataObject) -> nn.Module:
    model: Any = dinv.models.FFDNet(
        n_conv_layers=data.draw(st.integers(2, 4)),
        nf=3,
        img_channels=data.draw(st.integers(1, 2)),
        residual_denoising=data.draw(st.booleans()),
        norm=data.draw(st.sampled_from([None, "batch_norm"])),
        pretrained=None,
    )
    first = model.blocks[0][0].weight
    with torch.no_grad():  # the map of noise levels has the largest weights
        first[:, -4:] *= 100
    return model.double().eval()


@settings(max_examples=15)
@given(st.data())
def test_lipschitz_of_ffdnet_bounds_its_jacobian_for_maps_of_noise_levels(
    data: st.DataObject,
) -> None:
    torch.manual_seed(0)
    model = random_ffdnet(data)
    size = (model.blocks[-1].weight.shape[0] // 4, 4, 4)
    bound = deq.lipschitz(model, size)
    assert bound.is_certified
    x = torch.randn(1, *size, dtype=torch.float64)
    sigma = data.draw(st.sampled_from([0.0, 0.01, 1.0]))
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x, sigma), x)
    local = torch.linalg.matrix_norm(jacobian.reshape(x.numel(), x.numel()), 2)
    assert local <= bound.value
    # The weights of the noise level do not enter.
    with torch.no_grad():
        model.blocks[0][0].weight[:, -4:] *= 10
    assert deq.lipschitz(model, size) == bound


@in_one_test("edit", ["padding", "downsampler", "layer", "norm"])
def test_lipschitz_refuses_an_ffdnet_that_deepinv_does_not_build(edit: str) -> None:
    norm = "instance_norm" if edit == "norm" else None
    model: Any = dinv.models.FFDNet(
        3, 4, residual_denoising=True, norm=norm, pretrained=None
    )
    if edit == "padding":
        model.blocks[1][0].padding = (0, 0)
    elif edit == "downsampler":
        model.downsampler = nn.AvgPool2d(2)
    elif edit == "layer":
        model.blocks[0][0] = nn.Sequential(model.blocks[0][0])
    with pytest.raises(UncertifiableModuleError):
        deq.lipschitz(model)
