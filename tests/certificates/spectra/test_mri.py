import pytest
import torch
from deepinv.physics import MRI, DynamicMRI, MultiCoilMRI
from hypothesis import given, settings
from hypothesis import strategies as st

from deepinv_equilibrium import spectrum
from deepinv_equilibrium.certificates import Kind

from ..dense_spectrum import check, dense_spectrum, random


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_spectrum_of_mri_is_exact(seed, size, binary, dtype):
    mask = random(seed, *size, dtype=dtype)
    mask = (mask > 0).to(dtype) if binary else mask
    interval = spectrum(MRI(mask=mask), (2, *size))
    truth = dense_spectrum(MRI(mask=mask.double()), (1, 2, *size))
    check(interval, truth, 1 + 1e-11)
    assert interval.lower.value == pytest.approx(truth[0], rel=1e-10, abs=1e-13)
    assert interval.kind is Kind.CERTIFIED


def test_spectrum_of_mri_with_masks_for_real_and_imaginary_parts():
    mask = random(3, 2, 4, 5)
    interval = spectrum(MRI(mask=mask), (2, 4, 5))
    check(interval, dense_spectrum(MRI(mask=mask), (1, 2, 4, 5)), 1 + 1e-11)


def test_spectrum_of_volumes_and_of_dynamic_mri():
    mask = random(4, 3, 4, 4)
    volume = MRI(mask=mask, three_d=True)
    interval = spectrum(volume, (2, 3, 4, 4))
    assert interval.upper.value == pytest.approx(float(mask.abs().max()) ** 2)
    dynamic = DynamicMRI(mask=random(5, 2, 3, 4, 4))
    interval = spectrum(dynamic, (2, 3, 4, 4))
    check(interval, dense_spectrum(dynamic, (1, 2, 3, 4, 4)), 1 + 1e-11)


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 3),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.sampled_from(["ones", "binary", "any"]),
)
def test_spectrum_of_multi_coil_mri_bounds_the_dense_matrix(seed, coils, size, kind):
    mask = random(seed, *size)
    mask = {"ones": mask * 0 + 1, "binary": (mask > 0).double(), "any": mask}[kind]
    maps = torch.complex(random(seed + 1, coils, *size), random(seed + 2, coils, *size))
    physics = MultiCoilMRI(mask=mask, coil_maps=maps)
    interval = spectrum(physics, (2, *size))
    truth = dense_spectrum(physics, (1, 2, *size))
    check(interval, truth, 1 + 1e-11 if kind == "ones" else None)
    if kind == "ones":
        assert interval.lower.value == pytest.approx(truth[0], rel=1e-10)


@pytest.mark.filterwarnings("ignore:After updating parameters")
def test_spectrum_is_estimated_for_coil_maps_on_another_axis():
    # The maps broadcast along time: each frame has one coil instead of two.
    mask = random(6, 1, 2, 2, 3, 4)
    maps = torch.complex(random(7, 2, 3, 4), random(8, 2, 3, 4))
    physics = MultiCoilMRI(mask=mask, coil_maps=maps)
    assert spectrum(physics, (2, 2, 3, 4)).kind is Kind.ESTIMATED
