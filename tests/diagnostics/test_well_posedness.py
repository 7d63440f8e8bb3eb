from __future__ import annotations

import math
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Kind
from deepinv_equilibrium.diagnostics import WellPosed, WellPosedness

from ..one_test import in_one_test
from .step_model import PHYSICS, StepModel

Y = torch.zeros(1, 1, 2, 2)


def check(step: Any, x0: Any, **options: Any) -> WellPosedness:
    return deq.check_well_posed(StepModel(step, x0), Y, PHYSICS, **options)


ZERO = torch.zeros(1, 3, dtype=torch.float64)
ONE = torch.ones(1, 3, dtype=torch.float64)


def test_contraction_is_unique_and_fixed() -> None:
    report = check(lambda x: 0.5 * x + 1, ZERO)
    assert report.verdict == (WellPosed.UNIQUE,)
    assert report.kind is Kind.OBSERVED
    assert report.well_posed.all()
    assert report.residual.shape == (4, 1)
    assert report.residual.max() < 1e-7
    # A residual of 1e-8 leaves each limit 2e-8 away; the resolution is twice this.
    assert report.distance.item() < report.resolution.item() + 1e-12 < 1e-6
    assert "UNIQUE: All starts converged" in str(report)
    assert "no proof" in str(report)


def test_step_with_two_fixed_points_is_well_posed_and_several() -> None:
    # Newton's method for x^2 = 1 with two roots.
    report = check(lambda x: (x + 1 / x) / 2, ONE[:, :1] * 0.5, spread=2.0)
    assert report.verdict == (WellPosed.SEVERAL,)
    assert report.well_posed.all()
    assert report.distance.item() == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize(
    ("step", "status"),
    [
        (lambda x: 3 - x, "MAX_ITER"),  # a cycle of length two
        (lambda x: 1.5 * x + 1, "DIVERGED"),
        (lambda x: (x - 9).log(), "NONFINITE"),
    ],
)
def test_iterates_that_do_not_converge_are_not_convergent(
    step: Any, status: str
) -> None:
    report = check(step, ONE)
    assert report.verdict == (WellPosed.NOT_CONVERGENT,)
    assert not report.well_posed.any()
    assert status in str(report)


def test_distant_starts_find_divergence_that_near_starts_miss() -> None:
    # x^3 contracts near 0 only.
    near = check(lambda x: x**3, 0.1 * ONE, spread=0.5)
    assert near.verdict == (WellPosed.UNIQUE,)
    far = check(lambda x: x**3, 0.1 * ONE, spread=100.0)
    assert far.verdict == (WellPosed.NOT_CONVERGENT,)


def test_random_step_is_not_fixed() -> None:
    def step(x: Tensor) -> Tensor:
        return 0.1 * x + 2 + 2e-2 * torch.randn_like(x)

    report = check(step, ONE, solver=deq.Picard(rtol=5e-2))
    assert report.converged.all()
    assert report.verdict == (WellPosed.NOT_FIXED,)
    assert not report.well_posed.any()


def test_slow_convergence_is_unresolved_and_not_several() -> None:
    solver = deq.Picard(rtol=1e-3, max_iter=5000)
    report = check(lambda x: 0.999 * x + 0.001, ZERO, solver=solver)
    assert report.converged.all()
    assert report.distance.item() > 1e-3
    assert report.verdict == (WellPosed.UNRESOLVED,)


def test_each_sample_has_its_own_verdict() -> None:
    rates = torch.tensor([[0.5], [2.0]], dtype=torch.float64)
    report = check(lambda x: rates * x + 1, torch.ones(2, 3, dtype=torch.float64))
    assert report.verdict == (WellPosed.UNIQUE, WellPosed.NOT_CONVERGENT)
    assert report.well_posed.tolist() == [True, False]
    lines = str(report).splitlines()
    assert lines[2].split()[1:4] == ["4", "of", "4"]
    assert lines[3].split()[-1] == "NOT_CONVERGENT"


class SquareRoot:
    """Has the fixed point 1 and the positive images as its domain."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.sqrt()

    def domain(self, x: Tensor) -> Tensor:
        return (x > 0).flatten(1).all(dim=1)


def test_starts_are_drawn_within_domain_of_step() -> None:
    x0 = torch.rand(2, 1, 3, 3) + 0.5
    report = check(SquareRoot(), x0, spread=5.0)
    assert report.verdict == (WellPosed.UNIQUE,) * 2
    with pytest.raises(ValueError, match="interior of this domain"):
        check(SquareRoot(), -x0)


def test_state_of_several_tensors() -> None:
    physics, y = dinv.physics.Denoising(), torch.rand(2, 3, 8, 9)
    model = deq.optim.PDCP(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.Tikhonov(),
        stepsize=0.5,
        stepsize_dual=0.5,
        trainable_params=[],
        DEQ=deq.Equilibrium(),
    )
    report = deq.check_well_posed(model, y, physics)
    assert report.verdict == (WellPosed.UNIQUE,) * 2
    assert not report.reports[0].residual.requires_grad


def test_dual_variable_that_is_not_unique_does_not_count() -> None:
    def step(state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, dual = state
        return 0.5 * x + 1, dual

    report = check(step, (ONE, ONE))
    assert report.verdict == (WellPosed.UNIQUE,)


def test_complex_images() -> None:
    report = check(lambda x: 0.5j * x + 1, ONE + 0j)
    assert report.verdict == (WellPosed.UNIQUE,)


def test_float32_report_is_reproducible() -> None:
    x0 = torch.rand(2, 5)
    first, second = (check(torch.cos, x0) for _ in range(2))
    assert first.verdict == (WellPosed.UNIQUE,) * 2
    torch.testing.assert_close(first.distance, second.distance, rtol=0, atol=0)


@in_one_test(
    ("options", "named"),
    [
        ({"starts": 1}, "starts"),
        ({"spread": 0.0}, "spread"),
        ({"spread": math.inf}, "spread"),
        ({"tol": -1e-3}, "tol"),
    ],
)
def test_arguments_out_of_range_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check(torch.cos, ZERO, **options)
