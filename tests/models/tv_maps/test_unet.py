from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv3d, interpolate, leaky_relu, max_pool3d

from deepinv_equilibrium.models.tv_maps.unet_tv_map import Convolution, UNet

from ...one_test import in_one_test


def test_unet_is_the_published_network():
    network = UNet(dim=3, in_channels=2, out_channels=2, filters=8, depth=3).double()
    weights = [p.detach() for p in network.parameters()]
    encoder, up, decoder, output = weights[:6], weights[6:8], weights[8:12], weights[12]
    assert len(weights) == 13

    def level(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        for weight in (first, second):
            x = leaky_relu(conv3d(x, weight, padding=1), 0.01)
        return x

    def raised(x: Tensor, weight: Tensor) -> Tensor:
        size = [2 * n for n in x.shape[2:]]
        return conv3d(interpolate(x, size, mode="trilinear"), weight, padding=1)

    x = torch.randn(2, 2, 4, 8, 12, dtype=torch.float64)
    fine = level(x, *encoder[:2])
    middle = level(max_pool3d(fine, 2), *encoder[2:4])
    coarse = level(max_pool3d(middle, 2), *encoder[4:])
    middle = level(torch.cat((raised(coarse, up[0]), middle), 1), *decoder[:2])
    fine = level(torch.cat((raised(middle, up[1]), fine), 1), *decoder[2:])
    torch.testing.assert_close(network(x), conv3d(fine, output) + x)


def test_shortcut_is_a_projection_if_channels_differ():
    network = UNet(dim=2, in_channels=3, out_channels=1, filters=4, depth=2)
    x = torch.randn(1, 3, 4, 4)
    torch.nn.init.zeros_(network.output.weight)
    torch.testing.assert_close(network(x), conv2d(x, network.shortcut.weight))


@in_one_test(("dim", "size"), [(2, (6, 5)), (3, (3, 6, 5))])
@in_one_test("kernel_size", [1, 3])
def test_convolution_keeps_the_size_and_saturates_its_kernel(
    dim: int, size: tuple[int, ...], kernel_size: int
):
    convolution = Convolution(dim, 64, 4, kernel_size)
    x = torch.randn(2, 64, *size)
    plain = (conv2d if dim == 2 else conv3d)(
        x, convolution.weight, padding=kernel_size // 2
    )
    assert torch.equal(convolution(x), plain)
    with torch.no_grad():
        convolution.weight.fill_(torch.inf)
        saturated = convolution(x)
        convolution.weight.fill_(1e5)
    assert torch.equal(saturated, convolution(x))


@pytest.mark.parametrize(
    ("dim", "filters", "depth"), [(2, 64, 4), (3, 32, 3)], ids=["2D", "3D"]
)
@pytest.mark.parametrize("largest", [3e38, torch.inf])
def test_forward_does_not_overflow(dim: int, filters: int, depth: int, largest: float):
    network = UNet(dim, in_channels=3, out_channels=2, filters=filters, depth=depth)
    signs = torch.randn(1, 3, *[8] * dim).sign()
    for parameters in ("ones", "signs"):
        for parameter in network.parameters():
            sign = torch.randn_like(parameter).sign()
            parameter.data = largest * (sign if parameters == "signs" else sign.abs())
        assert bool(network(largest * signs.abs()).isfinite().all())
        assert bool(network(largest * signs).isfinite().all())


def test_repr_of_convolution_shows_the_sizes():
    assert "Convolution(2, 8, kernel_size=(3, 3, 3))" in repr(UNet(3, 2, 2, 8, 3))
