from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from deepinv_equilibrium.certificates import convolution_norm
from deepinv_equilibrium.certificates.lipschitz_bounds.convolution_norms import ROUNDING

from ...one_test import in_one_test
from ..dense_operator import norm

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LARGEST = {1: (5, 9), 2: (4, 6), 3: (3, 4)}  # taps and pixels of each dimension
KINDS = ("random", "positive", "constant", "alternating")


def fill(weight: Tensor, kind: str, seed: int, scale: float = 1.0) -> None:
    """Fill a weight with random numbers, or with signs for which repeated pixels raise
    the norm most."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    if kind == "positive":
        values = values.abs()
    elif kind != "random":
        values = torch.ones_like(values)
    if kind == "alternating":
        values[..., ::2] = -1
    with torch.no_grad():
        weight.copy_(values * scale)


def bound_of(layer: Any, **options: Any) -> float:
    transposed = isinstance(layer, TRANSPOSED)
    return convolution_norm(
        layer.weight.detach(),
        stride=layer.stride,
        dilation=layer.dilation,
        groups=layer.groups,
        transposed=transposed,
        padding_mode=layer.padding_mode,
        padding=0 if transposed else layer.padding,
        **options,
    ).item()


def fits(layer: Any, img_size: tuple[int, ...]) -> bool:
    """Return whether torch accepts an image of this size."""
    try:
        with torch.no_grad():
            layer(torch.zeros((1, *img_size), dtype=layer.weight.dtype))
    except RuntimeError:
        return False
    return True


@st.composite
def layers(
    draw: st.DrawFn, transposed: bool, modes: tuple[str, ...]
) -> tuple[Any, tuple[int, ...]]:
    dim = draw(st.sampled_from([1, 1, 2, 2, 3]))
    taps, pixels = LARGEST[dim]

    def axes(low: int, high: int) -> tuple[int, ...]:
        return draw(st.tuples(*[st.integers(low, high)] * dim))

    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels = [groups * draw(st.integers(1, 2)) for _ in range(2)]
    stride, dilation = axes(1, 3), axes(1, 3)
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    if transposed:
        extra = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
        options["output_padding"] = tuple(draw(st.integers(0, e)) for e in extra)
        options["padding"] = axes(0, 2)
    else:
        options["padding_mode"] = draw(st.sampled_from(modes))
        options["padding"] = axes(0, 4)
        if draw(st.booleans()):
            options["stride"] = 1
            options["padding"] = draw(st.sampled_from(["same", options["padding"]]))
    kind = (TRANSPOSED if transposed else CONVOLUTIONS)[dim - 1]
    kernel = axes(1, taps)
    layer: Any = kind(*channels, kernel, bias=False, dtype=torch.float64, **options)
    fill(layer.weight, draw(st.sampled_from(KINDS)), draw(st.integers(0, 10**6)))
    return layer, (channels[0], *axes(1, pixels))


# torch warns that it copies the image for even kernels.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@settings(max_examples=60)
@given(layers(False, ("zeros", "replicate", "reflect", "circular")))
def test_convolution_norm_bounds_the_dense_norm(
    case: tuple[Any, tuple[int, ...]],
) -> None:
    layer, img_size = case
    if fits(layer, img_size):
        assert bound_of(layer) >= norm(layer, img_size)


@settings(max_examples=60)
@given(layers(True, ("zeros",)))
def test_convolution_norm_bounds_the_dense_norm_of_transposed_convolutions(
    case: tuple[Any, tuple[int, ...]],
) -> None:
    layer, img_size = case
    if fits(layer, img_size):
        assert bound_of(layer) >= norm(layer, img_size)


@pytest.mark.parametrize("mode", ["replicate", "reflect", "circular"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_convolution_norm_holds_for_kernels_trained_against_it(
    mode: str, stride: int
) -> None:
    generator = torch.Generator().manual_seed(stride)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    tried = 0
    while tried < 6:
        layer = nn.Conv1d(
            *(integer(1, 2), 1, integer(1, 4)),
            **{"stride": stride, "dilation": integer(1, 2), "padding": integer(1, 3)},
            padding_mode=mode,
            bias=False,
            dtype=torch.float64,
        )
        size = (layer.in_channels, integer(1, 6))
        if not fits(layer, size):
            continue
        tried += 1
        basis = torch.eye(math.prod(size), dtype=torch.float64).reshape(-1, *size)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.2)
        for _ in range(15):
            truth = torch.linalg.matrix_norm(layer(basis).flatten(1), 2)
            bound = convolution_norm(
                layer.weight,
                **{"stride": stride, "dilation": layer.dilation},
                padding_mode=mode,
                padding=layer.padding,
            )
            assert bound >= truth
            optimizer.zero_grad()
            (bound.log() - truth.log()).backward()
            optimizer.step()


def test_convolution_norm_bounds_a_motion_blur_with_replicate_padding() -> None:
    # The taps sum to 1, but the norm is far above 1.
    layer = nn.Conv1d(1, 1, 9, padding=4, padding_mode="replicate", bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0, 1.0, 1.0, 0, 0, 0, 0, 0, 0]]]) / 3)
    truth = norm(layer, (1, 32))
    assert truth > 1.7
    assert bound_of(layer) >= truth


def test_convolution_norm_bounds_a_strided_circular_convolution() -> None:
    layer = nn.Conv1d(
        *(1, 1, 2), 2, padding=1, padding_mode="circular", bias=False
    ).double()
    fill(layer.weight, "constant", seed=0)
    assert norm(layer, (1, 3)) == pytest.approx(math.sqrt(3))
    assert bound_of(layer) >= math.sqrt(3)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([1e-30, 1e-3, 1e3, 1e30]))
def test_convolution_norm_scales_with_the_weight(seed: int, scale: float) -> None:
    weight = torch.empty(3, 2, 3, 3, dtype=torch.float64)
    fill(weight, "random", seed)
    expected = scale * convolution_norm(weight).item()
    assert convolution_norm(scale * weight).item() == pytest.approx(expected, rel=1e-12)


@settings(max_examples=60)
@given(layers(False, ("zeros", "replicate", "reflect", "circular")))
def test_convolution_norm_bounds_weights_in_single_precision(
    case: tuple[Any, tuple[int, ...]],
) -> None:
    layer, img_size = case
    layer.float()
    bound = bound_of(layer)
    layer.double()
    assert bound == bound_of(layer)
    if layer.padding != "same" and fits(layer, img_size):
        assert bound >= norm(layer, img_size)


@in_one_test(
    ("weight", "options", "expected"),
    [
        (torch.ones(1, 1, 1), {}, 1.0),
        (2 * torch.eye(3)[:, :, None, None], {"stride": 3}, 2.0),
        (torch.ones(1, 1, 4), {"stride": 4}, 2.0),
        (torch.ones(1, 1, 2), {"stride": 2, "dilation": 3}, math.sqrt(2)),
        (torch.ones(1, 1, 1, 1, 1), {"padding": 7}, 1.0),
        (torch.tensor([[[3.0]], [[4.0]]]), {}, 5.0),
        (torch.tensor([[[3.0]], [[4.0]]]), {"groups": 2}, 4.0),
        (torch.tensor([[[3.0]], [[4.0]]]), {"transposed": True}, 5.0),
        (torch.tensor([[[3j]], [[4.0 + 0j]]]), {}, 5.0),
        (torch.zeros(2, 2, 3), {}, 0.0),
        (torch.ones(1, 1, 1), {"padding_mode": "replicate", "padding": 1}, 3**0.5),
        (torch.ones(1, 1, 1), {"padding_mode": "circular", "padding": 1}, 3**0.5),
    ],
)
def test_convolution_norm_has_closed_forms(
    weight: Tensor, options: dict[str, Any], expected: float
) -> None:
    value = convolution_norm(weight, **options).item()
    assert value == pytest.approx(expected * ROUNDING, rel=1e-14)


def test_convolution_norm_does_not_depend_on_dilation() -> None:
    weight = torch.randn(4, 3, 3, 3)
    assert convolution_norm(weight, dilation=50) == convolution_norm(weight)


def test_convolution_norm_bounds_complex_weights() -> None:
    weight = torch.randn(3, 2, 4, dtype=torch.complex128)
    layer = nn.Conv1d(2, 3, 4, padding=3, bias=False, dtype=torch.complex128)
    with torch.no_grad():
        layer.weight.copy_(weight)
        basis = torch.eye(20, dtype=torch.complex128).reshape(-1, 2, 10)
        truth = torch.linalg.matrix_norm(layer(basis).flatten(1), 2).item()
    assert truth <= bound_of(layer) <= 1.1 * truth


@in_one_test("grid", [None, 16])
@in_one_test(
    "options",
    [
        {},
        {"stride": 2},
        {"groups": 2},
        {"stride": 2, "padding": 1, "padding_mode": "reflect"},
    ],
)
def test_gradient_of_convolution_norm_matches_finite_differences(
    grid: int | None, options: dict[str, Any]
) -> None:
    weight = torch.randn(4, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda w: convolution_norm(w, grid=grid, **options),
        weight,
        fast_mode=True,
    )


def test_weight_divided_by_convolution_norm_remains_in_single_precision() -> None:
    weight = torch.randn(4, 4, 3, 3, requires_grad=True)
    scaled = weight / convolution_norm(weight, grid=16)
    assert scaled.dtype == torch.float32
    scaled.square().sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
    # The quotient does not depend on the scale of the weight.
    radial = (weight.grad * weight.detach()).sum() / weight.grad.norm()
    assert abs(radial) < 1e-4 * weight.detach().norm()


@in_one_test(
    ("weight", "options", "match"),
    [
        (torch.ones(2, 2), {}, "spatial axes"),
        (torch.ones(0, 2, 3), {}, "empty"),
        (torch.full((1, 1, 3), math.nan), {}, "finite"),
        (torch.ones(1, 1, 3), {"stride": 0}, "stride must be at least 1"),
        (torch.ones(1, 1, 3), {"dilation": (1, 1)}, "dilation must be"),
        (torch.ones(1, 1, 3), {"padding": -1}, "padding must be at least 0"),
        (torch.ones(1, 1, 3), {"padding": "full"}, "'full'"),
        (torch.ones(1, 1, 3), {"padding_mode": "symmetric"}, "'symmetric'"),
        (torch.ones(3, 1, 3), {"groups": 2}, "groups must divide"),
        (torch.ones(1, 1, 3), {"grid": 2}, "grid must be at least"),
        (
            torch.ones(1, 1, 3),
            {"transposed": True, "padding_mode": "reflect"},
            "padding_mode must be in",
        ),
    ],
)
def test_convolution_norm_raises_for_bad_arguments(
    weight: Tensor, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        convolution_norm(weight, **options)
