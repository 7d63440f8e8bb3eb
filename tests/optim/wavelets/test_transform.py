"""The periodised wavelet transform, which is orthonormal for any image size."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepinv_equilibrium.optim.wavelets import WaveletTransform

from ...certificates.dense_operator import matrix
from ...one_test import in_one_test

DOUBLE = torch.float64
WAVELETS = ["haar", "db4", "db2", "coif2"]


def inner(a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return sum(((u * v).sum() for u, v in zip(a, b, strict=True)), torch.zeros(()))


@in_one_test("wavelet", WAVELETS)
def test_analysis_of_even_sizes_equals_pywavelets(wavelet: str) -> None:
    x = torch.rand(2, 3, 32, 48, dtype=DOUBLE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # filters are longer than the coarse scale
        expected = pywt.wavedec2(x.numpy(), wavelet, mode="periodization", level=4)
    got = WaveletTransform(wavelet, 4).analysis(x)
    np.testing.assert_allclose(got[0], expected[0], rtol=0, atol=1e-13)
    for detail, bands in zip(got[1:], expected[1:], strict=True):
        np.testing.assert_allclose(detail, np.stack(bands, 2), rtol=0, atol=1e-13)


@given(
    st.sampled_from(WAVELETS),
    st.integers(1, 5),
    st.integers(1, 41),
    st.integers(1, 41),
    st.integers(0, 2**31),
)
def test_transform_is_orthonormal_for_any_size(
    wavelet: str, levels: int, height: int, width: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 1, height, width, dtype=DOUBLE, generator=generator)
    transform = WaveletTransform(wavelet, levels)
    w = transform.analysis(x)
    back = transform.synthesis(w, (height, width))
    torch.testing.assert_close(back, x, rtol=0, atol=1e-12)
    assert inner(w, w) == pytest.approx(float(x.square().sum()), rel=1e-12)
    # The synthesis is the transpose for all coefficients, also outside the range of D.
    other = tuple(
        torch.randn(part.shape, dtype=DOUBLE, generator=generator) for part in w
    )
    image = transform.synthesis(other, (height, width))
    assert float(inner(w, other)) == pytest.approx(float((x * image).sum()), abs=1e-10)


@in_one_test("size", [(16, 8), (7, 10), (13, 5), (1, 6), (2, 3), (1, 1)])
@in_one_test("wavelet", WAVELETS)
def test_occurring_marks_the_entries_that_are_not_always_zero(
    wavelet: str, size: tuple[int, int]
) -> None:
    transform, x = WaveletTransform(wavelet, 3), torch.rand(9, 2, *size, dtype=DOUBLE)
    w = transform.analysis(x)
    for part, occurring in zip(w, transform.occurring(size, x), strict=True):
        assert (part != 0).any(dim=0).equal(occurring.bool().expand_as(part[0]))


@in_one_test("size", [(16, 8), (7, 10), (5, 5), (1, 6), (2, 3)])
def test_matrix_of_the_transform_is_orthogonal(size: tuple[int, int]) -> None:
    """Without the entries that are 0 for all images, the matrix is square."""
    transform = WaveletTransform("db4", 3)

    def coefficients(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([part.flatten(1) for part in transform.analysis(x)], dim=1)

    D = matrix(coefficients, (1, *size))
    used = D[D.abs().amax(1) > 0]
    eye = torch.eye(size[0] * size[1], dtype=DOUBLE)
    assert used.shape == eye.shape
    assert (D.T @ D - eye).abs().max() < 1e-12
    assert (used @ used.T - eye).abs().max() < 1e-12


def test_details_of_cubic_polynomials_are_zero() -> None:
    """db4 has four vanishing moments. Borders are excluded."""
    t = torch.linspace(-1, 1, 64, dtype=DOUBLE)
    x = (t**3 - t)[:, None] + (2 * t**3 + t**2)[None]
    finest = WaveletTransform("db4", 1).analysis(x[None, None])[-1]
    assert finest[..., 2:-4, 2:-4].abs().max() < 1e-10
    assert finest.abs().max() > 0.1


def test_transform_is_differentiable() -> None:
    transform = WaveletTransform("db4", 2)
    x = torch.rand(1, 2, 5, 6, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(transform.analysis, (x,))
    parts = [w.detach().requires_grad_() for w in transform.analysis(x)]
    assert torch.autograd.gradcheck(
        lambda *w: transform.synthesis(w, (5, 6)), tuple(parts)
    )


def test_first_call_in_inference_mode_leaves_later_gradients_intact() -> None:
    transform = WaveletTransform("db3", 1)
    with torch.inference_mode():
        transform.analysis(torch.rand(1, 1, 11, 13))
    x = torch.rand(1, 1, 11, 13, requires_grad=True)
    sum(w.square().sum() for w in transform.analysis(x)).backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())


def test_samples_are_independent_and_float32_is_preserved() -> None:
    x = torch.rand(3, 3, 21, 30)
    transform = WaveletTransform()
    for part, double in zip(
        transform.analysis(x), transform.analysis(x.double()), strict=True
    ):
        assert part.dtype == torch.float32
        torch.testing.assert_close(part, double.float(), rtol=0, atol=1e-5)
    alone = transform.analysis(x[1:2].double())
    for part, own in zip(transform.analysis(x.double()), alone, strict=True):
        torch.testing.assert_close(part[1:2], own, rtol=0, atol=1e-13)


@in_one_test("wavelet", ["db99", "bior2.2", "dmey", "mexh", ""])
def test_constructor_refuses_a_wavelet_that_is_not_orthonormal(wavelet: str) -> None:
    with pytest.raises(ValueError, match="such as 'db4'"):
        WaveletTransform(wavelet)


def test_constructor_and_methods_refuse_bad_input() -> None:
    with pytest.raises(ValueError, match="levels"):
        WaveletTransform("db4", 0)
    transform = WaveletTransform("db4", 2)
    with pytest.raises(TypeError, match=r"got torch\.complex64"):
        transform.analysis(torch.rand(1, 1, 8, 8, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"\(B, C, H, W\).*got \(8, 8\)"):
        transform.analysis(torch.rand(8, 8))
    w = transform.analysis(torch.rand(1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"size \(8, 12\) have the sizes"):
        transform.synthesis(w, (8, 12))
