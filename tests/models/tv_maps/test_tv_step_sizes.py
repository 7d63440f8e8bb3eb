"""Step sizes within the range of convergence for all parameters."""

from __future__ import annotations

import math

import deepinv as dinv
import pytest
import torch

from deepinv_equilibrium.models import TVStepSizes
from deepinv_equilibrium.optim.total_variation import differences

from ...certificates.dense_operator import norm
from ...one_test import in_one_test
from .tv_map_problems import DOUBLE

SIZE = (1, 5, 4)
KERNEL = torch.tensor([[0.1, 0.3, 0.2], [0.0, 1.5, 0.4], [0.2, -0.6, 0.0]])
PHYSICS = dinv.physics.Blur(filter=KERNEL[None, None].double(), padding="circular")


@torch.no_grad()
def products(steps: TVStepSizes) -> tuple[float, float]:
    """Return tau |A|^2 and sigma tau |D|^2, with norms of dense matrices."""
    tau, sigma = steps(PHYSICS, torch.zeros(2, *SIZE, dtype=DOUBLE))
    assert tau > 0
    assert sigma > 0
    return (
        float(tau) * norm(PHYSICS.A, SIZE) ** 2,
        float(sigma * tau) * norm(differences, SIZE) ** 2,
    )


@pytest.mark.parametrize("stepsize", [1e-3, 1.0, 1.9])
def test_new_step_sizes_have_the_given_start(stepsize: float) -> None:
    primal, dual = products(TVStepSizes(stepsize))
    # The bound of this norm is exact; the parameters are in single precision.
    assert primal == pytest.approx(stepsize, rel=1e-4)
    assert dual == pytest.approx(0.98, rel=1e-4)


@pytest.mark.parametrize("raw", [1e4, -1e4, 1e30, -1e30, math.inf, -math.inf, 0.0])
def test_step_sizes_are_in_the_range_of_convergence_for_all_parameters(
    raw: float,
) -> None:
    steps = TVStepSizes()
    for other in (raw, -raw):
        with torch.no_grad():
            steps.raw_primal.fill_(raw)
            steps.raw_dual.fill_(other)
        primal, dual = products(steps)
        assert 1e-7 < primal < 1.99
        assert 1e-7 < dual < 0.995


def test_step_sizes_are_differentiable_in_their_parameters() -> None:
    steps = TVStepSizes().double()
    assert torch.autograd.gradcheck(
        lambda *_: steps(PHYSICS, torch.zeros(1, *SIZE, dtype=DOUBLE)),
        (steps.raw_primal, steps.raw_dual),
    )


def test_step_sizes_have_the_precision_of_the_image() -> None:
    steps = TVStepSizes()
    physics = dinv.physics.Denoising()
    for dtype, real in (
        (torch.float32, torch.float32),
        (torch.complex128, torch.float64),
    ):
        for step in steps(physics, torch.zeros(1, *SIZE, dtype=dtype)):
            assert step.dtype == real
            assert step.shape == ()


def test_step_sizes_are_finite_for_images_of_one_pixel() -> None:
    steps = TVStepSizes()(dinv.physics.Denoising(), torch.zeros(1, 1, 1, 1))
    tau, sigma = (step.item() for step in steps)
    assert 0 < tau < 2
    assert 0 < sigma < math.inf


@in_one_test("stepsize", [0.0, -1.0, 1.98, 2.5, math.nan, math.inf])
def test_constructor_raises_for_start_out_of_range(stepsize: float) -> None:
    with pytest.raises(ValueError, match="stepsize is tau times the squared norm"):
        TVStepSizes(stepsize)
