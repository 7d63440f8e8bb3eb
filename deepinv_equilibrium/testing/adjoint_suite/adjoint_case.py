"""The arguments of a check of an adjoint, and the problems that it differentiates."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ...fixed_points import (
    Adjoint,
    Anderson,
    Broyden,
    FixedPointSolver,
    Picard,
    Solution,
    State,
    StateLayout,
    Step,
    fixed_point,
)
from ..random_problems import F64, KINDS, StateKind, contractions, normal, products

Formula: TypeAlias = Callable[[Tensor, Tensor], Tensor]
r"""From the Jacobian :math:`J`, of shape :math:`(n, n)`, and the cotangent
:math:`c = \partial\ell / \partial x^*`, of shape :math:`(n,)`, of one sample to the
vector :math:`v` whose product :math:`v^\top \partial_\theta f` is the gradient."""


def exact_adjoint(jacobian: Tensor, cotangent: Tensor) -> Tensor:
    r"""
    The formula of an exact adjoint, :math:`v = (I - J^\top)^{-1} c`.

    :param torch.Tensor jacobian: :math:`J`, of shape :math:`(n, n)`.
    :param torch.Tensor cotangent: :math:`c`, of shape :math:`(n,)`.
    :return: (:class:`torch.Tensor`) :math:`v`, of shape :math:`(n,)`.
    """
    eye = torch.eye(len(cotangent), dtype=cotangent.dtype)
    return torch.linalg.solve(eye - jacobian.mT, cotangent)


def neumann_sum(order: int) -> Formula:
    r"""
    The formula of a truncated Neumann series, :math:`v = \sum_{p=0}^{P} (J^\top)^p c`.

    :param int order: :math:`P \geq 0`. :class:`JacobianFree(steps)
        <deepinv_equilibrium.JacobianFree>` has ``order = steps - 1``.
    :return: (Callable) the formula, for :func:`check_adjoint`.
    """

    def formula(jacobian: Tensor, cotangent: Tensor) -> Tensor:
        v = cotangent
        for _ in range(order):
            v = jacobian.mT @ v + cotangent
        return v

    return formula


@dataclass(frozen=True)
class AdjointCase:
    """The arguments of :func:`check_adjoint`."""

    component: Adjoint
    formula: Formula | None = exact_adjoint
    symmetric: bool = False
    rtol: float = 1e-6

    def __post_init__(self) -> None:
        if not isinstance(self.component, Adjoint):
            raise TypeError(f"adjoint must be an Adjoint, got {self.component!r}.")

    @property
    def solvers(self) -> list[FixedPointSolver]:
        """Solvers that the adjoint accepts, with tight tolerances."""
        accepted: list[FixedPointSolver] = []
        for solver in (
            Picard(max_iter=500, rtol=1e-11),
            Anderson(max_iter=500, rtol=1e-11),
            Broyden(max_iter=500, rtol=1e-11),
        ):
            with contextlib.suppress(ValueError):
                self.component.require(solver)
                accepted.append(solver)
        if not accepted:
            raise AssertionError("require refuses Picard, Anderson and Broyden")
        return accepted

    @property
    def problems(self) -> dict[str, AdjointProblem]:
        """The problems by name."""
        if self.symmetric:
            forms = {"affine symmetric": "affine", "potential": "potential"}
            kinds = dict.fromkeys(forms, "vector")
        else:
            forms = {"affine": "affine", "image": "tanh", "tuple": "tanh"}
            kinds = {"affine": "vector", "image": "image", "tuple": "tuple"}
        return {
            name: AdjointProblem.draw(form, kinds[name], self.symmetric)
            for name, form in forms.items()
        }

    def solve(self, step: Step, x0: State, solver: FixedPointSolver) -> Solution:
        """Return the solution, whose gradient the adjoint computes."""
        return fixed_point(step, x0, solver, self.component, on_failure="ignore")


@dataclass(frozen=True)
class AdjointProblem:
    r"""
    A family of steps with three parameters, :math:`s W_i x + y_i` (affine),
    :math:`s \tanh(W_i x) + y_i` (tanh) or :math:`s W_i \tanh(W_i^\top x) + y_i`
    (potential, whose Jacobian is symmetric).

    :param str form: which of the three.
    :param StateKind kind: the states.
    :param tuple parameters: :math:`W`, :math:`s` and :math:`y`, leaves in float64.
    """

    form: str
    kind: StateKind
    parameters: tuple[Tensor, ...]

    @classmethod
    def draw(cls, form: str, kind: str, symmetric: bool = False) -> AdjointProblem:
        """Draw three samples, from easy to hard."""
        size = KINDS[kind].size
        weight = contractions((0.2, 0.4, 0.7), size, symmetric, seed=6)
        scale = torch.tensor(0.9, dtype=F64)
        y = normal(3, size, seed=7)
        parameters = tuple(p.requires_grad_() for p in (weight, scale, y))
        return cls(form, KINDS[kind], parameters)

    def with_parameters(self, parameters: Sequence[Tensor]) -> AdjointProblem:
        """Return the problem with other parameters."""
        return AdjointProblem(self.form, self.kind, tuple(parameters))

    @property
    def layout(self) -> StateLayout:
        """Layout of the states."""
        return self.kind.layout(len(self.parameters[2]))

    @property
    def x0(self) -> State:
        """Initial state: zeros."""
        return self.layout.unpack(torch.zeros_like(self.parameters[2]))

    def packed_step(self, x: Tensor) -> Tensor:
        """The step on packed states."""
        weight, scale, y = self.parameters
        if self.form == "affine":
            value = products(weight, x)
        elif self.form == "tanh":
            value = torch.tanh(products(weight, x))
        else:
            value = products(weight, torch.tanh(products(weight.mT, x)))
        return scale * value + y

    def step(self, state: State) -> State:
        """The step."""
        layout = self.layout
        return layout.unpack(self.packed_step(layout.pack(state)))

    def jacobians(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""
        Return the step and its Jacobians at some states.

        :param torch.Tensor x: packed states.
        :return: the recorded value of the step, and its dense Jacobians, of shape
            :math:`(B, n, n)`.
        """
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            value = self.packed_step(x)
        rows = [
            torch.autograd.grad(entry.sum(), x, retain_graph=True)[0]
            for entry in value.unbind(dim=1)
        ]
        return value, torch.stack(rows, dim=1)


class StepWithOutput:
    r"""The step :math:`\tanh(W_i x) + y_i` with the output :math:`\sin(V x) + y_i`."""

    def __init__(self, problem: AdjointProblem) -> None:
        self.problem = problem
        self.readout = normal(2, problem.kind.size, seed=8)

    def step_and_output(self, state: State) -> tuple[State, Tensor]:
        """The value and the output."""
        x = self.problem.layout.pack(state)
        output = torch.sin(products(self.readout.expand(len(x), -1, -1), x))
        return self.problem.step(state), output + self.problem.parameters[2][:, :2]

    def __call__(self, state: State) -> State:
        """The value."""
        return self.step_and_output(state)[0]
