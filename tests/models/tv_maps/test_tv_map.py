from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.models import BoundedSigmoid, Softplus, TVMap

from ...one_test import in_one_test


class Channels(TVMap):
    """A map whose raw weights are the channels of the image."""

    def raw_weight(self, z: Tensor) -> Tensor:
        return z


def test_forward_gives_each_direction_the_weight_of_its_group():
    tv_map = Channels(directions=(1, 0, 1))
    z = torch.randn(2, 2, 3, 4, 5)
    weight = tv_map(z)
    assert weight.shape == (2, 1, 3, 3, 4, 5)
    groups = Softplus()(z)
    for axis, group in enumerate((1, 0, 1)):
        assert torch.equal(weight[:, 0, axis], groups[:, group])


def test_forward_applies_the_given_positivity():
    z = torch.randn(1, 1, 4, 4)
    weight = Channels((0, 0), BoundedSigmoid(0.2))(z)
    assert torch.equal(weight[0, 0, 0], BoundedSigmoid(0.2)(z)[0, 0])


@pytest.mark.parametrize(
    ("dtype", "real"),
    [(torch.complex64, torch.float32), (torch.complex128, torch.float64)],
)
def test_forward_returns_real_weights_for_complex_images(
    dtype: torch.dtype, real: torch.dtype
):
    z = torch.randn(2, 1, 4, 5, dtype=dtype)
    weight = Channels((0, 1))(z)
    assert weight.dtype == real
    torch.testing.assert_close(weight[:, 0, 0], Softplus()(z.real)[:, 0])
    torch.testing.assert_close(weight[:, 0, 1], Softplus()(z.imag)[:, 0])


def test_forward_passes_real_parts_before_imaginary_parts():
    z = torch.randn(1, 2, 4, 5, dtype=torch.complex64)
    seen = []

    class Spy(TVMap):
        def raw_weight(self, z: Tensor) -> Tensor:
            seen.append(z)
            return z[:, :1]

    Spy((0, 0))(z)
    assert torch.equal(seen[0], torch.cat((z.real, z.imag), dim=1))


def test_forward_keeps_the_precision_of_the_image():
    class Half(TVMap):  # what autocast gives
        def raw_weight(self, z: Tensor) -> Tensor:
            return z.half()

    assert Half((0, 0))(torch.randn(1, 1, 2, 2)).dtype == torch.float32


def test_raw_weight_of_is_the_inverse_of_positivity():
    tv_map = Channels((0, 1, 1))
    raw = torch.tensor(tv_map.raw_weight_of((0.04, 0.005)))
    torch.testing.assert_close(tv_map.positivity(raw), torch.tensor([0.04, 0.005]))
    assert tv_map.raw_weight_of(0.1) == (Softplus().initial(0.1),) * 2
    with pytest.raises(ValueError, match=r"one number or 2, .* got \(0.1, 0.2, 0.3\)"):
        tv_map.raw_weight_of((0.1, 0.2, 0.3))


@in_one_test("directions", [(0,), (0, 2), (1, 1), (0, -1), (0, 0, 0, 0)])
def test_constructor_raises_for_directions_out_of_range(directions: tuple[int, ...]):
    with pytest.raises(ValueError, match="directions must be the groups of 2 or 3"):
        Channels(directions)


@in_one_test("directions", [2, (0, 1.0), (False, True), "01", None])
def test_constructor_raises_for_directions_of_another_type(directions: object):
    with pytest.raises(TypeError, match="directions must be a tuple of integers"):
        Channels(directions)


def test_constructor_raises_for_positivity_of_another_type():
    with pytest.raises(TypeError, match=r"Softplus\(scale=0\.1\) or .* got 0\.1"):
        Channels((0, 0), 0.1)


@in_one_test("shape", [(1, 4, 4), (1, 1, 4, 4, 4), (1, 0, 4, 4), (1, 1, 0, 4)])
def test_forward_raises_for_image_of_another_shape(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"z must be of shape \(B, C, H, W\)"):
        Channels((0, 0))(torch.zeros(shape))


def test_forward_raises_for_image_without_time_axis():
    with pytest.raises(ValueError, match=r"\(B, C, T, H, W\) .* got \(1, 1, 4, 4\)"):
        Channels((0, 1, 1))(torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bool])
def test_forward_raises_for_image_of_another_dtype(dtype: torch.dtype):
    with pytest.raises(TypeError, match=rf"float32, .* got {dtype}"):
        Channels((0, 0))(torch.zeros(1, 1, 4, 4, dtype=dtype))


def test_forward_raises_for_image_that_is_not_a_tensor():
    with pytest.raises(TypeError, match=r"z must be a tensor .* got list"):
        Channels((0, 0))([[0.0]])


def test_base_class_cannot_be_constructed():
    with pytest.raises(TypeError, match="abstract"):
        TVMap((0, 0))


def test_repr_shows_directions_and_positivity():
    assert "directions=(0, 1)" in repr(Channels((0, 1)))
    assert "Softplus(scale=0.1)" in repr(Channels((0, 1)))
