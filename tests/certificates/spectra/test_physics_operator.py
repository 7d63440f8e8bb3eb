import pytest
import torch
from deepinv.physics import Blur, Denoising, Inpainting, LinearPhysics, stack

from deepinv_equilibrium.certificates import (
    AdjointMismatchError,
    UncertifiablePhysicsError,
)
from deepinv_equilibrium.certificates.spectra.physics_operator import (
    PhysicsOperator,
    batch_size,
    gram_asymmetry,
)

from ...one_test import in_one_test

SIZE = (1, 6, 5)


def physics(A, adjoint):
    return LinearPhysics(A=lambda x, **_: A(x), A_adjoint=lambda y, **_: adjoint(y))


def check(A, adjoint, dtype=torch.float64):
    PhysicsOperator.of(physics(A, adjoint), SIZE, dtype).check_adjoint()


@in_one_test("scale", [1e-9, 1.0, 1e9])
@in_one_test("dtype", [torch.float32, torch.float64])
def test_check_adjoint_accepts_the_transpose_at_every_scale(scale, dtype):
    check(lambda x: scale * x.roll(1, -1), lambda y: scale * y.roll(-1, -1), dtype)
    check(torch.zeros_like, torch.zeros_like, dtype)


def test_check_adjoint_accepts_complex_and_stacked_measurements():
    check(
        lambda x: torch.fft.fft2(x, norm="ortho"),
        lambda y: torch.fft.ifft2(y, norm="ortho").real,
    )
    PhysicsOperator.of(stack(Denoising(), Denoising()), SIZE).check_adjoint()


@in_one_test(
    ("A", "adjoint"),
    [
        (lambda x: x.roll(1, -1), lambda y: y.roll(1, -1)),
        (lambda x: x, lambda y: y * (1 + 1e-9)),
        (lambda x: x, lambda y: 0 * y),
        (lambda x: x + 1e-6, lambda y: y),
        (lambda x: x.abs(), lambda y: y),
        (lambda x: x + torch.rand(()) * 1e-6, lambda y: y),
    ],
)
def test_check_adjoint_raises_for_other_maps_than_the_transpose(A, adjoint):
    with pytest.raises(AdjointMismatchError, match="not the transpose of A") as refusal:
        check(A, adjoint)
    assert refusal.value.mismatch > refusal.value.tolerance


def test_check_adjoint_raises_for_other_shapes_and_nonfinite_values():
    with pytest.raises(UncertifiablePhysicsError, match=r"returns \(1, 1, 3, 5\)"):
        check(lambda x: x[:, :, ::2], lambda y: y)
    with pytest.raises(UncertifiablePhysicsError, match="NaN or infinity"):
        check(lambda x: x / 0, lambda y: y / 0)


def test_check_adjoint_does_not_change_the_random_state():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    check(lambda x: x, lambda y: y)
    assert torch.equal(torch.rand(3), expected)


def test_batch_size_is_that_of_the_parameters():
    assert batch_size(Denoising()) == 1
    assert batch_size(Blur(torch.rand(3, 1, 2, 2))) == 3
    mask = torch.rand(4, 1, 6, 5)
    inpainting = Inpainting(img_size=SIZE, mask=mask)
    assert batch_size(stack(Denoising(), inpainting)) == 4


def test_batch_size_asks_a_physics_for_the_names_of_its_parameters():
    class Gain(LinearPhysics):
        batched_parameters = ("gain",)

        def __init__(self, gain: torch.Tensor):
            super().__init__()
            self.gain = gain

    assert batch_size(Gain(torch.rand(5, 1, 1, 1))) == 5


@in_one_test("scale", [1e-6, 1.0, 1e6])
def test_asymmetry_of_a_gram_operator_is_relative(scale):
    # For a skew S, u^T S v = -v^T S u, and the bound of the two products is reached if
    # S u is a multiple of v, so on two pixels the asymmetry is |sin| of their angle.
    def skew(x):
        return scale * torch.stack([-x[..., 1], x[..., 0]], -1)

    z = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    u, v = (torch.randn(z.shape, generator=generator, dtype=z.dtype) for _ in range(2))
    (a, b), (c, d) = u.flatten().tolist(), v.flatten().tolist()
    sine = abs(a * d - b * c) / float(u.norm() * v.norm())
    found = gram_asymmetry(physics(skew, lambda y: y), z)
    assert found == pytest.approx(sine, rel=1e-12)
    symmetric = physics(lambda x: scale * x.flip(-1), lambda y: y)
    assert gram_asymmetry(symmetric, z) < 1e-15
