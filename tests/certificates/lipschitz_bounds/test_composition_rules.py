from __future__ import annotations

import deepinv as dinv
import pytest
import torch
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModuleError

from ..dense_operator import norm


@pytest.mark.parametrize(
    "layer",
    [
        nn.Identity(),
        nn.Flatten(),
        nn.Unflatten(1, (2, 2)),
        nn.PixelShuffle(2),
        nn.PixelUnshuffle(2),
        nn.ChannelShuffle(2),
    ],
    ids=repr,
)
def test_lipschitz_of_a_rearrangement_is_1(layer: nn.Module) -> None:
    assert norm(layer, (4, 2, 2)) == pytest.approx(1)
    assert deq.lipschitz(layer).value == 1


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
