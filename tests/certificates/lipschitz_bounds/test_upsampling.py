from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModuleError

from ...one_test import in_one_test
from ..dense_operator import norm


@settings(max_examples=60)
@given(st.data())
def test_lipschitz_of_upsampling_bounds_the_dense_norm(data: st.DataObject) -> None:
    dim = data.draw(st.integers(1, 3))
    axes = st.tuples(*[st.integers(1, 8 if dim == 1 else 4)] * dim)
    linear = ("linear", "bilinear", "trilinear")[dim - 1]
    mode = data.draw(st.sampled_from(["nearest", "nearest-exact", linear]))
    options: dict[str, Any] = {"mode": mode}
    if data.draw(st.booleans()):
        options["size"] = data.draw(axes)
    else:
        options["scale_factor"] = data.draw(st.sampled_from([1, 1.5, 2, 2.7, 3]))
        options["recompute_scale_factor"] = data.draw(st.sampled_from([None, True]))
    if mode == linear:
        options["align_corners"] = data.draw(st.booleans())
    img_size = (2, *data.draw(axes))
    layer = nn.Upsample(**options)
    truth = norm(layer, img_size)
    bound = deq.lipschitz(layer, img_size)
    assert truth <= bound.value
    if "size" not in options:
        assert bound.value <= 1.6 * truth
    try:
        bound = deq.lipschitz(layer)
    except UncertifiableModuleError:
        return
    assert truth <= bound.value


@in_one_test("factor", [2, 3, 4, 5])
@in_one_test("n", [1, 2, 3, 9])
def test_lipschitz_of_bilinear_upsampling_needs_no_image_size(
    factor: int, n: int
) -> None:
    layer = nn.Upsample(scale_factor=factor, mode="bilinear")
    bound = deq.lipschitz(layer)
    assert bound.value == pytest.approx(factor)
    assert norm(layer, (1, n, 2)) <= bound.value


@given(st.data())
def test_lipschitz_of_nearest_upsampling_needs_no_image_size(
    data: st.DataObject,
) -> None:
    dim = data.draw(st.integers(1, 3))
    factor = data.draw(st.integers(1, (60, 6, 3)[dim - 1]))
    n = data.draw(st.integers(1, (60, 4, 2)[dim - 1]))
    mode = data.draw(st.sampled_from(["nearest", "nearest-exact"]))
    each = (float(factor),) * dim if data.draw(st.booleans()) else factor
    layer = nn.Upsample(scale_factor=each, mode=mode)
    bound = deq.lipschitz(layer)
    assert bound.is_certified
    assert norm(layer, (1,) + (n,) * dim) <= bound.value
    if isinstance(each, tuple):
        assert bound.value <= 1.001 * (factor + (factor > 2)) ** (dim / 2)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_lipschitz_of_upsampling_accepts_lists(mode: str) -> None:
    layer = nn.Upsample(size=[4, 8], mode=mode)
    assert norm(layer, (1, 4, 4)) <= deq.lipschitz(layer, (1, 4, 4)).value


@pytest.mark.parametrize("factor", [3, 7, 49])
def test_lipschitz_of_nearest_upsampling_counts_pixels_as_torch_does(
    factor: int,
) -> None:
    layer = nn.UpsamplingNearest2d(scale_factor=factor)
    bound = deq.lipschitz(layer, (1, 50, 1))
    assert norm(layer, (1, 50, 1)) <= bound.value


@pytest.mark.parametrize("img_size", [(1, 4), (1, 4, 4, 4)])
def test_lipschitz_refuses_upsampling_of_images_with_other_axes(
    img_size: tuple[int, ...],
) -> None:
    layer = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"))
    with pytest.raises(UncertifiableModuleError, match=r"'0', .* do not fit"):
        deq.lipschitz(layer, img_size)


@in_one_test(
    ("layer", "match"),
    [
        (nn.Upsample(scale_factor=2, mode="bicubic"), "negative weights"),
        (nn.Upsample(scale_factor=1.5), "Give img_size"),
        (nn.Upsample(size=4), "Give img_size"),
        (nn.Upsample(scale_factor=1.5, mode="linear"), "Give img_size"),
        (nn.UpsamplingBilinear2d(scale_factor=2), "Give img_size"),
    ],
)
def test_lipschitz_refuses_upsampling_without_a_bound(
    layer: nn.Module, match: str
) -> None:
    with pytest.raises(UncertifiableModuleError, match=match):
        deq.lipschitz(layer)
