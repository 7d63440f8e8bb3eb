"""With ``on_failure="skip"`` a sample that fails adds nothing to any gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq

F64 = torch.float64
SOLVERS = [deq.Anderson(max_iter=6), deq.Picard(max_iter=12), deq.Inertial(max_iter=12)]
ADJOINTS = [deq.Implicit(), deq.JacobianFree(), deq.JacobianFree(3), deq.Neumann(3)]


class Problem:
    """A sample that converges, one that does not within the budget, one that diverges
    and one that turns non-finite."""

    def __init__(self, samples: list[int]) -> None:
        torch.manual_seed(0)
        self.matrix = torch.linalg.qr(torch.randn(9, 9, dtype=F64))[0].requires_grad_()
        b = torch.randn(4, 9, dtype=F64)
        b[3, 0] = torch.nan
        self.b = b[samples]
        self.rates = torch.tensor([[0.1], [0.999], [3.0], [0.1]], dtype=F64)[samples]

    def step(self, x: Tensor) -> Tensor:
        return self.rates * x @ self.matrix + self.b

    def gradient(self, solver: Any, adjoint: Any, policy: str) -> tuple[Tensor, Any]:
        x0 = torch.zeros_like(self.b)
        solution = deq.fixed_point(self.step, x0, solver, adjoint, policy)
        loss = solution.x.nan_to_num().square().sum()
        return torch.autograd.grad(loss, self.matrix)[0], solution


@pytest.mark.filterwarnings("ignore::deepinv_equilibrium.ConvergenceWarning")
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("adjoint", [*ADJOINTS, deq.Unrolled()], ids=str)
def test_the_gradient_is_that_of_the_sample_that_converges(
    solver: Any, adjoint: Any
) -> None:
    if isinstance(adjoint, deq.Unrolled) and solver.accelerated:
        pytest.skip("Unrolled refuses it")
    alone, _ = Problem([0]).gradient(solver, adjoint, "raise")
    found, solution = Problem([0, 1, 2, 3]).gradient(solver, adjoint, "skip")
    assert [status.failed for status in solution.status] == [False, True, True, True]
    torch.testing.assert_close(found, alone, rtol=1e-6, atol=1e-10)
    all_but_nan, _ = Problem([0, 1, 2, 3]).gradient(solver, adjoint, "ignore")
    assert not torch.allclose(all_but_nan, alone, rtol=1e-2)


def test_it_warns() -> None:
    with pytest.warns(deq.ConvergenceWarning, match="MAX_ITER"):
        Problem([0, 1]).gradient(SOLVERS[1], deq.JacobianFree(), "skip")


@pytest.mark.filterwarnings("ignore::deepinv_equilibrium.ConvergenceWarning")
def test_a_sample_whose_backward_fails_adds_nothing() -> None:
    adjoint = deq.Implicit(deq.Picard(max_iter=10, rtol=1e-8))
    solver = deq.Anderson(rtol=1e-10)
    alone, _ = Problem([0]).gradient(solver, adjoint, "raise")
    found, solution = Problem([0, 1]).gradient(solver, adjoint, "skip")
    assert solution.converged.all()
    assert [status.failed for status in solution.backward.status] == [False, True]
    torch.testing.assert_close(found, alone, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("build", [deq.Equilibrium, lambda **k: deq.ReTune(2, 3, **k)])
def test_configurations_take_it(build: Any) -> None:
    assert build(on_failure="skip").on_failure == "skip"
    with pytest.raises(ValueError, match=r"on_failure must be one of .*'skip'"):
        build(on_failure="skipp")
