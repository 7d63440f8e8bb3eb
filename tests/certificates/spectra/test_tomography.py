import pytest
import torch
from deepinv.physics import Tomography
from hypothesis import given, settings
from hypothesis import strategies as st

from deepinv_equilibrium import spectrum
from deepinv_equilibrium.certificates import AdjointMismatchError, Kind
from deepinv_equilibrium.certificates.spectra.double_precision import double_copy

from ..dense_spectrum import check, dense_spectrum


def tomography(width, **kwargs):
    return Tomography(**{"angles": 5, "normalize": False, **kwargs}, img_width=width)


@settings(max_examples=40)
@given(
    st.integers(3, 10),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(1, 2),
)
def test_spectrum_bounds_the_dense_matrix(
    width, angles, circle, parallel, normalize, channels
):
    physics = tomography(
        width,
        angles=angles,
        circle=circle,
        parallel_computation=parallel,
        normalize=normalize,
    )
    size = (channels, width, width)
    interval = spectrum(physics, size)
    truth = dense_spectrum(double_copy(physics), (1, *size))
    check(interval, truth, 1.01)
    assert interval.upper.kind is Kind.CERTIFIED


def test_spectrum_bounds_the_dense_matrix_of_a_fan_beam():
    physics = tomography(8, fan_beam=True)
    truth = dense_spectrum(double_copy(physics), (1, 1, 8, 8))
    check(spectrum(physics, (1, 8, 8)), truth, 1.01)


def test_upper_bound_of_a_normalised_operator_is_at_least_1():
    physics = tomography(16, normalize=True)
    interval = spectrum(physics, (1, 16, 16))
    assert 1 <= interval.upper.value <= 1.01


def test_spectrum_raises_for_the_approximate_adjoint():
    physics = tomography(8, adjoint_via_backprop=False)
    with pytest.raises(
        AdjointMismatchError, match="adjoint_via_backprop=True"
    ) as refusal:
        spectrum(physics, (1, 8, 8))
    assert refusal.value.physics is not None
    assert refusal.value.mismatch > 1e-4


def test_spectrum_does_not_change_precision_or_adjoint_of_the_physics():
    physics = tomography(6)
    y = physics.A(torch.ones(1, 1, 6, 6))
    before = physics.A_adjoint(y)
    spectrum(physics, (1, 6, 6))
    assert torch.equal(physics.A_adjoint(y), before)
    assert physics.A_adjoint(y).dtype == torch.float32
