"""Convolutional frames: transpose, Parseval property and norm."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepinv_equilibrium.models import ConvolutionalFrame

from ...certificates.dense_operator import matrix
from ...one_test import in_one_test
from .problems import DOUBLE, convolutional_frame


@in_one_test("channels", [1, 3])
@in_one_test("kernel_size", [1, 2, 5])
def test_new_frame_is_a_parseval_frame_for_every_image_size(
    channels: int, kernel_size: int
) -> None:
    frame = ConvolutionalFrame(channels, kernel_size).to(DOUBLE)
    assert frame.atoms == channels * kernel_size**2
    for height, width in ((1, 1), (3, 8), (9, 4)):
        W = matrix(frame.analysis, (channels, height, width)).detach()
        torch.testing.assert_close(
            W.mT @ W, torch.eye(W.shape[1], dtype=DOUBLE), rtol=0, atol=1e-6
        )


def test_filters_of_a_new_frame_are_products_of_cosines() -> None:
    """The first averages a patch; the second is half a wave along the columns."""
    filters = ConvolutionalFrame(1, 2).filters.detach()
    torch.testing.assert_close(filters[0, 0], torch.full((2, 2), 0.25))
    torch.testing.assert_close(filters[1, 0], torch.tensor([[0.25, -0.25]] * 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_synthesis_is_the_transpose_of_analysis(channels: int) -> None:
    frame = convolutional_frame(channels)
    W = matrix(frame.analysis, (channels, 4, 3))
    z = torch.randn(1, frame.atoms, 6, 5, dtype=DOUBLE)
    expected = (W.mT @ z.flatten()).reshape(1, channels, 4, 3)
    torch.testing.assert_close(frame.synthesis(z), expected, rtol=0, atol=1e-12)
    assert torch.equal(frame(expected), frame.analysis(expected))


@given(
    seed=st.integers(0, 2**31), kernel_size=st.integers(1, 4), side=st.integers(1, 9)
)
def test_squared_norm_bounds_the_norm_for_random_filters(
    seed: int, kernel_size: int, side: int
) -> None:
    frame = ConvolutionalFrame(2, kernel_size).to(DOUBLE)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        frame.filters.normal_(generator=generator)
    W = matrix(frame.analysis, (2, side, 10 - side))
    assert torch.linalg.matrix_norm(W, 2) ** 2 <= frame.squared_norm()


def test_squared_norm_is_tight_and_differentiable() -> None:
    frame = convolutional_frame(1)
    norm = frame.squared_norm()
    W = matrix(frame.analysis, (1, 24, 24)).detach()
    assert norm <= 1.03 * torch.linalg.matrix_norm(W, 2) ** 2
    norm.backward()
    assert frame.filters.grad is not None
    # Euler: homogeneous of degree 2.
    product = (frame.filters.grad * frame.filters).sum()
    torch.testing.assert_close(product, 2 * norm.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_analysis_and_synthesis_keep_the_precision(dtype: torch.dtype) -> None:
    frame = ConvolutionalFrame(1, 3)
    z = frame.analysis(torch.rand(1, 1, 5, 6, dtype=dtype))
    assert z.dtype == dtype
    assert frame.synthesis(z).dtype == dtype


def test_constructor_and_analysis_raise_for_bad_input() -> None:
    with pytest.raises(ValueError, match="kernel_size must be an integer >= 1, got 0"):
        ConvolutionalFrame(1, 0)
    with pytest.raises(ValueError, match="in_channels must be an integer >= 1"):
        ConvolutionalFrame(0)
    with pytest.raises(ValueError, match=r"shape \(B, 3, H, W\), got"):
        ConvolutionalFrame(3).analysis(torch.rand(1, 1, 8, 8))
