from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.certificates.gradients.step_jacobians import (
    FEW_PARAMETERS,
    StepJacobians,
    largest_singular_values,
    sample_norms,
)


class Step:
    """A step with a vector, a matrix and an unused vector of parameters."""

    def __init__(self, size: int) -> None:
        self.scale = torch.randn(3, dtype=torch.float64, requires_grad=True)
        self.weight = torch.randn(size, size, dtype=torch.float64, requires_grad=True)
        self.unused = torch.ones(2, dtype=torch.float64, requires_grad=True)
        self.parameters = [self.scale, self.weight, self.unused]

    def __call__(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.weight.T) * self.scale.sum() + self.scale[0] * x


def dense(step: Step, x: Tensor) -> Tensor:
    """Return the Jacobians in the parameters, of shape (B, n, p)."""
    w = torch.eye(x[0].numel(), dtype=torch.float64)
    rows = []
    for b in range(len(x)):
        for direction in w:
            gradients = torch.autograd.grad(
                (step(x)[b].flatten() * direction).sum(),
                step.parameters,
                allow_unused=True,
            )
            rows.append(
                torch.cat(
                    [
                        (
                            torch.zeros(p.numel(), dtype=x.dtype)
                            if g is None
                            else g.flatten()
                        )
                        for g, p in zip(gradients, step.parameters, strict=True)
                    ]
                )
            )
    return torch.stack(rows).reshape(len(x), -1, rows[0].numel())


def test_few_parameters_have_exact_norms() -> None:
    for _ in range(20):
        step, x = Step(4), torch.randn(3, 4, dtype=torch.float64)
        jacobians = StepJacobians(step, step.parameters)
        truth = dense(step, x)
        torch.testing.assert_close(jacobians.columns(x), truth)
        norms = torch.linalg.matrix_norm(truth, 2)
        torch.testing.assert_close(jacobians.parameter_norms(x), norms)
        assert jacobians.norm_evidence(3).is_certified
        other = torch.randn_like(x)
        change = torch.linalg.matrix_norm(truth - dense(step, other), 2)
        torch.testing.assert_close(jacobians.parameter_change(x, other, x), change)


def test_many_parameters_have_estimated_norms() -> None:
    step, x = Step(7), torch.randn(3, 7, dtype=torch.float64)
    jacobians = StepJacobians(step, step.parameters)
    assert sum(p.numel() for p in step.parameters) > FEW_PARAMETERS
    truth = dense(step, x)
    norms = torch.linalg.matrix_norm(truth, 2)
    estimates = jacobians.parameter_norms(x)
    assert bool((norms <= estimates * (1 + 1e-10)).all())
    assert bool((estimates <= 1.2 * norms).all())
    rest = jacobians.norm_evidence(3)
    assert not rest.is_certified
    assert rest.delta == pytest.approx(3e-3)
    other, c = torch.randn_like(x), torch.randn_like(x)
    change = torch.einsum("bnp,bn->bp", truth - dense(step, other), c).norm(dim=1)
    expected = change / c.norm(dim=1)
    torch.testing.assert_close(jacobians.parameter_change(x, other, c), expected)


def test_state_vjp_is_the_product_with_the_state_jacobian() -> None:
    step, x = Step(4), torch.randn(3, 4, dtype=torch.float64)
    c = torch.randn_like(x)
    jacobians = StepJacobians(step, step.parameters)
    expected = torch.autograd.functional.vjp(step, x, c)[1]
    torch.testing.assert_close(jacobians.state_vjp(x, c), expected)
    constant = StepJacobians(lambda x: torch.ones_like(x), step.parameters)
    assert not constant.state_vjp(x, c).any()
    assert not constant.parameter_norms(x).any()


def test_parameter_norms_of_nonfinite_states_are_not_finite() -> None:
    for size in (4, 7):
        step = Step(size)
        x = torch.full((2, size), math.nan, dtype=torch.float64)
        norms = StepJacobians(step, step.parameters).parameter_norms(x)
        assert not bool((norms < math.inf).any())


def test_norms_are_computed_per_sample_in_float64() -> None:
    x = torch.full((2, 1, 3, 3), 1e-30)
    assert sample_norms(x).dtype is torch.float64
    torch.testing.assert_close(
        sample_norms(x), torch.full((2,), 3e-30, dtype=torch.float64), rtol=1e-6, atol=0
    )
    matrices = torch.randn(5, 6, 2, dtype=torch.float64)
    expected = torch.linalg.matrix_norm(matrices, 2)
    torch.testing.assert_close(largest_singular_values(matrices), expected)
