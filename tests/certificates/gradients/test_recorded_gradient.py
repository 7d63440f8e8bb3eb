from __future__ import annotations

import pytest
import torch

from deepinv_equilibrium.certificates import SquaredError
from deepinv_equilibrium.certificates.gradients.recorded_gradient import record_gradient
from deepinv_equilibrium.certificates.gradients.step_jacobians import StepJacobians

from ..known_equilibria import KnownModel
from .test_gradient_error import CONFIGURATIONS


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_gradient_is_the_sum_over_the_evaluations(name: str) -> None:
    for seed in range(4):
        model = KnownModel(seed, CONFIGURATIONS[name]())
        loss = SquaredError(model.target)
        record = record_gradient(model, model.y, None, loss)
        jacobians = StepJacobians(record.step, record.parameters)
        total = torch.zeros(3, dtype=torch.float64)
        for evaluation in record.evaluations:
            torch.testing.assert_close(
                record.step(evaluation.state).detach(), evaluation.value
            )
            B = jacobians.columns(evaluation.state)
            total += torch.einsum("bnp,bn->p", B, evaluation.cotangent)
        (gradient,) = record.gradient
        torch.testing.assert_close(total, gradient, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(record.loss_gradient, record.x - model.target)
        iterations = int(record.solution.evaluations.max())
        expected = {"JFB, three steps": 3, "unrolled": iterations}.get(name, 1)
        assert len(record.evaluations) == expected
