from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.models import BoundedConvolution

DOUBLE = {"dtype": torch.float64}


def make_layer(inputs: int, outputs: int) -> BoundedConvolution:
    torch.manual_seed(0)
    return BoundedConvolution(inputs, outputs).double()


@pytest.mark.parametrize("channels", [(1, 1), (2, 3)])
def test_second_derivative_in_the_weights_is_right(channels: tuple[int, int]):
    layer = make_layer(*channels)
    x = torch.rand(1, channels[0], 4, 4, **DOUBLE)
    origin = layer.weight.detach().clone()
    direction = torch.randn_like(origin)

    def slope() -> Tensor:
        loss = layer(x).square().sum()
        (gradient,) = torch.autograd.grad(loss, layer.weight, create_graph=True)
        return (gradient * direction).sum()

    (second,) = torch.autograd.grad(slope(), layer.weight, create_graph=True)
    (third,) = torch.autograd.grad((second * direction).sum(), layer.weight)
    slope().backward()
    assert torch.equal(layer.weight.grad, second)
    other = torch.randn_like(origin)
    slopes, seconds = [], []
    for sign in (1, -1):
        with torch.no_grad():
            layer.weight.copy_(origin + sign * 1e-6 * other)
        slopes.append(slope())
        (gradient,) = torch.autograd.grad(slopes[-1], layer.weight)
        seconds.append((gradient * direction).sum())
    for derivative, (ahead, behind) in ((second, slopes), (third, seconds)):
        expected = (ahead - behind).detach() / 2e-6
        torch.testing.assert_close(
            (derivative * other).sum().detach(), expected, rtol=1e-5, atol=0
        )


def test_second_derivative_raises_if_the_largest_singular_value_is_multiple():
    layer = make_layer(3, 3)
    torch.nn.init.dirac_(layer.weight)
    loss = layer(torch.rand(1, 3, 4, 4, **DOUBLE)).square().sum()
    (first,) = torch.autograd.grad(loss, layer.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="norm of weight has no second derivative"):
        torch.autograd.grad(first.square().sum(), layer.weight)


def test_mixed_derivative_reaches_the_weights():
    layer = make_layer(2, 3)
    x = torch.rand(1, 2, 4, 4, **DOUBLE, requires_grad=True)
    direction = torch.randn_like(layer.weight)
    origin = layer.weight.detach().clone()

    def penalty() -> Tensor:
        (slope,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        return slope.square().sum()

    (gradient,) = torch.autograd.grad(penalty(), layer.weight)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            layer.weight.copy_(origin + sign * 1e-6 * direction)
        values.append(penalty().detach())
    slope = (values[0] - values[1]) / 2e-6
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-6, atol=0)
