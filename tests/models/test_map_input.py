"""Least-squares images by conjugate gradients, and the checks of a measurement."""

from __future__ import annotations

import deepinv as dinv
import pytest
import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from deepinv_equilibrium.models.least_squares_image import (
    conjugate_gradient_image,
    map_input,
)

from ..certificates.dense_operator import matrix
from ..one_test import in_one_test

DOUBLE = torch.float64
KERNEL = torch.tensor([[0.0, 0.1, 0.0], [0.2, 0.6, 0.0], [0.1, 0.0, 0.0]])


def blur() -> dinv.physics.Blur:
    return dinv.physics.Blur(filter=KERNEL[None, None].double(), padding="circular")


def krylov_least_squares(A: Tensor, y: Tensor, iterations: int) -> Tensor:
    """Return the image of least energy in the Krylov space of A^T A and A^T y."""
    space = [A.T @ y]
    for _ in range(iterations - 1):
        space.append(A.T @ (A @ space[-1]))
    basis, _ = torch.linalg.qr(torch.stack(space, dim=1))
    return basis @ torch.linalg.lstsq(A @ basis, y[:, None]).solution[:, 0]


@pytest.mark.parametrize("iterations", [1, 2, 4])
def test_map_input_returns_the_least_squares_image_of_a_krylov_space(
    iterations: int,
) -> None:
    physics, y = blur(), torch.rand(2, 1, 4, 3, dtype=DOUBLE)
    A = matrix(physics.A, (1, 4, 3))
    z = map_input(y, physics, iterations)
    for image, measurement in zip(z, y, strict=True):
        expected = krylov_least_squares(A, measurement.flatten(), iterations)
        torch.testing.assert_close(image.flatten(), expected)


def test_map_input_without_iterations_returns_the_adjoint() -> None:
    physics, y = blur(), torch.rand(2, 1, 4, 3, dtype=DOUBLE)
    assert torch.equal(map_input(y, physics, 0), physics.A_adjoint(y))


def test_map_input_does_not_change_converged_samples() -> None:
    # Identity: one iteration solves it; zero: none is needed. Neither turns into NaN.
    y = torch.rand(3, 2, 4, 3, dtype=DOUBLE)
    y[1] = 0
    z = map_input(y, dinv.physics.Denoising(), 50)
    torch.testing.assert_close(z, y, rtol=1e-15, atol=0)


def test_map_input_adds_nothing_from_the_null_space() -> None:
    # A subsampled transform is solved by its adjoint; what rounding leaves after it
    # has next to no curvature to be divided by.
    mask = (torch.rand(64, 64) > 0.7).float()
    y = mask * torch.randn(3, 2, 64, 64)
    physics = dinv.physics.MRI(mask=mask)
    for measurement in (y, 1e6 * y, 1e-6 * y):
        z = map_input(measurement, physics, 8)
        expected = physics.A_adjoint(measurement)
        error = (z - expected).abs().max() / expected.abs().max()
        assert error < 1e-6


def test_map_input_solves_each_sample_independently() -> None:
    y = torch.rand(3, 1, 4, 3, dtype=DOUBLE) * torch.tensor([1e-8, 1.0, 1e8])[
        :, None, None, None
    ].to(DOUBLE)
    together = map_input(y, blur(), 5)
    for k in range(3):
        alone = map_input(y[k : k + 1], blur(), 5)
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [DOUBLE, torch.complex128])
def test_map_input_passes_gradients_to_the_measurement(dtype: torch.dtype) -> None:
    factor = torch.randn(1, 1, 2, 3, dtype=dtype)
    physics = LinearPhysics(
        A=lambda x, **_: factor * x, A_adjoint=lambda y, **_: factor.conj() * y
    )
    y = torch.randn(2, 1, 2, 3, dtype=dtype, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda y: conjugate_gradient_image(physics, y, 3), y
    )


def test_map_input_solves_complex_normal_equations() -> None:
    factor = 1 + 0.5 * torch.randn(1, 1, 2, 3, dtype=torch.complex128)
    physics = LinearPhysics(
        A=lambda x, **_: factor * x, A_adjoint=lambda y, **_: factor.conj() * y
    )
    x = torch.randn(2, 1, 2, 3, dtype=torch.complex128)
    torch.testing.assert_close(map_input(factor * x, physics, 30), x)


def test_map_input_raises_for_physics_that_is_not_linear() -> None:
    with pytest.raises(TypeError, match=r"physics must be a deepinv LinearPhysics"):
        map_input(torch.rand(1, 1, 4, 4), dinv.physics.Physics(A=torch.tanh), 3)
    with pytest.raises(TypeError, match="got NoneType"):
        map_input(torch.rand(1, 1, 4, 4), None, 3)


def test_map_input_raises_for_physics_without_an_adjoint() -> None:
    def refuse(y: Tensor, **_: object) -> Tensor:
        raise NotImplementedError("no adjoint")

    physics = LinearPhysics(A=lambda x, **_: 2 * x, A_adjoint=refuse)
    with pytest.raises(ValueError, match="or its A_adjoint fails: no adjoint"):
        map_input(torch.rand(1, 1, 4, 4), physics, 3)
    # deepinv's adjoint needs the size of the image.
    with pytest.raises(ValueError, match="A_adjoint fails: img_size must be set"):
        map_input(torch.rand(1, 1, 4, 4), LinearPhysics(A=lambda x, **_: x), 3)


@pytest.mark.parametrize("iterations", [0, 4])
def test_map_input_raises_for_measurement_of_another_shape(iterations: int) -> None:
    physics = dinv.physics.Inpainting((1, 4, 6), mask=torch.ones(1, 4, 6))
    with pytest.raises(
        ValueError, match=r"y of shape \(2, 1, 5, 6\) is not a measurement"
    ):
        map_input(torch.rand(2, 1, 5, 6), physics, iterations)
    # These shapes could be broadcast.
    with pytest.raises(ValueError, match=r"physics.A returns \(2, 1, 4, 6\)"):
        map_input(torch.rand(2, 1, 1, 6), physics, iterations)
    with pytest.raises(ValueError, match=r"y of shape NoneType is not a measurement"):
        map_input(None, physics, iterations)


@in_one_test("shape", [(2, 4), (2, 3, 4), (1, 1, 2, 3, 4, 5), (0, 1, 4, 4)])
def test_map_input_raises_for_adjoint_that_is_not_an_image(
    shape: tuple[int, ...],
) -> None:
    with pytest.raises(ValueError, match="adjoint of the measurement must have shape"):
        map_input(torch.rand(shape), dinv.physics.Denoising(), 0)


def test_map_input_accepts_stacked_physics() -> None:
    physics = dinv.physics.StackedLinearPhysics(
        [dinv.physics.Denoising(), dinv.physics.Denoising()]
    )
    x = torch.rand(2, 1, 4, 3, dtype=DOUBLE)
    torch.testing.assert_close(map_input(physics.A(x), physics, 3), x)


def test_map_input_raises_for_measurement_that_is_not_finite():
    y = torch.rand(3, 1, 4, 4)
    y[1, 0, 2, 2] = torch.nan
    with pytest.raises(ValueError, match=r"NaN .* in samples \[1\]"):
        map_input(y, dinv.physics.Denoising(), 2)
