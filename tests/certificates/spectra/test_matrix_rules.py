"""Spectra of physics with a small matrix, and of the single-pixel camera."""

import warnings

import torch
from deepinv.physics import (
    CompressedSensing,
    HyperSpectralUnmixing,
    SinglePixelCamera,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from deepinv_equilibrium import spectrum
from deepinv_equilibrium.certificates import Kind
from deepinv_equilibrium.certificates.spectra.double_precision import double_copy

from ..dense_spectrum import check, dense_spectrum, random


def certified(physics, size):
    interval = spectrum(physics, size)
    truth = dense_spectrum(double_copy(physics), (1, *size))
    assert interval.kind is Kind.CERTIFIED
    check(interval, truth, 1 + 1e-6)
    assert interval.lower.value >= truth[0] - 1e-6 * truth[1]


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 12), st.booleans())
def test_spectrum_of_compressed_sensing_is_exact(seed, m, channelwise):
    rng = torch.Generator().manual_seed(seed)
    physics = CompressedSensing(m, (2, 2, 2), channelwise=channelwise, rng=rng)
    certified(physics, (2, 2, 2))


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4))
def test_spectrum_of_unmixing_is_exact(seed, materials, bands):
    physics = HyperSpectralUnmixing(M=random(seed, materials, bands))
    certified(physics, (materials, 2, 1))


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 16), st.booleans())
def test_spectrum_of_the_single_pixel_camera_is_exact(seed, m, fast):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        physics = SinglePixelCamera(
            m, (2, 4, 4), fast=fast, rng=torch.Generator().manual_seed(seed)
        )
    certified(physics, (2, 4, 4))
