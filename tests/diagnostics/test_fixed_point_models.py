"""Every diagnostic accepts the same models and refuses the others with a remedy."""

from __future__ import annotations

from functools import partial
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.diagnostics import (
    backward_error,
    check_well_posed,
    estimate_rate,
    iteration_curve,
)

from ..certificates.fixed_point_models import MODELS, SIZE, inpainting
from ..one_test import in_one_test
from .step_model import PHYSICS, StepModel

Y = torch.zeros(1, 1, 8, 8)
DIAGNOSTICS = {
    "backward_error": backward_error,
    "check_well_posed": check_well_posed,
    "estimate_rate": estimate_rate,
    "iteration_curve": partial(iteration_curve, x=Y, count=2),
}


@pytest.fixture(params=DIAGNOSTICS.values(), ids=DIAGNOSTICS)
def diagnostic(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_diagnostic_accepts_any_model_with_the_protocol(diagnostic: Any) -> None:
    model = StepModel(lambda x: 0.5 * x + 1, Y)
    assert diagnostic(model, Y, PHYSICS) is not None


@in_one_test("model", [torch.nn.Identity(), torch.cos, None])
def test_diagnostic_refuses_other_models(diagnostic: Any, model: Any) -> None:
    with pytest.raises(TypeError, match=r"fixed-point problem.*deq\.optim\.PGD"):
        diagnostic(model, Y, PHYSICS)


def test_diagnostic_refuses_model_without_DEQ(diagnostic: Any) -> None:
    class Incomplete:
        fixed_point_problem = StepModel.fixed_point_problem

    with pytest.raises(TypeError, match="attribute DEQ; got Incomplete"):
        diagnostic(Incomplete(), Y, PHYSICS)


@pytest.mark.parametrize(
    "diagnostic", [backward_error, check_well_posed, estimate_rate]
)
def test_diagnostic_refuses_optimiser_without_deq(diagnostic: Any) -> None:
    model = deq.optim.PGD(dinv.optim.L2(), dinv.optim.Tikhonov())
    with pytest.raises(ValueError, match="build it with DEQ"):
        diagnostic(model, Y, PHYSICS)


def test_diagnostic_refuses_model_that_needs_init(diagnostic: Any) -> None:
    class Started(StepModel):
        def fixed_point_problem(self, y: Tensor, physics: Any, init: Tensor) -> Any:
            return self.step, init

    with pytest.raises(TypeError, match=r"'init'; give every further.*default value"):
        diagnostic(Started(torch.cos, Y), Y, PHYSICS)


@pytest.mark.parametrize("name", MODELS)
def test_well_posedness_and_curve_of_every_equilibrium_model(name: str) -> None:
    torch.manual_seed(0)
    model, physics = MODELS[name](deq.Equilibrium()).double(), inpainting()
    x = torch.rand(1, *SIZE, dtype=torch.float64)
    y = physics.A(x)
    report = check_well_posed(model, y, physics, solver=deq.Picard(max_iter=300))
    assert report.residual.shape == (4, 1)
    assert float(report.residual.max()) < 1e-2
    curve = iteration_curve(model, y, physics, x, 3)
    assert curve.iterations.tolist() == [1, 2, 3]
    assert bool(curve.psnr.isfinite().all())
