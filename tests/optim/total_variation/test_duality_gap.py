from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium.optim.total_variation import (
    TVNorm,
    duality_gap,
    solve_denoising,
)

from .dense_tv import dense_differences, dense_prox
from .weightings import NORMS, VOLUME, random_dual, random_images, random_weight

ERROR = 2e-5  # of the interior point method


@pytest.mark.parametrize("norm", NORMS)
def test_duality_gap_is_primal_minus_dual_energy(norm: TVNorm):
    v, x = random_images(0, VOLUME), random_images(1, VOLUME)
    weight = random_weight(0, VOLUME)
    dual = random_dual(2, v, 0.01)  # in the interior of every ball
    gap, energy = duality_gap(x, dual, v, weight, norm)
    matrix = dense_differences(VOLUME[2:])
    field = torch.einsum("dpn,bcn->bcdp", matrix, x.flatten(2)) * weight.flatten(3)
    size = field.norm(dim=2) if norm == "isotropic" else field.abs()
    primal = (x - v).square().flatten(1).sum(1) / 2 + size.flatten(1).sum(1)
    ratio = weight / weight.amax(2, keepdim=True) if norm == "isotropic" else 1.0
    pulled = torch.einsum("dpn,bcdp->bcn", matrix, (ratio * dual).flatten(3))
    rest = v - pulled.reshape(VOLUME)
    lower = (v.square() - rest.square()).flatten(1).sum(1) / 2
    torch.testing.assert_close(energy, primal)
    torch.testing.assert_close(gap, primal - lower)


@functools.cache
def solved(
    shape: tuple[int, ...], norm: TVNorm, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return images of different contrast, weights of pixels, and solutions."""
    v, weight = random_images(0, shape, dtype), random_weight(1, shape)
    contrast = torch.logspace(-0.5, 1, len(v), dtype=torch.float64)
    v *= contrast.reshape(-1, *[1] * (v.ndim - 1))
    weight[weight < 0.08] = 0
    return v, weight, dense_prox(v, weight, norm, ERROR)


PROBLEMS: st.SearchStrategy[tuple[tuple[int, ...], TVNorm, torch.dtype]] = (
    st.sampled_from(
        [
            ((16, 1, 2, 3), "isotropic", torch.float64),
            ((8, 1, 2, 2, 2), "isotropic", torch.complex128),
            ((8, 1, 2, 2, 2), "componentwise", torch.float64),
            ((16, 1, 2, 2), "componentwise", torch.complex128),
        ]
    )
)


@settings(max_examples=30)
@given(
    problem=PROBLEMS,
    seed=st.integers(0, 10**6),
    distance=st.sampled_from([0.0, 1e-6, 1e-2, 1.0]),
    size=st.sampled_from([1e-3, 0.1, 1.0]),
)
def test_duality_gap_bounds_the_distance_for_any_image_and_dual(
    problem: tuple[tuple[int, ...], TVNorm, torch.dtype],
    seed: int,
    distance: float,
    size: float,
):
    shape, norm, dtype = problem
    v, weight, exact = solved(shape, norm, dtype)
    x = exact + distance * random_images(seed, shape, dtype)
    gap, _ = duality_gap(x, random_dual(seed + 1, v, size), v, weight, norm)
    assert ((x - exact).flatten(1).norm(dim=1) <= (2 * gap).sqrt() + ERROR).all()


@settings(max_examples=30)
@given(
    problem=PROBLEMS,
    seed=st.integers(0, 10**6),
    iterations=st.sampled_from([0, 1, 3, 10, 100, 300]),
    brightness=st.sampled_from([0.0, 1.0, 1e3]),
    single=st.booleans(),
    warm=st.booleans(),
)
def test_error_bound_of_the_solver_holds(
    problem: tuple[tuple[int, ...], TVNorm, torch.dtype],
    seed: int,
    iterations: int,
    brightness: float,
    single: bool,
    warm: bool,
):
    _, norm, dtype = problem
    v, weight, exact = solved(*problem)
    given_v, given_weight, allowed = v + brightness, weight, ERROR
    if single:
        given_v = given_v.to(torch.complex64 if v.is_complex() else torch.float32)
        given_weight = weight.float()
        # float32 rounds the problem. The solution moves by at most the change of v plus
        # |D^T (w - w')| for the change of the weight.
        moved = (given_v.to(dtype) - brightness - v).flatten(1).norm(dim=1)
        allowed += moved + 4 * (given_weight - weight).flatten(1).norm(dim=1)
    dual = random_dual(seed, given_v, 0.1) if warm else None
    found = solve_denoising(given_v, given_weight, norm, 0.0, iterations, dual)
    error = (found.x.to(dtype) - brightness - exact).flatten(1).norm(dim=1)
    assert (error <= found.error_bound + allowed).all()
