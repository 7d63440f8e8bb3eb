"""The physics as one solve sees it: its measurement is fixed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from ..fixed_points import CG, LinearOperator, OnFailure, Report, StateLayout, Status
from ..fixed_points.failures import report_failure


class MeasuredPhysics:
    r"""
    A linear physics during the solve for one measurement :math:`y`.

    - :math:`A^\top y` does not change, and is computed once (once more where gradients
      reach it; deepinv recomputes it at every iteration).
    - A proximal operator
      :math:`(I + \gamma A^\top A)^{-1}(z + \gamma A^\top y)` without closed form is
      solved sample by sample, to the ``tol`` and ``max_iter`` of the physics, and
      differentiated implicitly, with gradients for :math:`z`, :math:`y`,
      :math:`\gamma` and the parameters of the physics where autograd sends them.
      deepinv's couples the samples, and adds to the ``.grad`` of buffers at every
      vector-Jacobian product, which an adjoint solve makes many of.

    :param deepinv.physics.LinearPhysics physics: the physics; it is not changed.
    :param torch.Tensor y: the measurement.
    :param str on_failure: what to do where a proximal operator is cut off, in the
        forward or in the backward: ``"warn"``, ``"raise"`` or ``"ignore"``.
    """

    def __init__(
        self, physics: LinearPhysics, y: Tensor, on_failure: OnFailure = "warn"
    ):
        self.original = physics
        self.y = y
        self.on_failure = on_failure
        self.unfinished: list[Report] = []
        # A^T y without its graph, with it, and whether gradients reach it: asked where
        # the solve as a whole is recorded.
        self._constant: Tensor | None = None
        self._recorded: Tensor | None = None
        self._records = torch.is_grad_enabled()
        self._reached = False

    @property
    def physics(self) -> LinearPhysics:
        """A copy of the physics whose methods go through the cache. Not kept here: the
        copy holds methods of this object, and a cycle would keep both, with all that
        was cached, until the collector runs."""
        physics = copy.copy(self.original)
        physics.A_adjoint = self._adjoint
        if type(physics).prox_l2 is LinearPhysics.prox_l2:
            physics.prox_l2 = self._prox_l2
        return physics

    def report_unfinished(self) -> None:
        """Tell of proximal operators that were cut off since the last call."""
        if self.unfinished:
            last = self.unfinished[-1]
            self.unfinished = []
            report_failure(
                last,
                self.on_failure,
                "The proximal operator of the data fidelity, solved to the tol and "
                "max_iter of the physics",
            )

    def start_recording(self) -> None:
        """Forget what was computed with gradients: it belongs to another graph."""
        self._recorded = None

    def _adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        if y is not self.y or kwargs:
            return self.original.A_adjoint(y, **kwargs)
        if self._constant is None:
            with torch.set_grad_enabled(self._records):
                at_y = self.original.A_adjoint(y)
            self._reached = at_y.requires_grad or not self._records
            self._constant = at_y.detach()
        if not (self._reached and torch.is_grad_enabled()):
            return self._constant
        if self._recorded is None:
            self._recorded = self.original.A_adjoint(y)
        return self._recorded

    def _prox_l2(
        self, z: Tensor, y: Tensor, gamma: float | Tensor, **kwargs: Any
    ) -> Tensor:
        if isinstance(gamma, Tensor) and 0 < gamma.ndim < z.ndim:
            gamma = gamma.reshape(-1, *[1] * (z.ndim - 1))
        layout = StateLayout.of(z, "the argument of the proximal operator")
        # The operator is constant for what follows, whatever records it.
        frozen = gamma.detach() if isinstance(gamma, Tensor) else gamma
        shifted = self._shifted(layout, frozen)
        at_y = self._adjoint(y)
        with torch.no_grad():
            gap = frozen * (at_y - self.original.A_adjoint_A(z))
            x = z + _image(layout, shifted(layout.pack(gap)))
        if not torch.is_grad_enabled():
            return x
        # The right side of x = z + gamma (A^T y - A^T A x), recorded at the solution:
        # its derivative through the inverse is that of x.
        right = z + gamma * (at_y - self.original.A_adjoint_A(x))
        change = layout.pack(right - right.detach())

        def backward(rhs: Tensor) -> Tensor:
            v = shifted(rhs)
            self.report_unfinished()  # nobody asks after a backward
            return v

        return x + _image(layout, _SymmetricSolve.apply(backward, change))

    def _shifted(
        self, layout: StateLayout, gamma: float | Tensor
    ) -> Callable[[Tensor], Tensor]:
        r""":math:`(I + \gamma A^\top A)^{-1}` on packed states."""

        def apply(v: Tensor) -> Tensor:
            image = _image(layout, v)
            return v + layout.pack(gamma * self.original.A_adjoint_A(image))

        def solve(rhs: Tensor) -> Tensor:
            solver = CG(max_iter=self.original.max_iter, rtol=self.original.tol)
            with torch.no_grad():
                v, report = solver.run(LinearOperator(apply, apply), rhs)
            if Status.MAX_ITER in report.status or Status.DIVERGED in report.status:
                self.unfinished.append(report)
            # What is not finite must not look solved.
            bad = [status is Status.NONFINITE for status in report.status]
            return torch.where(v.new_tensor(bad).bool()[:, None], torch.nan, v)

        return solve


class _SymmetricSolve(torch.autograd.Function):
    """A linear, symmetric solve, which is its own derivative."""

    @staticmethod
    def forward(ctx: Any, solve: Callable[[Tensor], Tensor], rhs: Tensor) -> Tensor:
        ctx.solve = solve
        return solve(rhs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, _SymmetricSolve.apply(ctx.solve, grad)


def _image(layout: StateLayout, packed: Tensor) -> Tensor:
    image = layout.unpack(packed)
    assert isinstance(image, Tensor)
    return image


def adjoint_image(physics: Physics, y: Tensor) -> Tensor:
    r"""
    :param deepinv.physics.Physics physics: the physics.
    :param torch.Tensor y: the measurement.
    :return: :math:`A^\top y`, deepinv's initial image.
    :raises ValueError: if the physics has no adjoint.
    """
    if not hasattr(physics, "A_adjoint"):
        raise ValueError(
            f"{type(physics).__name__} has no A_adjoint to start from; give init=."
        )
    return physics.A_adjoint(y)
