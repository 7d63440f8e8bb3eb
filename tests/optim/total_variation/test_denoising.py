from __future__ import annotations

import copy
import math

import pytest
import torch

from deepinv_equilibrium import Status
from deepinv_equilibrium.optim.total_variation import (
    TVNorm,
    differences_norm_squared,
    duality_gap,
    solve_denoising,
)
from deepinv_equilibrium.optim.total_variation.tv_groups import (
    group_norm,
    radii_and_ratios,
)

from ...one_test import in_one_test
from .dense_tv import dense_prox
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

TOL, MANY = 1e-13, 10**5


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [PLANE, VOLUME], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_solve_denoising_agrees_with_an_interior_point_method(
    norm: TVNorm, shape: tuple[int, ...], dtype: torch.dtype
):
    v = random_images(0, shape, dtype)
    weights = {name: in_axes(random_weight(1, shape, name), v) for name in WEIGHTINGS}
    full = (*shape[:2], len(shape) - 2, *shape[2:])
    # All weightings in one batch, and each one alone, broadcast.
    images = v.repeat(len(weights), *[1] * (v.ndim - 1))
    weight = torch.cat([w.expand(full) for w in weights.values()])
    exact = dense_prox(images, weight, norm)
    found = solve_denoising(images, weight, norm, TOL, MANY)
    assert found.converged.all()
    torch.testing.assert_close(found.x, exact, rtol=0, atol=1e-6)
    together = solve_denoising(images, weight, norm, 0.0, 50)
    for x, broadcast in zip(together.x.split(2), weights.values(), strict=True):
        alone = solve_denoising(v, broadcast, norm, 0.0, 50)
        torch.testing.assert_close(alone.x, x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "shape", [(2, 1, 1, 5), (1, 2, 4, 1), (2, 1, 3, 1, 2), (1, 1, 1, 1, 4)], ids=str
)
def test_axes_of_one_pixel_are_ignored(norm: TVNorm, shape: tuple[int, ...]):
    v, weight = random_images(0, shape), random_weight(1, shape)
    found = solve_denoising(v, weight, norm, TOL, MANY)
    exact = dense_prox(v, weight, norm)
    torch.testing.assert_close(found.x, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_image_of_one_pixel_is_unchanged(norm: TVNorm):
    v = random_images(0, (3, 2, 1, 1))
    found = solve_denoising(v, torch.ones(1, 1, 1, 1, 1).double(), norm, 0.0, 10)
    assert torch.equal(found.x, v)
    assert found.status == (Status.CONVERGED,) * 3


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_solution_with_zero_weights_agrees_with_the_dense_one(
    norm: TVNorm, share: float
):
    v, weight = random_images(0, PLANE), random_weight(1, PLANE)
    weight[torch.rand(weight.shape) < share] = 0
    found = solve_denoising(v, weight, norm, TOL, MANY, random_dual(2, v))
    exact = dense_prox(v, weight, norm)
    torch.testing.assert_close(found.x, exact, rtol=0, atol=1e-6)
    # Then whole groups and axes are 0, then all weights.
    weight[:, :, :, 0] = 0
    weight[:, :, 1] = 0
    found = solve_denoising(v, weight, norm, TOL, MANY)
    exact = dense_prox(v, weight, norm)
    torch.testing.assert_close(found.x, exact, rtol=0, atol=1e-6)
    found = solve_denoising(v, 0 * weight, norm, 0.0, 10, random_dual(2, v))
    assert torch.equal(found.x, v)
    assert found.converged.all()


@in_one_test("warm", [False, True])
@in_one_test("dtype", [torch.float32, torch.float64, torch.complex64])
def test_constant_image_is_unchanged(dtype: torch.dtype, warm: bool):
    v = torch.tensor([0.3, 0.0, -7e5, 1e-9], dtype=dtype).reshape(4, 1, 1, 1)
    v = v.repeat(1, 2, 5, 4)
    weight = torch.full((1, 1, 1, 1, 1), 0.1)
    dual = random_dual(0, v) if warm else None
    found = solve_denoising(v, weight, "isotropic", 1e-4, 100, dual)
    assert torch.equal(found.x, v)
    assert found.iterations.tolist() == [0] * 4


@pytest.mark.parametrize("contrast", [1.0, 1e-3])
def test_low_contrast_is_solved_in_float32(contrast: float):
    v = 0.5 + contrast * random_images(0, (2, 1, 8, 8), torch.float32)
    weight = torch.full((1, 1, 1, 1, 1), 0.1)
    found = solve_denoising(v, weight, "isotropic", 1e-4, 2000)
    assert found.converged.all()
    exact = solve_denoising(v.double(), weight.double(), "isotropic", 1e-10, MANY)
    error = (found.x - exact.x).flatten(1).norm(dim=1)
    assert (error <= found.error_bound + exact.error_bound).all()


@pytest.mark.parametrize("norm", NORMS)
def test_sample_does_not_depend_on_the_rest_of_the_batch(norm: TVNorm):
    shape = (5, 1, 4, 5)
    v = random_images(0, shape)
    weight = random_weight(1, shape)
    # An easy, a hard, a scaled, a constant and a nonfinite sample.
    v[1] *= 1e-2
    v[2] *= 1e5
    v[3] = 0.7
    v[4, 0, 2, 2] = math.nan
    dual = random_dual(2, v)
    for start in (None, dual):
        together = solve_denoising(v, weight, norm, 1e-6, 3000, start)
        assert together.status[4] is Status.NONFINITE
        assert together.converged[:4].all()
        assert len(set(together.iterations.tolist())) >= 4
        for i in range(5):
            own = slice(i, i + 1)
            begin = None if start is None else start[own]
            alone = solve_denoising(v[own], weight[own], norm, 1e-6, 3000, begin)
            assert together.iterations[i] == alone.iterations[0]
            for a, b in (
                (together.x, alone.x),
                (together.dual, alone.dual),
                (together.residual, alone.residual),
            ):
                torch.testing.assert_close(
                    a[own], b, rtol=1e-12, atol=0, equal_nan=True
                )


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_solution_scales_with_the_problem(scale: float, dtype: torch.dtype):
    v = random_images(0, PLANE, dtype)
    weight = random_weight(1, PLANE).to(dtype)
    plain = solve_denoising(v, weight, "isotropic", 1e-4, 1000)
    scaled = solve_denoising(scale * v, scale * weight, "isotropic", 1e-4, 1000)
    torch.testing.assert_close(scaled.x / scale, plain.x, rtol=1e-4, atol=1e-5)
    assert torch.equal(scaled.iterations, plain.iterations)


def test_report_describes_the_returned_image():
    v, weight = random_images(0, VOLUME), random_weight(1, VOLUME)
    for dtype, tol in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        found = solve_denoising(v.to(dtype), weight.to(dtype), "isotropic", tol, 990)
        assert found.x.dtype == found.dual.dtype == dtype
        assert found.converged.all()
        assert (found.residual <= tol).all()
        radius, _ = radii_and_ratios(weight.to(dtype), "isotropic")
        assert (group_norm(found.dual, "isotropic") <= radius * (1 + 1e-6)).all()
        gap, energy = duality_gap(
            found.x.double(),
            found.dual.double(),
            v.to(dtype).double(),
            weight.to(dtype).double(),
            "isotropic",
        )
        torch.testing.assert_close(found.gap, gap, rtol=1e-2, atol=0)
        torch.testing.assert_close(found.residual, found.gap / energy)
        rows = int(found.iterations.max()) // 10 + 1
        assert found.history.shape == found.absolute_history.shape == (rows, 2)
        for i in range(2):
            last = int(found.iterations[i]) // 10
            assert found.history[last, i] == found.residual[i]
            assert found.absolute_history[last, i] == found.gap[i]
            assert (found.history[:last, i] > tol).all()
            assert found.history[last + 1 :, i].isnan().all()


def test_solve_stops_after_max_iter_iterations():
    v, weight = random_images(0, PLANE), random_weight(1, PLANE)
    for budget in (0, 1, 7, 23):
        found = solve_denoising(v, weight, "isotropic", 0.0, budget)
        assert found.iterations.tolist() == [budget] * 2
        assert found.status == (Status.MAX_ITER,) * 2
    assert torch.equal(solve_denoising(v, weight, "isotropic", 0.0, 0).x, v)


def test_dual_start_is_used_only_if_its_gap_is_smaller():
    v, weight = random_images(0, PLANE), random_weight(1, PLANE)
    cold = solve_denoising(v, weight, "isotropic", 1e-8, MANY)
    again = solve_denoising(v, weight, "isotropic", 1e-7, MANY, cold.dual)
    assert again.iterations.tolist() == [0, 0]
    near = solve_denoising(1.001 * v, weight, "isotropic", 1e-5, MANY, cold.dual)
    far = solve_denoising(1.001 * v, weight, "isotropic", 1e-5, MANY)
    assert (near.iterations < far.iterations).all()
    for bad in (math.nan * cold.dual, -cold.dual):
        found = solve_denoising(v, weight, "isotropic", 0.0, 0, bad)
        assert torch.equal(found.x, v)


def test_solve_does_not_change_its_inputs():
    v, weight = random_images(0, PLANE), random_weight(1, PLANE)
    dual = random_dual(2, v)
    before = copy.deepcopy((v, weight, dual))
    solve_denoising(v, weight, "isotropic", 1e-4, 100, dual)
    assert all(map(torch.equal, before, (v, weight, dual)))


def test_solve_converges_for_the_largest_eigenvector():
    # With sigma tau |D|^2 > 1 the iterations would diverge for this image.
    for size in [(8, 8), (2, 2), (5, 1), (3, 3, 3)]:
        grids = torch.meshgrid(*map(torch.arange, size), indexing="ij")
        v = (-1.0) ** sum(grids)[None, None].double()
        assert differences_norm_squared(size) > 0
        weight = torch.full((1, 1, 1, *[1] * len(size)), 10.0).double()
        found = solve_denoising(v, weight, "isotropic", 1e-9, MANY)
        torch.testing.assert_close(found.x, v.mean().expand(v.shape), rtol=0, atol=1e-5)


@in_one_test("size", [1e-6, 1e-9, 1e-12, 1e-30])
@in_one_test("dtype", [torch.float32, torch.float64], ids=str)
def test_tiny_weights_converge(size: float, dtype: torch.dtype):
    v = random_images(0, VOLUME, dtype)
    weight = (size * random_weight(1, VOLUME)).to(dtype)
    found = solve_denoising(v, weight, "isotropic", 1e-4, 200)
    assert found.converged.all()
    torch.testing.assert_close(found.x, v, rtol=1e-6, atol=10 * size)
