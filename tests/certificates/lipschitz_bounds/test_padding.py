from __future__ import annotations

import deepinv as dinv
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModuleError

from ...one_test import in_one_test
from ..dense_operator import norm

LAYERS = {
    1: (nn.ZeroPad1d, nn.ReplicationPad1d, nn.ReflectionPad1d, nn.CircularPad1d),
    2: (nn.ZeroPad2d, nn.ReplicationPad2d, nn.ReflectionPad2d, nn.CircularPad2d),
    3: (nn.ZeroPad3d, nn.ReplicationPad3d, nn.ReflectionPad3d, nn.CircularPad3d),
}


@settings(max_examples=60)
@given(st.data())
def test_lipschitz_of_padding_bounds_the_dense_norm(data: st.DataObject) -> None:
    dim = data.draw(st.sampled_from([1, 1, 2, 3]))
    sides = data.draw(st.tuples(*[st.integers(0, 4)] * (2 * dim)))
    layer = data.draw(st.sampled_from(LAYERS[dim]))(sides)
    img_size = (1, *data.draw(st.tuples(*[st.integers(1, 6 if dim == 1 else 4)] * dim)))
    try:
        truth = norm(layer, img_size)
    except RuntimeError:  # more padding than pixels
        return
    assert truth <= deq.lipschitz(layer).value


@in_one_test(
    ("layer", "n", "square"),
    [
        (nn.ReplicationPad1d((2, 1)), 1, 4),
        (nn.ReflectionPad1d(1), 3, 3),
        (nn.ReflectionPad1d((2, 0)), 3, 2),
        (nn.CircularPad1d(2), 2, 3),
        (nn.CircularPad1d((2, 1)), 2, 3),
        (nn.ConstantPad1d(3, 0.5), 2, 1),
    ],
)
def test_lipschitz_of_padding_is_attained_at_the_worst_image_size(
    layer: nn.Module, n: int, square: int
) -> None:
    assert norm(layer, (1, n)) ** 2 == pytest.approx(square)
    assert deq.lipschitz(layer).value ** 2 == pytest.approx(square)


def test_lipschitz_of_constant_padding_accepts_cropping() -> None:
    assert deq.lipschitz(nn.ZeroPad1d((-1, 2))).value == 1
    # Cropping leaves two of three pixels, which are repeated like three.
    layer = nn.CircularPad2d((-1, 3, 0, 0))
    assert norm(layer, (1, 2, 3)) ** 2 == pytest.approx(3)
    with pytest.raises(UncertifiableModuleError, match="crops"):
        deq.lipschitz(layer)


def test_lipschitz_includes_an_extension_to_a_multiple_of_8() -> None:
    """deepinv's ``test_pad`` repeats the last row and column until the sizes are
    multiples of 8, runs the network, and crops. A bound of the network alone does not
    bound this composition.
    """
    network = nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
    nn.init.ones_(network.weight)
    n = 5
    padded = nn.Sequential(nn.ReplicationPad2d((0, 8 - n, 0, 8 - n)), network)
    truth = norm(lambda x: padded(x)[..., :n, :n], (1, n, n))
    assert truth > norm(network, (1, n, n))
    assert truth <= deq.lipschitz(padded).value


@pytest.mark.parametrize(
    "network",
    [
        dinv.models.DRUNet(1, 1, nc=(4, 4, 8, 8), nb=1, pretrained=None),
        dinv.models.UNet(1, 1, scales=2),
        dinv.models.Restormer(1, 1, dim=8, num_blocks=(1, 1, 1, 1), pretrained=None),
    ],
    ids=lambda network: type(network).__name__,
)
def test_lipschitz_refuses_networks_that_extend_the_image(network: nn.Module) -> None:
    with pytest.raises(UncertifiableModuleError, match=type(network).__name__):
        deq.lipschitz(network.eval(), (1, 9, 9))
