import warnings

import pytest
import torch
from deepinv.physics import (
    MRI,
    Blur,
    Decolorize,
    Denoising,
    Downsampling,
    Inpainting,
    LinearPhysics,
    SpaceVaryingBlur,
    stack,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from deepinv_equilibrium import spectrum
from deepinv_equilibrium.certificates import AdjointMismatchError, Kind
from deepinv_equilibrium.certificates.spectra.double_precision import double_copy

from ..dense_spectrum import check, dense_spectrum, random


def parts(seed, order):
    generator = torch.Generator().manual_seed(seed)
    blur = Blur(torch.randn(1, 1, 3, 3, generator=generator), "circular")
    mask = torch.rand(1, 1, 5, 6, generator=generator)
    physics = [blur, Inpainting(img_size=(1, 5, 6), mask=mask), Denoising()]
    return [physics[k] for k in order]


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.permutations(range(3)), st.integers(2, 3))
def test_spectrum_of_stacked_and_composed_physics_bounds_the_dense_matrix(
    seed, order, count
):
    physics = stack(*parts(seed, order[:count]))
    interval = spectrum(physics, (1, 5, 6))
    check(interval, dense_spectrum(double_copy(physics), (1, 1, 5, 6)))
    assert interval.kind is Kind.CERTIFIED
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # deepinv warns that a product is not decomposable
        product = parts(seed, order)[0] * parts(seed, order)[1]
    interval = spectrum(product, (1, 5, 6))
    check(interval, dense_spectrum(double_copy(product), (1, 1, 5, 6)))


def test_spectrum_of_a_composition_follows_the_image_size():
    product = Blur(torch.rand(1, 1, 3, 3).double(), "valid") * Blur(
        torch.rand(1, 1, 2, 2).double(), "valid"
    )
    interval = spectrum(product, (1, 7, 8))
    check(interval, dense_spectrum(double_copy(product), (1, 1, 7, 8)))
    assert interval.upper.value <= 1.01 * dense_spectrum(product, (1, 1, 7, 8))[1]


def test_upper_bound_is_estimated_if_a_part_is_estimated():
    unknown = LinearPhysics(A=lambda x: 2 * x, A_adjoint=lambda y: 2 * y)
    interval = spectrum(stack(Denoising(), unknown), (1, 4, 4))
    assert interval.lower.value == pytest.approx(1)
    assert interval.lower.is_certified
    assert interval.upper.kind is Kind.ESTIMATED
    assert interval.upper.delta == 1e-3
    assert 5 <= interval.upper.value <= 5.1


def test_spectrum_raises_for_a_stack_that_averages_adjoints():
    with pytest.warns(DeprecationWarning, match="reduction"):
        physics = type(stack(Denoising()))([Denoising(), Denoising()], reduction="mean")
    with pytest.raises(AdjointMismatchError):
        spectrum(physics, (1, 4, 4))


@given(
    st.integers(0, 10**6), st.integers(1, 3), st.booleans(), st.sampled_from([0.0, 0.5])
)
def test_spectrum_of_a_stack_of_masks_is_exact(seed, count, fourier, least):
    size = (2, 2, 3)
    masks = random(seed, count, 2, 3).clamp(min=least)
    parts = [
        (
            MRI(mask=mask, img_size=(2, 3))
            if fourier
            else Inpainting(img_size=size, mask=mask[None])
        )
        for mask in masks
    ]
    physics = stack(*parts)
    interval = spectrum(physics, size)
    truth = dense_spectrum(physics, (1, *size))
    check(interval, truth, 1 + 1e-9)
    assert interval.lower.value == pytest.approx(truth[0], rel=1e-9, abs=1e-12)


def test_spectrum_of_a_mask_and_its_complement_is_one():
    mask = (random(0, 1, 4, 4) > 0).double()
    size = (1, 4, 4)
    parts = [Inpainting(img_size=size, mask=m) for m in (mask, 1 - mask)]
    interval = spectrum(stack(*parts), size)
    assert interval.lower.value == pytest.approx(1, rel=1e-11)
    assert interval.upper.value == pytest.approx(1, rel=1e-11)
    impulse = torch.zeros(1, 1, 3, 3)
    impulse[..., 1, 1] = 1
    interval = spectrum(stack(*parts, Blur(impulse, "circular")), size)
    assert interval.lower.value == pytest.approx(2, rel=1e-9)


def nonnegative_part(kind, seed):
    """Return a physics of 6 x 6 images with nonnegative entries."""
    kernel = random(seed, 1, 1, 3, 3).abs()
    if kind == "mask":
        return Inpainting(img_size=(2, 6, 6), mask=random(seed, 1, 6, 6).abs())
    if kind == "channels":
        srf = random(seed, 2).abs()
        return Decolorize(channels=2, srf=tuple((srf / srf.sum()).tolist())).double()
    if kind == "varying":
        filters, multipliers = random(seed, 1, 2, 2, 3, 3), random(seed, 1, 2, 2, 6, 6)
        return SpaceVaryingBlur(filters.abs(), multipliers.abs(), padding="replicate")
    if kind == "downsampling":
        return Downsampling((2, 6, 6), filter=kernel, factor=2, padding="replicate")
    return Blur(kernel, padding=kind)


KINDS = ["mask", "channels", "varying", "downsampling", "valid", "reflect", "circular"]


@settings(max_examples=15)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["mask", "varying", "reflect", "circular"]),
    st.sampled_from(KINDS),
    st.booleans(),
)
def test_spectrum_of_nonnegative_parts_is_that_of_the_whole(seed, one, two, stacked):
    first, second = nonnegative_part(one, seed), nonnegative_part(two, seed + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a product is not decomposable
        physics = stack(first, second) if stacked else second * first
    interval = spectrum(physics, (2, 6, 6))
    assert interval.kind is Kind.CERTIFIED
    check(interval, dense_spectrum(physics, (1, 2, 6, 6)), 1.01)


def test_upper_bound_of_a_signed_composition_is_the_product():
    signed = Blur(random(0, 1, 1, 3, 3), "replicate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        product = nonnegative_part("mask", 0) * signed
    interval = spectrum(product, (2, 6, 6))
    assert interval.upper.source == "product over 2 operators"
    check(interval, dense_spectrum(product, (1, 2, 6, 6)))
