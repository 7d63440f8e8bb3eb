from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium import CG, Implicit
from deepinv_equilibrium.optim.total_variation import (
    Jumps,
    PiecewiseConstantStep,
    TVNorm,
    solve_denoising,
)
from deepinv_equilibrium.optim.total_variation.implicit_gradient import (
    attach_implicit_gradient,
)

from ...one_test import in_one_test
from .weightings import NORMS, VOLUME, random_images, random_weight

DTYPES = [torch.float64, torch.complex128]


def found_jumps(
    v: Tensor, weight: Tensor, norm: TVNorm, tol: float = 1e-12
) -> tuple[Tensor, Tensor, Jumps]:
    found = solve_denoising(v, weight, norm, tol, 5000)
    jumps = Jumps.of(found.x, found.dual, weight, norm, found.error_bound)
    return found.x, found.dual, jumps


def test_jumps_are_found_in_a_piecewise_constant_image():
    # One row with two plateaus of three pixels; the jump moves each by w / 3.
    v = torch.tensor([0.0, 0.1, -0.1, 1.0, 1.1, 0.9]).double().reshape(1, 1, 1, 6)
    weight = torch.full((1, 1, 1, 1, 1), 0.15).double()
    x, _, jumps = found_jumps(v, weight, "isotropic")
    expected = torch.tensor([0.05, 0.05, 0.05, 0.95, 0.95, 0.95]).double()
    torch.testing.assert_close(x.flatten(), expected, rtol=0, atol=1e-6)
    assert jumps.field.flatten().tolist() == [False, False, True, False, False, False]
    assert jumps.labels.tolist() == [[0, 0, 0, 3, 3, 3]]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_minimiser_is_the_fixed_point_of_the_step(norm: TVNorm, dtype: torch.dtype):
    v, weight = random_images(0, VOLUME, dtype), random_weight(1, VOLUME)
    x, _, jumps = found_jumps(v, weight, norm)
    step = PiecewiseConstantStep(x, lambda x: x - v, weight, norm, jumps)
    c = torch.zeros(2, x[0].numel(), dtype=dtype)
    moved, image = step.step_and_output(c)
    assert torch.equal(image, x)
    assert torch.equal(step(c), moved)
    assert moved.abs().max() < 1e-5


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_jacobian_of_the_step_is_symmetric_and_below_the_identity(
    norm: TVNorm, dtype: torch.dtype
):
    v, weight = random_images(0, (1, 1, 3, 3), dtype), random_weight(1, (1, 1, 3, 3))
    x, _, jumps = found_jumps(v, weight, norm)
    step = PiecewiseConstantStep(x, lambda x: x - v, weight, norm, jumps)
    c = torch.zeros(1, x.numel(), dtype=dtype)

    def real(c: Tensor) -> Tensor:
        moved = step(torch.view_as_complex(c) if v.is_complex() else c)
        return torch.view_as_real(moved) if v.is_complex() else moved

    start = torch.view_as_real(c) if v.is_complex() else c
    jacobian = torch.autograd.functional.jacobian(real, start)
    jacobian = jacobian.reshape(start.numel(), start.numel())
    torch.testing.assert_close(jacobian, jacobian.mT, rtol=0, atol=1e-10)
    assert torch.linalg.eigvalsh(jacobian)[-1] <= 1 + 1e-10


@pytest.mark.parametrize("norm", NORMS)
def test_force_equals_the_dual_at_jumps(norm: TVNorm):
    v, weight = random_images(0, VOLUME), random_weight(1, VOLUME)
    x, dual, jumps = found_jumps(v, weight, norm)
    step = PiecewiseConstantStep(x, lambda x: x - v, weight, norm, jumps)
    ratio = weight / weight.amax(2, keepdim=True) if norm == "isotropic" else 1.0
    expected = torch.where(jumps.field, ratio * dual, 0.0)
    torch.testing.assert_close(step.force(x), expected, rtol=0, atol=1e-4)


@in_one_test("norm", NORMS)
@in_one_test("size", [1e-12, 1e-30])
def test_gradients_of_tiny_weights_are_finite(norm: TVNorm, size: float):
    v = random_images(0, VOLUME, torch.float32)
    weight = (size * random_weight(1, VOLUME)).float().requires_grad_()
    jumps = found_jumps(v, weight.detach(), norm, 1e-3)[2]
    step = PiecewiseConstantStep(v, lambda x: x - v, weight, norm, jumps)
    force = step.force(v)
    (gradient,) = torch.autograd.grad(force.square().sum(), weight)
    assert torch.isfinite(force).all()
    assert torch.isfinite(gradient).all()


def test_gradient_reaches_every_tensor_of_the_energy():
    # Least squares with a diagonal matrix, f(x) = 1/2 |a x - y|^2.
    y, weight = random_images(0, (1, 1, 1, 4)), torch.zeros(1, 1, 1, 1, 1).double()
    a = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64, requires_grad=True)
    x = y / a.detach()
    dual = torch.zeros(1, 1, 2, 1, 4, dtype=torch.float64)
    jumps = Jumps.of(x, dual, weight, "isotropic", torch.zeros(1))
    step = PiecewiseConstantStep(
        x, lambda x: a * (a * x - y), weight, "isotropic", jumps
    )
    solution = attach_implicit_gradient(step, Implicit(CG(rtol=1e-12)), "raise")
    (gradient,) = torch.autograd.grad(solution.output.sum(), a)
    torch.testing.assert_close(gradient, -(y / a.detach() ** 2).flatten())
    assert solution.backward.converged.all()


def test_nonfinite_image_has_no_jumps():
    x = torch.full((1, 1, 2, 2), math.nan)
    dual = torch.zeros(1, 1, 2, 2, 2)
    jumps = Jumps.of(x, dual, torch.ones(1, 1, 1, 1, 1), "isotropic", torch.ones(1))
    assert not jumps.field.any()
