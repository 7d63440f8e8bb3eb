from __future__ import annotations

from typing import Any

import pytest
import torch

from deepinv_equilibrium.fixed_points import (
    GMRES,
    SHINE,
    Anderson,
    Broyden,
    Implicit,
    JacobianFree,
    Picard,
    Unrolled,
    fixed_point,
)

from ..one_test import in_one_test
from .exported_classes import SOLVER_TYPES

F64 = torch.float64


@in_one_test(
    ("kwargs", "error", "message"),
    [
        ({"step": None}, TypeError, "step must be callable, got NoneType"),
        ({"solver": GMRES()}, TypeError, "solver must be a FixedPointSolver"),
        ({"solver": Anderson}, TypeError, "solver must be"),
        ({"solver": None}, TypeError, "got None"),
        ({"adjoint": "implicit"}, TypeError, "adjoint must be an Adjoint.*'implicit'"),
        ({"adjoint": Implicit}, TypeError, "adjoint must be"),
        ({"adjoint": Picard()}, TypeError, "adjoint must be"),
        (
            {"adjoint": SHINE()},
            ValueError,
            r"Anderson does not fill; use solver=Broyden",
        ),
        ({"adjoint": Unrolled()}, ValueError, "cannot record Anderson; use solver=Pic"),
        ({"on_failure": "Raise"}, ValueError, "on_failure must be one of"),
        ({"max_iter": 7}, TypeError, "max_iter"),
    ],
)
def test_bad_argument_raises_before_the_step_is_evaluated(
    kwargs: dict[str, Any], error: type[Exception], message: str
) -> None:
    def never(x: Any) -> Any:
        raise AssertionError("the step was evaluated")

    with pytest.raises(error, match=message):
        fixed_point(**({"step": never, "x0": torch.ones(1, 1)} | kwargs))


def test_error_of_the_step_passes_unchanged() -> None:
    def broken(x: Any) -> Any:
        raise KeyError("sigma")

    with pytest.raises(KeyError, match="sigma"):
        fixed_point(broken, torch.ones(1, 1))


def test_weights_of_a_module_used_as_step_learn() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh()).double()
    module.eval()
    x0 = torch.zeros(2, 3, dtype=F64)
    target = torch.tensor([[0.1, -0.2, 0.3], [0.1, -0.2, 0.3]], dtype=F64)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (fixed_point(module, x0).x - target).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.01 * losses[0]


@in_one_test("dtype", [torch.float32, F64])
@in_one_test("channels", [1, 2, 3])
@in_one_test("size", [(1, 1), (5, 7), (8, 4)])
def test_fixed_point_solves_images_of_any_size(
    dtype: torch.dtype, channels: int, size: tuple[int, int]
) -> None:
    convolution = torch.nn.Conv2d(channels, channels, 3, padding=1).to(dtype)
    with torch.no_grad():
        convolution.weight *= 0.3
    y = torch.rand(2, channels, *size, dtype=dtype)
    solution = fixed_point(
        lambda x: torch.relu(convolution(x)) + y, torch.zeros_like(y)
    )
    solution.x.square().mean().backward()
    assert solution.converged.all()
    assert solution.backward is not None
    assert solution.backward.converged.all()
    assert convolution.weight.grad is not None
    assert convolution.weight.grad.isfinite().all()


@pytest.mark.parametrize("solver", [Picard(), Anderson(), Broyden()], ids=str)
def test_observer_receives_states_with_the_shapes_of_x0(solver: Any) -> None:
    state = (torch.zeros(2, 3), torch.ones(2, 1, dtype=torch.complex64))
    bias = torch.ones(1, requires_grad=True)
    seen: list[Any] = []
    solution = fixed_point(
        lambda s: (s[0] / 2 + bias, s[1] / 2j),
        state,
        solver,
        JacobianFree(),
        observer=lambda x, value: seen.append((x, value)),
    )
    assert len(seen) == int(solution.iterations.max())
    for x, value in seen:
        for one, other, like in zip(x, value, state, strict=True):
            assert one.shape == other.shape == like.shape
            assert one.dtype == other.dtype == like.dtype
            assert not one.requires_grad
            assert not other.requires_grad
    assert torch.equal(seen[0][0][1], state[1])


def test_fixed_point_runs_under_no_grad_and_inference_mode() -> None:
    weight = torch.tensor(0.5, dtype=F64, requires_grad=True)
    x0 = torch.zeros(1, 1, dtype=F64)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            solution = fixed_point(lambda x: weight * x + 1, x0)
        assert not solution.x.requires_grad
        torch.testing.assert_close(solution.x, x0 + 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("solver", "adjoint"),
    [
        (Picard(), Implicit()),
        (Anderson(), Implicit(Anderson())),
        (Broyden(), SHINE(refine=2)),
        (Picard(), Unrolled()),
        (Anderson(), JacobianFree(steps=2)),
    ],
    ids=str,
)
def test_gpu_and_cpu_agree(problem: Any, solver: Any, adjoint: Any) -> None:
    def move(x: Any) -> Any:
        return tuple(part.cuda() for part in x) if isinstance(x, tuple) else x.cuda()

    answers = []
    for x0, parameters in (
        (problem.x0, problem.parameters),
        (move(problem.x0), move(problem.parameters)),
    ):
        step = problem.step(*parameters)
        solution = fixed_point(step, x0, solver, adjoint)
        parts = solution.x if isinstance(solution.x, tuple) else (solution.x,)
        loss = sum(part.abs().square().sum() for part in parts)
        grads = torch.autograd.grad(loss, problem.parameters)
        answers.append((solution.iterations.cpu(), loss.cpu(), *grads))
    torch.testing.assert_close(*answers, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("solver_type", SOLVER_TYPES)
def test_x0_is_neither_changed_nor_aliased(solver_type: Any) -> None:
    base = torch.randn(3, 4, 2, dtype=F64)
    x0 = base.permute(1, 2, 0)  # not contiguous
    copy = x0.clone()
    solution = fixed_point(lambda x: x.cos() / 2, x0, solver_type())
    with torch.no_grad():
        again = fixed_point(lambda x: x, x0, solver_type())
        again.x.add_(1)
        solution.x.add_(1)
    assert torch.equal(x0, copy)


@pytest.mark.parametrize("tracked", [False, True])
def test_solution_shares_no_memory_with_tensors_of_the_step(
    tracked: bool,
) -> None:
    y = torch.ones(2, 3)
    with torch.set_grad_enabled(tracked):
        solution = fixed_point(lambda _: y, torch.zeros(2, 3))
    solution.x.zero_()
    assert torch.equal(y, torch.ones(2, 3))
