from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium import Status
from deepinv_equilibrium.optim.total_variation import (
    TVNorm,
    differences,
    differences_adjoint,
    weighted_tv_prox,
)

from .weightings import (
    NORMS,
    PLANE,
    VOLUME,
    WEIGHTINGS,
    in_axes,
    random_dual,
    random_images,
    random_weight,
)


def gradients(
    v: Tensor, weight: Tensor, norm: TVNorm, dual: Tensor | None = None, tol=1e-12
) -> tuple[Tensor, Tensor]:
    """Return the gradients of a linear function in the image and the weight."""
    v, weight = v.detach().requires_grad_(), weight.detach().requires_grad_()
    x = weighted_tv_prox(v, weight, norm, tol, 10**5, dual).x
    direction = random_images(9, v.shape, v.dtype)
    return torch.autograd.grad((x * direction.conj()).real.sum(), (v, weight))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [(PLANE, torch.float64), (VOLUME, torch.float64), (PLANE, torch.complex128)],
    ids=str,
)
def test_gradients_agree_with_finite_differences(
    norm: TVNorm, shape: tuple[int, ...], dtype: torch.dtype
):
    v, direction = random_images(0, shape, dtype), random_images(9, shape, dtype)
    dv, h = random_images(2, shape, dtype), 1e-6
    full = (*shape[:2], len(shape) - 2, *shape[2:])
    expected, images, weights = [], [], []
    tested = [0.7 * random_weight(1, shape, weighting) for weighting in WEIGHTINGS]
    # All weightings are solved in one batch, and each one then starts at its solution.
    batch = torch.cat([in_axes(w, v).expand(full) for w in tested])
    stack = v.repeat(len(tested), *[1] * (v.ndim - 1))
    duals = weighted_tv_prox(stack, batch, norm, 1e-12, 10**5).dual.split(2)
    for weight, dual in zip(tested, duals, strict=True):
        dw = random_images(3, weight.shape)
        by_image, by_weight = gradients(v, weight, norm, dual)
        expected += [(by_image.conj() * dv).real.sum(), (by_weight * dw).sum()]
        images += [v + h * dv, v - h * dv, v, v]
        weights += [
            in_axes(w, v).expand(full)
            for w in (weight, weight, weight + h * dw, weight - h * dw)
        ]
    # All finite differences are solved in one batch.
    x = weighted_tv_prox(
        torch.cat(images), torch.cat(weights), norm, 0.0, 1000, on_failure="ignore"
    ).x
    values = (x.reshape(-1, 2, *shape) * direction.conj()).real.flatten(2).sum(2)
    slopes = (values[:, 0] - values[:, 1]) / (2 * h)
    torch.testing.assert_close(slopes, torch.stack(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_gradient_does_not_depend_on_the_start(norm: TVNorm, dtype: torch.dtype):
    v, weight = random_images(0, VOLUME, dtype), random_weight(1, VOLUME)
    neighbour = weighted_tv_prox(1.05 * v, 0.95 * weight, norm, 1e-6).dual
    # The dual of the minimiser, and a random one. They differ where x is flat.
    own = weighted_tv_prox(v, weight, norm, 1e-12, 10**5).dual
    duals = [torch.zeros_like(own), neighbour, own, random_dual(0, v, 0.02)]
    leaf, leaf_weight = v.clone().requires_grad_(), weight.clone().requires_grad_()
    # Samples do not depend on each other: all starts are one batch.
    images = leaf.repeat(4, 1, 1, 1, 1)
    weights = leaf_weight.repeat(4, 1, 1, 1, 1, 1)
    x = weighted_tv_prox(images, weights, norm, 1e-12, 10**5, torch.cat(duals)).x
    direction = random_images(9, VOLUME, dtype).repeat(4, 1, 1, 1, 1)
    of_starts = torch.autograd.grad(
        (x * direction.conj()).real.sum(), (images, weights)
    )
    for stacked in of_starts:
        cold, *warm = stacked.split(2)
        for other in warm:
            torch.testing.assert_close(other, cold, rtol=1e-5, atol=1e-5)


@settings(max_examples=5)
@given(seed=st.integers(0, 10**6), norm=st.sampled_from(NORMS))
def test_gradient_of_a_rough_solution_is_close(seed: int, norm: TVNorm):
    v, weight = random_images(seed, (1, 1, 4, 4)), random_weight(seed, (1, 1, 4, 4))
    exact = gradients(v, weight, norm, tol=1e-12)
    rough = gradients(v, weight, norm, tol=1e-8)
    for a, b in zip(rough, exact, strict=True):
        assert (a - b).norm() <= 1e-2 * b.norm() + 1e-3


def test_gradient_of_two_pixels_has_the_closed_form():
    # For two pixels x = v +- w if |v1 - v0| > 2 w, else x is their mean.
    v = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    for w, in_v, in_w in [(0.2, [0.0, 1.0], -1.0), (0.6, [0.5, 0.5], 0.0)]:
        leaf, weight = v.clone().requires_grad_(), torch.tensor(w, requires_grad=True)
        x = weighted_tv_prox(leaf, weight, tol=1e-12).x
        x[..., 1].sum().backward()
        torch.testing.assert_close(leaf.grad.flatten(), torch.tensor(in_v).double())
        assert weight.grad.item() == pytest.approx(in_w)


@pytest.mark.parametrize("norm", NORMS)
def test_derivative_at_weight_zero_is_one_sided(norm: TVNorm):
    v = random_images(0, PLANE)
    weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
    direction = random_images(1, PLANE)
    x = weighted_tv_prox(v, weight, norm).x
    (gradient,) = torch.autograd.grad((x * direction).sum(), weight)
    field = differences(v)
    size = field.norm(dim=2, keepdim=True) if norm == "isotropic" else field.abs()
    force = differences_adjoint(torch.where(size > 0, field / size, 0.0))
    torch.testing.assert_close(gradient, -(force * direction).sum())


def test_gradient_of_a_flat_image_is_that_of_its_mean():
    v, weight = random_images(0, PLANE), torch.full(PLANE, 50.0).double()
    by_image, by_weight = gradients(v, weight, "isotropic")
    mean = random_images(9, PLANE).mean((2, 3), keepdim=True).expand(PLANE)
    torch.testing.assert_close(by_image, mean)
    assert torch.equal(by_weight, torch.zeros_like(weight))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_gradient_does_not_depend_on_the_scale(scale: float):
    v, weight = random_images(0, PLANE), random_weight(1, PLANE)
    plain = gradients(v, weight, "isotropic")
    scaled = gradients(scale * v, scale * weight, "isotropic")
    for a, b in zip(scaled, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_gradient_does_not_depend_on_the_rest_of_the_batch():
    shape = (3, 1, 4, 5)
    v, weight = random_images(0, shape), random_weight(1, shape)
    v[1] *= 1e-2
    direction = random_images(9, shape)
    together = gradients(v, weight, "isotropic", tol=1e-9)
    for i in range(3):
        own = slice(i, i + 1)
        a, w = v[own].clone().requires_grad_(), weight[own].clone().requires_grad_()
        x = weighted_tv_prox(a, w, tol=1e-9, max_iter=10**5).x
        alone = torch.autograd.grad((x * direction[own]).sum(), (a, w))
        for all_of_them, one in zip(together, alone, strict=True):
            torch.testing.assert_close(all_of_them[own], one, rtol=1e-12, atol=1e-12)


def test_nonfinite_sample_adds_no_gradient():
    v, weight = random_images(0, PLANE), torch.tensor(0.1).double()
    v[1, 0, 0, 0] = math.nan
    alone = weight.clone().requires_grad_()
    weighted_tv_prox(v[:1], alone, tol=1e-9).x.square().sum().backward()
    leaf, shared = v.clone().requires_grad_(), weight.clone().requires_grad_()
    found = weighted_tv_prox(leaf, shared, tol=1e-9, on_failure="ignore")
    assert found.status == (Status.CONVERGED, Status.NONFINITE)
    found.x[0].square().sum().backward()
    torch.testing.assert_close(shared.grad, alone.grad, rtol=1e-12, atol=0)
    assert torch.isfinite(leaf.grad[0]).all()
    assert torch.equal(leaf.grad[1], torch.zeros_like(leaf.grad[1]))


def test_second_derivative_raises():
    v = random_images(0, PLANE).requires_grad_()
    x = weighted_tv_prox(v, 0.1).x
    (gradient,) = torch.autograd.grad(x.square().sum(), v, create_graph=True)
    with pytest.raises(NotImplementedError):
        gradient.sum().backward()


@pytest.mark.parametrize("norm", NORMS)
def test_gradient_is_accurate_in_float32(norm: TVNorm):
    v, weight = random_images(0, PLANE), random_weight(1, PLANE)
    exact = gradients(v, weight, norm)
    single = gradients(v.float(), weight.float(), norm, tol=1e-5)
    for a, b in zip(single, exact, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=1e-2, atol=1e-2)
