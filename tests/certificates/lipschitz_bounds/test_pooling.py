from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModuleError

from ...one_test import in_one_test
from ..dense_operator import norm

AVERAGE = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
MAXIMUM = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
LARGEST = {1: 12, 2: 6, 3: 4}


def largest_jacobian(layer: nn.Module, img_size: tuple[int, ...]) -> float:
    """Return the largest norm of the Jacobian at random images. All but the first image
    have one bright pixel, which every window that contains it selects."""
    found = 0.0
    for index in (None, *range(math.prod(img_size))):
        x = torch.rand((1, *img_size), dtype=torch.float64)
        if index is not None:
            x.view(-1)[index] = 2.0
        jacobian: Any = torch.autograd.functional.jacobian(layer, x)
        jacobian = jacobian.reshape(-1, x.numel())
        found = max(found, torch.linalg.matrix_norm(jacobian, 2).item())
    return found


@st.composite
def windows(draw: st.DrawFn, pixels: int = 12) -> tuple[int, Any, tuple[int, ...]]:
    dim = draw(st.sampled_from([1, 2, 3]))

    def axes(low: int, high: int) -> tuple[int, ...]:
        return draw(st.tuples(*[st.integers(low, high)] * dim))

    kernel = axes(1, 5 if dim == 1 else 3)
    options = {
        "kernel_size": kernel,
        "stride": axes(1, 4),
        "padding": tuple(draw(st.integers(0, k // 2)) for k in kernel),
        "ceil_mode": draw(st.booleans()),
    }
    largest = min(pixels, LARGEST[dim])
    return dim, options, (1, *axes(1, largest))


@settings(max_examples=60)
@given(windows(), st.booleans(), st.sampled_from([None, 2, -3]))
def test_lipschitz_of_average_pooling_bounds_the_dense_norm(
    case: tuple[int, Any, tuple[int, ...]], include: bool, divisor: int | None
) -> None:
    dim, options, img_size = case
    if dim > 1:
        options["divisor_override"] = divisor
    layer = AVERAGE[dim - 1](count_include_pad=include, **options)
    try:
        truth = norm(layer, img_size)
    except RuntimeError:  # the image is smaller than the window
        return
    assert truth <= deq.lipschitz(layer).value


@settings(max_examples=80)
@given(windows(6), st.integers(1, 2))
def test_lipschitz_of_maximum_pooling_bounds_its_jacobians(
    case: tuple[int, Any, tuple[int, ...]], dilation: int
) -> None:
    dim, options, img_size = case
    if dim == 3:
        return
    layer = MAXIMUM[dim - 1](dilation=dilation, **options)
    try:
        pooled = layer(torch.zeros((1, *img_size)))
    except RuntimeError:  # the image is smaller than the window
        return
    # The dilated taps of a window may all be padding. Its backward in torch then writes
    # out of bounds, which ends the process.
    if bool(torch.isinf(pooled).any()):
        with pytest.raises(UncertifiableModuleError, match="lies in the padding"):
            deq.lipschitz(layer, img_size)
        return
    truth = largest_jacobian(layer, img_size)
    assert truth <= deq.lipschitz(layer, img_size).value


@in_one_test(
    ("layer", "expected"),
    [
        (nn.AvgPool2d(2), 0.5),
        (nn.AvgPool1d(5, 1), 1.0),
        (nn.AvgPool1d(3, 2), math.sqrt(5) / 3),
        (nn.AvgPool2d(2, divisor_override=1), 2.0),
        (nn.MaxPool2d(2), 1.0),
        (nn.MaxPool2d(3, 2, 1), 2.0),
        (nn.MaxPool1d(3, 2, dilation=2), math.sqrt(3)),
        (nn.LPPool2d(2, 3), 1.0),
        (nn.LPPool1d(4, 3, 1), math.sqrt(3)),
    ],
)
def test_lipschitz_of_pooling_has_closed_forms(
    layer: nn.Module, expected: float
) -> None:
    assert deq.lipschitz(layer).value == pytest.approx(expected, rel=2e-3)
    assert deq.lipschitz(layer).value >= expected


def test_lipschitz_of_padded_pooling_with_gaps_asks_for_the_image_size() -> None:
    with pytest.raises(UncertifiableModuleError, match="Give img_size"):
        deq.lipschitz(nn.MaxPool1d(2, 2, 1, dilation=3))


@in_one_test("exponent", [2, 4])
@in_one_test("stride", [None, 1])
def test_lipschitz_of_power_average_pooling_bounds_its_jacobians(
    exponent: int, stride: int | None
) -> None:
    layer = nn.LPPool1d(exponent, 3, stride)
    assert largest_jacobian(layer, (1, 6)) <= deq.lipschitz(layer).value


@settings(max_examples=60)
@given(st.data())
def test_lipschitz_of_adaptive_pooling_bounds_the_dense_norm(
    data: st.DataObject,
) -> None:
    dim = data.draw(st.integers(1, 2))
    inputs = data.draw(st.tuples(*[st.integers(1, 7)] * dim))
    outputs = data.draw(st.tuples(*[st.integers(1, 7)] * dim))
    img_size = (1, *inputs)
    mean = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)[dim - 1](outputs)
    truth = norm(mean, img_size)
    assert truth <= deq.lipschitz(mean, img_size).value
    assert truth <= deq.lipschitz(mean).value
    if dim == 1:
        most = nn.AdaptiveMaxPool1d(outputs)
        truth = largest_jacobian(most, img_size)
        bound = deq.lipschitz(most, img_size)
        assert truth <= bound.value <= deq.lipschitz(most).value
        assert bound.value == pytest.approx(truth)


def test_lipschitz_of_adaptive_pooling_to_the_image_size_is_1() -> None:
    assert deq.lipschitz(nn.AdaptiveAvgPool2d((None, 4)), (3, 9, 4)).value == (
        pytest.approx(1)
    )


@in_one_test(
    ("layer", "match"),
    [
        (nn.MaxPool2d(2, return_indices=True), "indices"),
        (nn.AdaptiveMaxPool2d(2, return_indices=True), "indices"),
        (nn.LPPool1d(3, 2), "even"),
        (nn.LPPool1d(2, 2, ceil_mode=True), "ceil_mode"),
        (nn.FractionalMaxPool2d(2, output_ratio=0.5), "no rule"),
        (nn.AvgPool2d(2, divisor_override=0), "divisor_override is 0"),
        (nn.MaxPool2d(2, stride=(1, 2, 3)), "rule raised a ValueError"),
    ],
)
def test_lipschitz_refuses_pooling_without_a_bound(
    layer: nn.Module, match: str
) -> None:
    with pytest.raises(UncertifiableModuleError, match=match):
        deq.lipschitz(layer)


def test_lipschitz_refuses_adaptive_pooling_of_images_with_fewer_axes() -> None:
    with pytest.raises(UncertifiableModuleError, match="pools 3 axes"):
        deq.lipschitz(nn.AdaptiveAvgPool3d(2), (4, 4))
