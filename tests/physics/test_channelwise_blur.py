from __future__ import annotations

import copy

import deepinv as dinv
import pytest
import torch
from deepinv.physics import Blur, BlurFFT, LinearPhysics

import deepinv_equilibrium as deq
from deepinv_equilibrium.physics import (
    ChannelwiseBlur,
    ChannelwiseGaussianNoise,
    directional_kernels,
)

from ..one_test import in_one_test

ALL_PADDINGS = ("valid", "circular", "replicate", "reflect", "constant", "zeros")


def image(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)


def blur(length: int = 5, padding: str = "circular", **kwargs) -> ChannelwiseBlur:
    kernels = directional_kernels(length, dtype=torch.float64)
    return ChannelwiseBlur(kernels, padding, **kwargs)


def matrix(apply, shape: tuple[int, ...]) -> torch.Tensor:
    basis = torch.eye(torch.Size(shape).numel(), dtype=torch.float64)
    return apply(basis.reshape(-1, *shape)).flatten(1).T


def test_default_blur_averages_25_pixels_along_row_column_and_diagonal() -> None:
    physics = ChannelwiseBlur()
    assert torch.equal(physics.filter, directional_kernels(25))
    physics = blur(25)
    x = image(2, 3, 40, 31)
    shifts = range(-12, 13)
    red = sum(x[:, 0].roll(s, -1) for s in shifts) / 25
    green = sum(x[:, 1].roll(s, -2) for s in shifts) / 25
    blue = sum(x[:, 2].roll((s, s), (-2, -1)) for s in shifts) / 25
    torch.testing.assert_close(
        physics(x), torch.stack((red, green, blue), 1), rtol=0, atol=1e-14
    )


@in_one_test("padding", ALL_PADDINGS)
@in_one_test("size", [(25, 25), (32, 47), (13, 64)])
@in_one_test("kernel", [(25, 25), (1, 25), (25, 1), (24, 6), (1, 1)])
def test_adjoint_is_exact(padding, size, kernel) -> None:
    h, w = kernel
    physics = ChannelwiseBlur(image(3, h, w, seed=1), padding)
    x = image(2, 3, *size) - 0.5
    if padding in ("valid", "circular") and (size[0] < h or size[1] < w):
        with pytest.raises(ValueError, match=r"x has .* pixels.*larger image"):
            physics.A(x)
        return
    y = physics.A(x)
    v = image(*y.shape, seed=2) - 0.5
    gap = (y * v).sum() - (x * physics.A_adjoint(v)).sum()
    assert abs(gap) <= 1e-12 * y.norm() * v.norm()
    assert physics.adjointness_test(x, num_samples=3) < 1e-11


@in_one_test("padding", ALL_PADDINGS)
@in_one_test(("dtype", "precision"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_blur_equals_spatial_blur_of_deepinv(padding, dtype, precision) -> None:
    kernels = directional_kernels(25, dtype=dtype)
    x = image(2, 3, 41, 36, dtype=dtype)
    physics, spatial = ChannelwiseBlur(kernels, padding), Blur(kernels, padding)
    y = spatial.A(x)
    for ours, theirs in (
        (physics.A(x), y),
        (physics.A_adjoint(y), spatial.A_adjoint(y)),
    ):
        assert (ours - theirs).abs().max() < precision * theirs.abs().max()


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_number_of_channels(channels: int) -> None:
    kernels = image(channels, 3, 3, seed=1)
    x = image(2, channels, 7, 8)
    together = ChannelwiseBlur(kernels).A(x)
    for c in range(channels):
        alone = ChannelwiseBlur(kernels[c : c + 1]).A(x[:, c : c + 1])
        torch.testing.assert_close(together[:, c : c + 1], alone, rtol=0, atol=1e-14)


def test_each_sample_has_its_own_kernel_in_a_batch_of_kernels() -> None:
    kernels = image(2, 3, 3, 4, seed=1)
    x = image(2, 3, 9, 8)
    together = ChannelwiseBlur(kernels).A(x)
    for b in range(2):
        alone = ChannelwiseBlur(kernels[b]).A(x[b : b + 1])
        torch.testing.assert_close(together[b : b + 1], alone, rtol=0, atol=1e-14)


@in_one_test("padding", ALL_PADDINGS)
def test_normal_operators_equal_products_of_operator_and_adjoint(padding: str) -> None:
    physics = blur(4, padding)
    x = image(2, 3, 8, 9)
    y = physics.A(x)
    torch.testing.assert_close(
        physics.A_adjoint_A(x), physics.A_adjoint(y), rtol=0, atol=1e-14
    )
    torch.testing.assert_close(
        physics.A_A_adjoint(y), physics.A(physics.A_adjoint(y)), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize(
    "size", [(6, 7), (10, 10)]
)  # 5 pixels have zeros on a grid of 10
def test_circular_a_dagger_is_pseudo_inverse(size: tuple[int, int]) -> None:
    physics = blur(5)
    shape = (3, *size)
    dense = torch.linalg.pinv(matrix(physics.A, shape), rtol=1e-10)
    torch.testing.assert_close(
        matrix(physics.A_dagger, shape), dense, rtol=1e-9, atol=1e-9
    )


def test_circular_a_dagger_drops_frequencies_that_are_zero_up_to_rounding():
    physics = ChannelwiseBlur(directional_kernels(25))
    y = physics.A(image(1, 3, 50, 100, dtype=torch.float32))
    back = physics.A(physics.A_dagger(y))
    torch.testing.assert_close(back, y, rtol=0, atol=1e-5)
    assert physics.A_dagger(y).abs().max() < 10


@pytest.mark.parametrize("padding", ["valid", "replicate"])
def test_a_dagger_of_other_paddings_uses_solver_of_deepinv(padding: str) -> None:
    physics = blur(3, padding, max_iter=2000, tol=1e-12)
    y = physics.A(image(1, 3, 6, 7))
    x = physics.A_dagger(y, solver="lsqr")
    torch.testing.assert_close(physics.A(x), y, rtol=0, atol=1e-6)


# Other paddings have the accuracy of deepinv's conjugate gradients.
@pytest.mark.parametrize(
    ("padding", "precision"), [("circular", 1e-14), ("valid", 1e-6), ("reflect", 1e-6)]
)
@pytest.mark.parametrize("gamma", [0.5, torch.tensor([0.5, 0.5]), torch.tensor(0.5)])
def test_prox_l2_satisfies_optimality_condition(padding, precision, gamma) -> None:
    physics = blur(5, padding, max_iter=500, tol=1e-12)
    z = image(2, 3, 9, 11)
    y = physics.A(image(2, 3, 9, 11, seed=1))
    x = physics.prox_l2(z, y, gamma)
    gradient = 0.5 * physics.A_adjoint(physics.A(x) - y) + x - z
    assert gradient.norm() < precision * z.norm()


def test_circular_prox_l2_accepts_weight_per_sample_and_number_or_none_as_z() -> None:
    physics = blur(5)
    y = physics.A(image(2, 3, 8, 9))
    both = physics.prox_l2(None, y, torch.tensor([0.1, 10.0], dtype=torch.float64))
    for b, gamma in enumerate((0.1, 10.0)):
        alone = physics.prox_l2(0.0, y[b : b + 1], gamma)
        torch.testing.assert_close(both[b : b + 1], alone, rtol=0, atol=1e-14)
    reference = BlurFFT((3, 8, 9), physics.filter).prox_l2(y, y, 0.3)
    torch.testing.assert_close(
        physics.prox_l2(y, y, 0.3), reference, rtol=0, atol=1e-12
    )


@in_one_test("method", ["A", "A_adjoint", "A_adjoint_A", "A_dagger"])
def test_methods_are_differentiable_in_filter_and_image(method: str) -> None:
    kernels = (image(1, 2, 3, 2, seed=1) + torch.eye(3, 2)).requires_grad_()
    physics = ChannelwiseBlur(torch.zeros(1, 2, 3, 2, dtype=torch.float64))

    def apply(kernels: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        physics.update_parameters(filter=kernels)
        return getattr(physics, method)(x)

    x = image(1, 2, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(apply, (kernels, x), fast_mode=True)


def test_prox_l2_is_differentiable_in_filter_weight_and_images() -> None:
    physics = ChannelwiseBlur(torch.zeros(1, 2, 3, 3, dtype=torch.float64))

    def prox(kernels, gamma, z, y):
        physics.update_parameters(filter=kernels)
        return physics.prox_l2(z, y, gamma)

    leaves = (
        image(1, 2, 3, 3),
        torch.tensor([0.4], dtype=torch.float64),
        image(1, 2, 4, 5, seed=1),
        image(1, 2, 4, 5, seed=2),
    )
    assert torch.autograd.gradcheck(
        prox, tuple(leaf.requires_grad_() for leaf in leaves)
    )


def test_a_dagger_of_singular_blur_has_finite_gradient() -> None:
    kernels = directional_kernels(5, dtype=torch.float64).requires_grad_()
    physics = ChannelwiseBlur(kernels)
    physics.A_dagger(image(1, 3, 10, 10)).sum().backward()
    assert kernels.grad is not None
    assert kernels.grad.isfinite().all()


def test_float64_image_keeps_its_precision_with_float32_filter() -> None:
    physics = ChannelwiseBlur()
    x = image(1, 3, 32, 32)
    assert physics(x).dtype == torch.float64
    assert physics.adjointness_test(x) < 1e-12
    assert physics.to(torch.float64).filter.dtype == torch.float64


def test_blur_is_copied_saved_composed_and_used_in_deepinv() -> None:
    noise = ChannelwiseGaussianNoise((0.1, 0.2, 0.3), rng=torch.Generator())
    physics = blur(5, noise_model=noise)
    assert isinstance(physics, LinearPhysics)
    x = image(2, 3, 12, 10)

    y = physics(x, seed=3)
    assert (y != physics.A(x)).all()
    copies = (copy.deepcopy(physics), physics.clone())
    for other in copies:
        torch.testing.assert_close(other(x, seed=3), y, rtol=0, atol=0)
    fresh = ChannelwiseBlur(torch.zeros_like(physics.filter), noise_model=noise)
    fresh.load_state_dict(physics.state_dict())
    torch.testing.assert_close(fresh.A(x), physics.A(x), rtol=0, atol=0)

    composed = physics * blur(3, "reflect")
    assert composed.adjointness_test(x) < 1e-12

    data_fidelity = dinv.optim.L2()
    torch.testing.assert_close(
        data_fidelity.grad(x, y, physics), physics.A_adjoint(physics.A(x) - y)
    )
    torch.testing.assert_close(
        data_fidelity.prox(x, y, physics, gamma=0.5), physics.prox_l2(x, y, 0.5)
    )

    torch.manual_seed(0)
    sqnorm = physics.compute_sqnorm(x[:1], max_iter=2000, tol=1e-9, verbose=False)
    torch.testing.assert_close(sqnorm.item(), 1.0, rtol=0, atol=1e-5)


def test_one_call_updates_filter_and_noise_level() -> None:
    generator = dinv.physics.generator.MotionBlurGenerator(
        (7, 7), rng=torch.Generator().manual_seed(0)
    )
    physics = ChannelwiseBlur(noise_model=ChannelwiseGaussianNoise((1.0, 1.0, 1.0)))
    x = image(2, 3, 16, 16, dtype=torch.float32)
    params = generator.step(batch_size=2)
    y = physics(x, **params, sigma=torch.zeros(3))
    torch.testing.assert_close(y, Blur(params["filter"], "circular")(x))
    torch.testing.assert_close(physics.filter, params["filter"])


@pytest.mark.parametrize("padding", ["same", "Valid", None])
def test_unknown_padding_is_refused(padding) -> None:
    with pytest.raises(ValueError, match=f"padding must be.*got {padding!r}"):
        ChannelwiseBlur(padding=padding)


def test_unknown_keyword_is_refused() -> None:
    with pytest.raises(TypeError, match="kernels"):
        ChannelwiseBlur(kernels=directional_kernels())


@in_one_test(
    ("kernels", "error", "message"),
    [
        (torch.ones(3, 3), ValueError, r"filter must have shape.*\(3, 3\)"),
        (torch.ones(3, 0, 3), ValueError, r"no empty axis.*\(3, 0, 3\)"),
        (torch.ones(3, 3, 3).int(), TypeError, "filter must be a real.*int32"),
        (torch.ones(3, 3, 3) + 0j, TypeError, "filter must be a real.*complex64"),
        ([[1.0]], TypeError, "filter must be a tensor, got list"),
    ],
)
def test_bad_filter_is_refused_by_constructor_and_update(
    kernels, error, message
) -> None:
    with pytest.raises(error, match=message):
        ChannelwiseBlur(kernels)
    with pytest.raises(error, match=message):
        ChannelwiseBlur().A(image(1, 3, 32, 32), filter=kernels)


@in_one_test("method", ["A", "A_adjoint", "A_adjoint_A", "A_dagger"])
@in_one_test(
    ("x", "error", "message"),
    [
        (torch.ones(1, 1, 32, 32), ValueError, "has 1 channels.*3 kernels"),
        (torch.ones(4, 3, 32, 32), ValueError, "has 4 samples.*a batch of 2"),
        (torch.ones(3, 32, 32), ValueError, r"\(B, C, H, W\), got \(3, 32, 32\)"),
        (torch.ones(2, 3, 32, 24), ValueError, r"\(32, 24\) pixels.*\(25, 25\)"),
        (torch.ones(2, 3, 32, 32).int(), TypeError, "floating-point.*int32"),
        (torch.ones(2, 3, 32, 32) + 0j, TypeError, "floating-point.*complex64"),
    ],
)
def test_image_of_wrong_shape_or_type_is_refused(method, x, error, message) -> None:
    physics = ChannelwiseBlur(directional_kernels().repeat(2, 1, 1, 1))
    with pytest.raises(error, match=message):
        getattr(physics, method)(x)


def test_reflect_padding_refuses_image_smaller_than_its_margin():
    physics = ChannelwiseBlur(padding="reflect")
    assert physics.A(image(1, 3, 13, 13)).shape == (1, 3, 13, 13)
    with pytest.raises(ValueError, match=r"\(12, 13\) pixels.*\(13, 13\)"):
        physics.A(image(1, 3, 12, 13))


@pytest.mark.parametrize("padding", ["replicate", "constant"])
def test_image_of_one_pixel(padding: str) -> None:
    x = image(1, 3, 1, 1)
    kept = 1.0 if padding == "replicate" else 1 / 25
    torch.testing.assert_close(
        ChannelwiseBlur(padding=padding).A(x), kept * x, rtol=1e-6, atol=0
    )


def test_prox_l2_refuses_z_of_wrong_shape() -> None:
    with pytest.raises(ValueError, match="z has 1 channels"):
        blur().prox_l2(image(1, 1, 8, 8), image(1, 3, 8, 8), 1.0)


@in_one_test("padding", ALL_PADDINGS)
@in_one_test("size", [(1, 5), (5, 1), (2, 2), (4, 3)])
@in_one_test("signed", [False, True])
def test_spectrum_bounds_dense_singular_values(padding, size, signed) -> None:
    kernels = image(2, *size) - (0.5 if signed else 0)
    physics = ChannelwiseBlur(kernels.float(), padding)
    shape = (2, 7, 6)
    interval = deq.spectrum(physics, shape)
    dense = matrix(ChannelwiseBlur(kernels.float().double(), padding).A, shape)
    squares = torch.linalg.svdvals(dense).square()
    largest = float(squares[0])
    smallest = float(squares[-1]) if padding != "valid" else 0.0
    assert interval.kind is deq.certificates.Kind.CERTIFIED
    assert interval.upper.value >= largest
    assert interval.lower.value <= smallest + 1e-14 * largest
    if padding == "circular":
        assert interval.lower.value == pytest.approx(smallest, abs=1e-9 * largest)
    if padding == "circular" or not signed:
        assert interval.upper.value <= 1.01 * largest
