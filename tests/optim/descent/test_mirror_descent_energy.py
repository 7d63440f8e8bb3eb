"""The energy of mirror descent: gradient, step, divergence, start and domain."""

from __future__ import annotations

import deepinv as dinv
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium.optim import KullbackLeibler
from deepinv_equilibrium.optim.descent.poisson_mirror_descent import (
    MirrorDescentEnergy,
)

F64 = torch.float64
KERNEL = torch.tensor([[1.0, 2.0, 1.0]], dtype=F64)[None, None] / 4
CUBIC = dinv.optim.Prior(g=lambda x, *sigma: x.pow(3).flatten(1).sum(1) * sum(sigma, 1))


def energy(
    y: Tensor,
    bounds: tuple[float, float] = (1e-3, 1.0),
    g_param: float | None = None,
    normalize: bool = True,
) -> MirrorDescentEnergy:
    noise = dinv.physics.PoissonNoise(0.125, normalize=normalize)
    physics = dinv.physics.BlurFFT(y.shape[1:], filter=KERNEL, noise_model=noise)
    return MirrorDescentEnergy(
        KullbackLeibler(), CUBIC, g_param, 2.0, bounds, y, physics
    )


@pytest.mark.parametrize("g_param", [None, 0.5])
def test_gradient_is_the_derivative_of_the_energy(g_param: float | None) -> None:
    y, x, v = torch.rand(3, 2, 1, 4, 5, dtype=F64)
    x = x + 0.1
    problem = energy(y, g_param=g_param)
    _, gradient = problem.value_and_gradient(x)
    ahead, behind = (problem.value_and_gradient(x + h * v)[0] for h in (1e-6, -1e-6))
    slope = (gradient * v).flatten(1).sum(1)
    torch.testing.assert_close(slope, (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-8)


def test_step_within_the_box_equals_that_of_deepinv() -> None:
    y, x, gradient = torch.rand(3, 2, 1, 4, 5, dtype=F64)
    tau = torch.tensor([0.1, 0.5], dtype=F64).reshape(2, 1, 1, 1)
    x = x + 0.1
    entropy = dinv.optim.BurgEntropy()
    expected = entropy.grad_conj(entropy.grad(x) - tau * gradient)
    found = energy(y, bounds=(1e-9, 1e9)).step(x, gradient, tau)
    torch.testing.assert_close(found, expected)


@given(x=st.floats(0.01, 1), slope=st.floats(-1e3, 1e3), tau=st.floats(1e-4, 10))
def test_step_minimises_the_linearised_energy_over_the_box(
    x: float, slope: float, tau: float
) -> None:
    """Includes linearisations without a minimiser, which decrease for ever."""
    problem = energy(torch.ones(1, 1, 1, 3, dtype=F64), bounds=(0.01, 1.0))
    point, gradient, size = (
        torch.full((1, 1, 1, 1), v, dtype=F64) for v in (x, slope, tau)
    )
    found = problem.step(point, gradient, size)
    grid = torch.linspace(0.01, 1.0, 400, dtype=F64).reshape(-1, 1, 1, 1)

    def model(z: Tensor) -> Tensor:
        spread = problem.divergence(z, point.expand_as(z))
        return (gradient * (z - point)).flatten() + spread / size.flatten()

    assert float(model(found)) <= float(model(grid).min()) + 1e-9 * (1 + 1 / tau)
    assert bool(problem.domain(found).all())


def test_divergence_is_accurate_for_small_changes_in_float32() -> None:
    x, z = 0.1 + torch.rand(2, 3, 1, 4, 5, dtype=F64)
    problem = energy(x)
    exact = dinv.optim.BurgEntropy().div(z, x)
    torch.testing.assert_close(problem.divergence(z, x), exact, rtol=1e-10, atol=1e-12)
    single = x.float()
    near = single * (1 + 1e-4)
    change = ((near.double() - single.double()) / single.double()).square().flatten(1)
    found = problem.divergence(near, single)
    assert found.dtype is F64
    torch.testing.assert_close(found, change.sum(1) / 2, rtol=1e-3, atol=0)


@pytest.mark.parametrize("normalize", [True, False])
def test_start_has_the_sum_of_the_measurement(normalize: bool) -> None:
    """The sum is in the unit of the image. Zero counts start at the lower end."""
    x = torch.full((2, 1, 4, 5), 0.5, dtype=F64)
    x[1] = 0
    y = x if normalize else x / 0.125
    start = energy(y, normalize=normalize).start()
    torch.testing.assert_close(start[0], x[0])
    assert bool((start[1] == 1e-3).all())


def test_domain_excludes_nonpositive_images_and_nan() -> None:
    x = torch.ones(3, 1, 2, 2)
    x[1, 0, 0, 0] = 0
    x[2, 0, 0, 0] = torch.nan
    assert energy(x).domain(x).tolist() == [True, False, False]
