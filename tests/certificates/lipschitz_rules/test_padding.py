from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModule

from ..dense_operator import norm

LAYERS = {
    1: (nn.ZeroPad1d, nn.ReplicationPad1d, nn.ReflectionPad1d, nn.CircularPad1d),
    2: (nn.ZeroPad2d, nn.ReplicationPad2d, nn.ReflectionPad2d, nn.CircularPad2d),
    3: (nn.ZeroPad3d, nn.ReplicationPad3d, nn.ReflectionPad3d, nn.CircularPad3d),
}


@settings(max_examples=400)
@given(st.data())
def test_it_bounds_the_dense_norm(data: st.DataObject) -> None:
    dim = data.draw(st.sampled_from([1, 1, 2, 3]))
    sides = data.draw(st.tuples(*[st.integers(0, 4)] * (2 * dim)))
    layer = data.draw(st.sampled_from(LAYERS[dim]))(sides)
    img_size = (1, *data.draw(st.tuples(*[st.integers(1, 6 if dim == 1 else 4)] * dim)))
    try:
        truth = norm(layer, img_size)
    except RuntimeError:  # more padding than pixels
        return
    assert truth <= deq.lipschitz(layer).value


@pytest.mark.parametrize(
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
def test_the_worst_image_size_is_met(layer: nn.Module, n: int, square: int) -> None:
    assert norm(layer, (1, n)) ** 2 == pytest.approx(square)
    assert deq.lipschitz(layer).value ** 2 == pytest.approx(square)


def test_cropping() -> None:
    assert deq.lipschitz(nn.ZeroPad1d((-1, 2))).value == 1
    # Of three pixels two are left, which are repeated as three are.
    layer = nn.CircularPad2d((-1, 3, 0, 0))
    assert norm(layer, (1, 2, 3)) ** 2 == pytest.approx(3)
    with pytest.raises(UncertifiableModule, match="crops"):
        deq.lipschitz(layer)
