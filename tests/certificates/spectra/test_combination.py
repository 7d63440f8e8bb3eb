import warnings

import pytest
import torch
from deepinv.physics import Blur, Denoising, Inpainting, LinearPhysics, stack
from hypothesis import given, settings
from hypothesis import strategies as st

from deepinv_equilibrium import spectrum
from deepinv_equilibrium.certificates import AdjointMismatchError, Kind
from deepinv_equilibrium.certificates.spectra.double_precision import double_copy

from ..dense_spectrum import check, dense_spectrum


def parts(seed, order):
    generator = torch.Generator().manual_seed(seed)
    blur = Blur(torch.randn(1, 1, 3, 3, generator=generator), "circular")
    mask = torch.rand(1, 1, 5, 6, generator=generator)
    physics = [blur, Inpainting(img_size=(1, 5, 6), mask=mask), Denoising()]
    return [physics[k] for k in order]


@settings(max_examples=60)
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
    product = Blur(torch.rand(1, 1, 3, 3), "valid") * Blur(
        torch.rand(1, 1, 2, 2), "valid"
    )
    interval = spectrum(product, (1, 7, 8))
    check(interval, dense_spectrum(double_copy(product), (1, 1, 7, 8)))
    assert interval.upper.source == "product over 2 operators"


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
