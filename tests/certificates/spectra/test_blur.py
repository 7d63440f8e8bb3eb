import pytest
import torch
from deepinv.physics import Blur, SpaceVaryingBlur
from deepinv.physics.functional import gaussian_blur
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deepinv_equilibrium import spectrum
from deepinv_equilibrium.certificates import Kind, UncertifiablePhysicsError
from deepinv_equilibrium.certificates.spectra.blur_rules import impulse_response

from ...one_test import in_one_test
from ..dense_spectrum import check, dense_spectrum

PADDINGS = ["valid", "circular", "replicate", "reflect", "constant"]


def kernel(seed, channels, size, sign, exponent, batch=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    k = torch.randn(batch, channels, *size, generator=generator, dtype=dtype)
    if sign == "motion":  # a horizontal line
        k = torch.zeros_like(k)
        k[..., size[0] // 2, :] = 1 / size[1]
    elif sign == "sparse":
        k = k.abs() * (torch.rand(k.shape, generator=generator) < 0.3)
    elif sign == "positive":
        k = k.abs()
    return k * 10.0**exponent


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.sampled_from(PADDINGS),
    st.sampled_from(["signed", "positive", "motion", "sparse"]),
    st.tuples(st.integers(1, 6), st.integers(3, 6)),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
    st.sampled_from([(1, 1), (1, 2), (2, 2)]),
    st.sampled_from([-3, 0, 3]),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_spectrum_bounds_the_dense_matrix(
    seed, padding, sign, taps, excess, channels, exponent, use_fft, dtype
):
    own, shown = channels
    size = tuple(k + e for k, e in zip(taps, excess, strict=True))
    k = kernel(seed, own, taps, sign, exponent, dtype=dtype)
    try:
        interval = spectrum(Blur(k, padding, use_fft=use_fft), (shown, *size))
    except UncertifiablePhysicsError:
        # deepinv's adjoint of the padding is wrong for kernels of one or two taps.
        assert padding in ("circular", "replicate", "reflect")
        assert min(taps) < 3
        assume(False)
    truth = dense_spectrum(Blur(k.double(), padding), (1, shown, *size))
    positive = padding == "circular" or not bool((k < 0).any())
    check(interval, truth, 1.01 if positive and truth[1] > 0 else None)
    assert interval.kind is Kind.CERTIFIED
    if padding == "circular":
        assert interval.lower.value == pytest.approx(truth[0], abs=1e-9 * truth[1])


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["valid", "constant", "circular"]),
    st.sampled_from([(1, 25), (25, 1), (25, 25)]),
    st.integers(0, 3),
    st.sampled_from(["signed", "positive", "motion"]),
)
def test_spectrum_bounds_long_kernels_on_the_smallest_images(
    seed, padding, taps, excess, sign
):
    # torch's circular padding wraps at most once.
    use_fft = padding == "circular"
    k = kernel(seed, 1, taps, sign, 0)
    if padding == "constant":
        size = (1 + excess, 2 + excess)
    else:
        size = (taps[0] + excess, taps[1] + (3 - excess)) if 1 in taps else (25, 25)
    physics = Blur(k, padding, use_fft=use_fft)
    interval = spectrum(physics, (1, *size))
    if padding == "circular":
        response = impulse_response(physics, (1, *size))
        values = torch.fft.fft2(response).abs().square()
        truth = float(values.min()), float(values.max())
    else:
        truth = dense_spectrum(Blur(k, padding), (1, 1, *size))
    assert interval.upper.value >= truth[1] * (1 - 1e-14)
    assert interval.lower.value <= truth[0]


@in_one_test("padding", PADDINGS)
@in_one_test("size", [(3, 3), (4, 4), (2, 5), (5, 4)])
def test_direct_and_fourier_convolutions_of_deepinv_agree(padding, size):
    # The bound of a direct convolution is computed with the Fourier convolution.
    k = kernel(1, 2, size, "signed", 0)
    x = torch.randn(1, 2, 7, 8, dtype=torch.float64)
    direct, fourier = (Blur(k, padding, use_fft=flag) for flag in (False, True))
    torch.testing.assert_close(direct.A(x), fourier.A(x), rtol=1e-12, atol=1e-12)


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["valid", "circular"]),
    st.tuples(st.integers(1, 3), st.integers(2, 3), st.integers(2, 3)),
    st.booleans(),
)
def test_spectrum_bounds_the_dense_matrix_of_volumes(seed, padding, taps, signed):
    k = kernel(seed, 1, taps, "signed" if signed else "positive", 0)
    size = tuple(t + 1 for t in taps)
    physics = Blur(k, padding, use_fft=True)
    check(spectrum(physics, (1, *size)), dense_spectrum(physics, (1, 1, *size)))


def test_spectrum_of_a_batch_of_filters_holds_for_each_filter():
    k = kernel(0, 1, (3, 3), "positive", 0, batch=3)
    k[1] *= 10
    k[2] /= 10
    for padding in ("circular", "valid"):
        together = spectrum(Blur(k, padding), (1, 6, 5))
        apart = [spectrum(Blur(k[i : i + 1], padding), (1, 6, 5)) for i in range(3)]
        lower = min(interval.lower.value for interval in apart)
        upper = max(interval.upper.value for interval in apart)
        assert together.lower.value == pytest.approx(lower, rel=1e-9, abs=1e-12)
        assert together.upper.value == pytest.approx(upper, rel=2e-3)


@pytest.mark.parametrize("padding", PADDINGS)
def test_upper_bound_of_usual_blurs_is_within_one_per_cent(padding):
    # A Gaussian blur and a diagonal motion blur on 24 x 24 pixels.
    motion = torch.eye(15)[None, None] / 15
    for k in (gaussian_blur(sigma=(1.5, 1.5)), motion):
        interval = spectrum(Blur(k, padding), (3, 24, 24))
        truth = dense_spectrum(Blur(k.double(), padding, use_fft=True), (1, 1, 24, 24))
        check(interval, truth, 1.01)


def test_upper_bound_with_replicate_padding_exceeds_the_sum_of_the_kernel():
    motion = torch.eye(25)[None, None] / 25
    interval = spectrum(Blur(motion, "replicate"), (1, 24, 24))
    assert interval.upper.value > 4


@pytest.mark.parametrize("padding", ["replicate", "circular"])
def test_spectrum_raises_for_a_kernel_with_one_row(padding):
    with pytest.raises(ValueError, match="a Blur cannot be certified"):
        spectrum(Blur(torch.rand(1, 1, 1, 5), padding), (1, 8, 9))


def test_spectrum_of_a_signed_kernel_uses_the_smaller_of_two_bounds():
    signed = torch.tensor([[0.0, 0, 0], [1, 1, -1], [0, 0, 0]])[None, None]
    by_transfer = spectrum(Blur(signed, "constant"), (1, 16, 16)).upper
    assert "transfer function" in by_transfer.source
    assert by_transfer.value == pytest.approx(5, rel=0.03)
    laplacian = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]])[None, None]
    by_modulus = spectrum(Blur(laplacian, "constant"), (1, 2, 2)).upper
    assert "absolute kernel" in by_modulus.source
    truth = dense_spectrum(Blur(laplacian.double(), "constant"), (1, 1, 2, 2))
    assert by_modulus.value == pytest.approx(truth[1], rel=1e-2)


@settings(max_examples=20)
@given(
    st.integers(0, 10**6),
    st.sampled_from(PADDINGS[:4]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_spectrum_of_space_varying_blur_bounds_the_dense_matrix(
    seed, padding, signed, use_fft, mask_first
):
    generator = torch.Generator().manual_seed(seed)
    shape = (3, 3) if padding == "valid" and not mask_first else (5, 5)
    filters = torch.randn(1, 1, 2, 3, 3, generator=generator, dtype=torch.float64)
    multipliers = torch.randn(1, 1, 2, *shape, generator=generator, dtype=torch.float64)
    if not signed:
        filters, multipliers = filters.abs(), multipliers.abs()
    physics = SpaceVaryingBlur(
        filters, multipliers, padding, use_fft=use_fft, mask_first=mask_first
    )
    interval = spectrum(physics, (1, 5, 5))
    truth = dense_spectrum(physics, (1, 1, 5, 5))
    assert interval.kind is Kind.CERTIFIED
    check(interval, truth, None if signed else 1.01)
