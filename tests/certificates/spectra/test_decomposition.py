import pytest
import torch
from deepinv.physics import (
    MRI,
    BlurFFT,
    Decolorize,
    DecomposablePhysics,
    Demosaicing,
    Denoising,
    Inpainting,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from deepinv_equilibrium import spectrum
from deepinv_equilibrium.certificates import Kind

from ..dense_operator import matrix
from ..dense_spectrum import check, dense_spectrum, random


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
    st.sampled_from([(1, 1), (1, 3), (3, 3)]),
    st.sampled_from([-3, 0, 3]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_spectrum_of_blur_fft_is_exact(seed, taps, excess, channels, exponent, dtype):
    own, shown = channels
    size = (shown, *(k + e for k, e in zip(taps, excess, strict=True)))
    k = random(seed, 1, own, *taps, dtype=dtype) * 10.0**exponent
    interval = spectrum(BlurFFT(img_size=size, filter=k), size)
    truth = dense_spectrum(BlurFFT(img_size=size, filter=k.double()), (1, *size))
    assert interval.kind is Kind.CERTIFIED
    loose = 1e-5 if dtype is torch.float32 else 1e-9
    check(interval, truth, 1 + loose)
    assert interval.lower.value >= truth[0] - loose * truth[1]


def test_spectrum_of_blur_fft_with_a_changed_mask():
    physics = BlurFFT(img_size=(1, 6, 6), filter=random(0, 1, 1, 3, 3))
    truth = dense_spectrum(physics, (1, 1, 6, 6))
    physics.mask = 3 * physics.mask
    assert spectrum(physics, (1, 6, 6)).upper.value >= 9 * truth[1]
    physics.mask[..., 1] = 0  # real and imaginary parts are treated differently
    assert spectrum(physics, (1, 6, 6)).kind is Kind.ESTIMATED


def test_spectrum_of_a_batch_of_filters_holds_for_each_filter():
    k = random(0, 3, 2, 3, 3)
    together = spectrum(BlurFFT(img_size=(2, 5, 6), filter=k), (2, 5, 6))
    truth = dense_spectrum(BlurFFT(img_size=(2, 5, 6), filter=k), (3, 2, 5, 6))
    check(together, truth, 1 + 1e-9)


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    st.integers(1, 2),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_spectrum_of_inpainting_is_exact_for_any_mask(seed, size, batch, dtype):
    mask = random(seed, batch, *size, dtype=dtype).clamp(min=-0.5)
    interval = spectrum(Inpainting(img_size=size, mask=mask), size)
    truth = dense_spectrum(
        Inpainting(img_size=size, mask=mask.double()), (batch, *size)
    )
    check(interval, truth, 1 + 1e-11)
    assert interval.lower.value == pytest.approx(truth[0], rel=1e-11)


def test_spectrum_uses_the_current_mask():
    physics = Inpainting(img_size=(1, 4, 4), mask=torch.ones(1, 4, 4))
    assert spectrum(physics, (1, 4, 4)).lower.value == pytest.approx(1)
    physics.update(mask=2 * torch.ones(1, 1, 4, 4))
    assert spectrum(physics, (1, 4, 4)).lower.value == pytest.approx(4)


def test_spectrum_of_demosaicing_and_denoising_is_exact():
    demosaicing = spectrum(Demosaicing(img_size=(4, 4)), (3, 4, 4))
    assert (demosaicing.lower.value, demosaicing.upper.value) == (0, 1 + 1e-12)
    identity = spectrum(Denoising(), (3, 5, 4))
    assert (identity.lower.value, identity.upper.value) == (1 - 1e-12, 1 + 1e-12)


@pytest.mark.parametrize("srf", ["rec601", "flat", (0.2, 0.5, 0.3)])
def test_spectrum_of_decolorize_is_exact(srf):
    physics = Decolorize(srf=srf)
    weights = physics.srf.double()
    interval = spectrum(physics, (3, 2, 3))
    truth = float(weights.square().sum())
    assert interval.upper.value == pytest.approx(truth, rel=1e-11)
    check(interval, (0.0, truth))


def test_spectrum_is_estimated_for_transforms_of_the_user():
    matrix = random(1, 16, 16)

    def transform(x):
        return (x.flatten(1) @ matrix).reshape(x.shape)

    def transpose(x):
        return (x.flatten(1) @ matrix.T).reshape(x.shape)

    for physics in (
        DecomposablePhysics(V_adjoint=transform, V=transpose, mask=torch.tensor(1.0)),
        Denoising(U=transform, U_adjoint=transpose),
    ):
        interval = spectrum(physics, (1, 4, 4))
        truth = float(torch.linalg.matrix_norm(matrix, 2)) ** 2
        assert interval.upper.kind is Kind.ESTIMATED
        assert truth <= interval.upper.value <= 1.05 * truth
        assert interval.lower.value == 0
        assert interval.lower.is_certified


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.tuples(st.integers(3, 5), st.integers(3, 5)))
def test_spectrum_of_blur_fft_in_double_is_that_of_the_operator_of_the_step(seed, size):
    k = random(seed, 1, 1, 3, 3).abs().float()
    physics = BlurFFT(img_size=(1, *size), filter=k).double()
    interval = spectrum(physics, (1, *size))
    for gram in (physics.A_adjoint_A, lambda x: physics.A_adjoint(physics.A(x))):
        values = torch.linalg.eigvalsh(matrix(gram, (1, *size)))
        largest = float(values[-1])
        assert largest <= interval.upper.value <= (1 + 1e-5) * largest
        assert interval.lower.value <= float(values[0]) + 1e-14 * largest


def test_spectrum_is_estimated_if_a_transform_is_no_isometry(monkeypatch):
    physics = MRI(mask=torch.ones(4, 4), img_size=(4, 4))
    assert spectrum(physics, (2, 4, 4)).kind is Kind.CERTIFIED
    monkeypatch.setattr(MRI, "V_adjoint", lambda self, x: 2 * self.im_to_kspace(x))
    monkeypatch.setattr(MRI, "V", lambda self, y: 2 * self.kspace_to_im(y))
    interval = spectrum(physics, (2, 4, 4))
    assert interval.kind is Kind.ESTIMATED
    assert interval.upper.value >= 4
