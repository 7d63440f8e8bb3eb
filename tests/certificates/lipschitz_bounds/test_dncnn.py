from __future__ import annotations

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModuleError


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_it_bounds_its_jacobian(depth: int) -> None:
    model = dinv.models.DnCNN(1, 1, depth, nf=4, pretrained=None).double()
    bound = deq.lipschitz(model)
    assert bound.is_certified
    assert str(depth) in bound.source
    for _ in range(5):
        x = torch.randn(1, 1, 5, 5, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(model, x).reshape(25, 25)
        assert torch.linalg.matrix_norm(jacobian, 2) <= bound.value


def test_it_is_the_identity_plus_its_layers() -> None:
    model = dinv.models.DnCNN(3, 3, 4, nf=4, pretrained=None)
    product = 1.0
    for layer in (model.in_conv, *model.conv_list, model.out_conv):
        product *= deq.lipschitz(layer).value
    assert deq.lipschitz(model).value == pytest.approx(1 + product)


def test_an_image_that_is_broadcast_is_refused() -> None:
    model = dinv.models.DnCNN(1, 3, 3, nf=4, pretrained=None)
    with pytest.raises(UncertifiableModuleError, match="channels"):
        deq.lipschitz(model)
