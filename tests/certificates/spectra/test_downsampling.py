import pytest
import torch
from deepinv.physics import Downsampling, DownsamplingMatlab, Upsampling
from hypothesis import given, settings
from hypothesis import strategies as st

from deepinv_equilibrium import spectrum
from deepinv_equilibrium.certificates import Kind

from ..dense_spectrum import check, dense_spectrum


@settings(max_examples=50)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["valid", "circular", "replicate", "reflect"]),
    st.integers(1, 4),
    st.tuples(st.integers(3, 5), st.integers(3, 5)),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
    st.integers(1, 2),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_spectrum_bounds_the_dense_matrix(
    seed, padding, factor, taps, excess, channels, signed, dtype
):
    generator = torch.Generator().manual_seed(seed)
    k = torch.randn(1, 1, *taps, generator=generator, dtype=dtype)
    k = k if signed else k.abs()
    size = (channels, *(t + e for t, e in zip(taps, excess, strict=True)))

    def physics(kernel):
        return Downsampling(size, filter=kernel, factor=factor, padding=padding)

    interval = spectrum(physics(k), size)
    truth = dense_spectrum(physics(k.double()), (1, *size))
    exact = padding == "circular" and all(n % factor == 0 for n in size[1:])
    check(interval, truth, 1 + 1e-9 if exact else None if signed else 1.01)
    assert interval.kind is Kind.CERTIFIED


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_spectrum_is_exact_without_filter(factor):
    physics = Downsampling((1, 7, 6), filter=None, factor=factor)
    truth = dense_spectrum(physics, (1, 1, 7, 6))
    interval = spectrum(physics, (1, 7, 6))
    check(interval, truth, 1 + 1e-11)
    assert interval.lower.value == pytest.approx(truth[0])


@pytest.mark.parametrize("name", ["gaussian", "bilinear", "bicubic", "sinc"])
def test_spectrum_is_exact_for_the_filters_of_deepinv(name):
    physics = Downsampling((3, 16, 16), filter=name, factor=4)
    interval = spectrum(physics, (3, 16, 16))
    double = Downsampling((1, 16, 16), filter=physics.filter.double(), factor=4)
    check(interval, dense_spectrum(double, (1, 1, 16, 16)), 1 + 1e-9)


def test_spectrum_is_estimated_for_related_operators():
    for physics in (
        Upsampling((1, 8, 8), filter="bilinear", factor=2),
        DownsamplingMatlab(factor=2),
    ):
        size = (1, 4, 4) if isinstance(physics, Upsampling) else (1, 8, 8)
        assert spectrum(physics, size).upper.kind is Kind.ESTIMATED
