"""A physics with a fixed measurement."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from ..certificates.spectra.closed_prox import claims_closed_prox, solves_prox
from ..certificates.spectra.parameter_snapshot import parameter_snapshot
from ..certificates.spectra.physics_operator import gram_asymmetry
from ..fixed_points import (
    CG,
    FailurePolicy,
    LinearOperator,
    Report,
    StateLayout,
    Status,
)
from ..fixed_points.caller_warnings import warn_caller
from ..fixed_points.failures import report_failure
from .distributed_parts import processes_of


class MeasuredPhysics:
    r"""
    A linear physics with a fixed measurement :math:`y`, for the iterations of a solver.

    It differs from the physics in four ways.

    - It computes :math:`A^\top y` once, and a second time if :math:`A^\top y` has a
      gradient. deepinv computes it in every iteration.
    - The proximal operator :math:`(I + \gamma A^\top A)^{-1} (z + \gamma A^\top y)`
      is the closed form of the physics only if this closed form is right for a random
      image and a random measurement, see
      :func:`~deepinv_equilibrium.certificates.spectra.closed_prox.solves_prox`.
      Otherwise conjugate gradients compute it for each sample, with the ``tol`` and
      ``max_iter`` of the physics. The implicit function theorem gives the gradients in
      :math:`z`, :math:`y`, :math:`\gamma` and the parameters of the physics. Both need
      an ``A_adjoint`` that is the transpose of ``A``, and warn if random images show
      that it is not. deepinv's
      own solver couples the samples, and its backward adds to the ``.grad`` of buffers
      in each vector-Jacobian product, of which an adjoint makes many.
    - It keeps the parameters that the physics has now: ``physics.update(...)`` between
      the forward and the backward pass does not change the gradient.
    - Under ``torch.autocast``, :math:`A`, :math:`A^\top` and the proximal operator are
      computed in the precision of :math:`y`. Fourier transforms have no half precision.

    :param deepinv.physics.LinearPhysics physics: the physics. It is not changed.
    :param torch.Tensor y: the measurement.
    :param str on_failure: what happens if conjugate gradients end without convergence,
        in the forward or the backward pass: ``"warn"``, ``"raise"``, ``"ignore"``
        or ``"skip"``, which warns. Default: ``"warn"``.
    """

    def __init__(
        self, physics: LinearPhysics, y: Tensor, on_failure: FailurePolicy = "warn"
    ):
        self.original = parameter_snapshot(physics)
        self.y = y
        self.on_failure = on_failure
        self.unfinished: list[Report] = []
        self._processes = processes_of((physics,))
        # A^T y without and with its graph, and whether it has a gradient. The latter is
        # found out in the grad mode of the caller: the solver disables gradients.
        self._constant: Tensor | None = None
        self._recorded: Tensor | None = None
        self._records = torch.is_grad_enabled()
        self._reached = False
        self._has_closed_prox: bool | None = None

    @property
    def physics(self) -> LinearPhysics:
        """A copy of the physics that uses the cached :math:`A^\top y`.

        Each access makes a new copy. A stored copy would refer to methods of this
        object, and the reference cycle would delay the release of its tensors."""
        physics = copy.copy(self.original)
        physics.A_adjoint = self._adjoint
        physics.prox_l2 = self._prox_l2
        if torch.is_autocast_enabled(_first_tensor(self.y).device.type):
            physics.A = self._uncast_operator
        return physics

    def report_unfinished(self) -> None:
        """Report the last proximal operator that did not converge since the last call
        of this method, as ``on_failure`` says."""
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
        """Drop the cached tensor with a graph, before a new graph is recorded."""
        self._recorded = None

    def _adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        if y is not self.y or kwargs:
            return self._uncast_adjoint(y, **kwargs)
        if self._constant is None:
            with gradients(self._records):
                at_y = self._uncast_adjoint(y)
            self._reached = at_y.requires_grad or not self._records
            self._constant = at_y.detach()
        if not (self._reached and torch.is_grad_enabled()):
            return self._constant
        if self._recorded is None:
            self._recorded = self._uncast_adjoint(y)
        return self._recorded

    def _uncast_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        with _without_autocast(_first_tensor(y).device):
            return self.original.A_adjoint(y, **kwargs)

    def _uncast_operator(self, x: Tensor, **kwargs: Any) -> Tensor:
        with _without_autocast(x.device):
            return self.original.A(_as_precise_as(x, self.y), **kwargs)

    def _prox_l2(
        self, z: Tensor, y: Tensor, gamma: float | Tensor, **kwargs: Any
    ) -> Tensor:
        with _without_autocast(z.device):
            z = _as_precise_as(z, y)
            if isinstance(gamma, Tensor) and gamma.ndim < z.ndim:
                gamma = gamma.reshape(-1, *[1] * (z.ndim - 1))
            if self._has_closed_prox is None:
                self._has_closed_prox = claims_closed_prox(
                    self.original
                ) and solves_prox(self.original, z, y)
                if not self._has_closed_prox:
                    self._warn_of_asymmetry(z)
            if not self._has_closed_prox:
                return self._iterative_prox(z, y, gamma)
            closed = copy.copy(self.original)
            closed.A_adjoint = self._adjoint
            x: Tensor = closed.prox_l2(z, y, gamma)
            return x

    def _warn_of_asymmetry(self, z: Tensor) -> None:
        asymmetry = gram_asymmetry(self.original, z)
        # Some operators in float64 have parts in float32, whose rounding is 6e-8.
        if asymmetry <= 1e-5 or self.on_failure == "ignore":
            return
        message = (
            f"the A_adjoint of {type(self.original).__name__} is not the transpose of "
            f"its A (<A^T A u, v> and <u, A^T A v> differ by {asymmetry:.0e} of their "
            "scale): the proximal operator of the data fidelity and its gradients are "
            "wrong. Use an exact adjoint, such as deepinv.physics.adjoint_function; "
            "for a Blur with a kernel of one row or column, pad the kernel with zeros "
            "to three, or use ChannelwiseBlur."
        )
        if self.on_failure == "raise":
            raise ValueError(message)
        warn_caller(message)

    def _iterative_prox(self, z: Tensor, y: Tensor, gamma: float | Tensor) -> Tensor:
        layout = StateLayout.of(z, "the argument of the proximal operator")
        # The inverse is not differentiated: the recorded right side is, below.
        frozen = gamma.detach() if isinstance(gamma, Tensor) else gamma
        shifted = self._shifted(layout, frozen)
        at_y = self._adjoint(y)
        with torch.no_grad():
            gap = frozen * (at_y - self.original.A_adjoint_A(z))
            x = z + _image(layout, shifted(layout.pack(gap)))
        if not torch.is_grad_enabled():
            return x
        # x satisfies x = z + gamma (A^T y - A^T A x). By the implicit function theorem
        # dx = (I + gamma A^T A)^{-1} d(right side), with the right side taken at x.
        gram = self.original.A_adjoint_A(x)
        right = z + gamma * (at_y - gram)
        change = layout.pack(right - right.detach())
        before = gram.detach()

        def backward(rhs: Tensor) -> Tensor:
            with _without_autocast(x.device):
                self._require_unchanged(x, before)
                v = shifted(self._processes.average(rhs))
            self.report_unfinished()  # nothing else runs after the backward pass
            return v

        return x + _image(layout, _SymmetricSolve.apply(backward, change))

    @torch.no_grad()
    def _require_unchanged(self, x: Tensor, before: Tensor) -> None:
        r"""Raise unless :math:`A^\top A x` is what it was in the forward pass."""
        now = self.original.A_adjoint_A(x)
        rounding = 1e3 * torch.finfo(x.dtype).eps
        if float((now - before).norm()) > rounding * float(before.norm()):
            raise RuntimeError(
                f"the parameters of {type(self.original).__name__} were written in "
                "place between the forward and the backward pass, which would make the "
                "gradient wrong. Call backward first, or replace the parameters by "
                "physics.update(...)."
            )

    def _shifted(
        self, layout: StateLayout, gamma: float | Tensor
    ) -> Callable[[Tensor], Tensor]:
        r"""Return :math:`(I + \gamma A^\top A)^{-1}` as a function of packed states."""

        def apply(v: Tensor) -> Tensor:
            image = _image(layout, v)
            return v + layout.pack(gamma * self.original.A_adjoint_A(image))

        operator = LinearOperator(apply, apply, self._processes)

        def solve(rhs: Tensor) -> Tensor:
            solver = CG(max_iter=self.original.max_iter, rtol=self.original.tol)
            with torch.no_grad():
                v, report = solver.run(operator, rhs)
            if Status.MAX_ITER in report.status or Status.DIVERGED in report.status:
                self.unfinished.append(report)
            # A solution that is not finite must not pass for a finite one.
            bad = [status is Status.NONFINITE for status in report.status]
            return torch.where(v.new_tensor(bad).bool()[:, None], torch.nan, v)

        return solve


class _SymmetricSolve(torch.autograd.Function):
    """The solution of a symmetric linear system. The solve is its own derivative."""

    @staticmethod
    def forward(ctx: Any, solve: Callable[[Tensor], Tensor], rhs: Tensor) -> Tensor:
        ctx.solve = solve
        return solve(rhs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, _SymmetricSolve.apply(ctx.solve, grad)


def gradients(enabled: bool) -> AbstractContextManager[Any]:
    """Return a context with or without gradients, which torch.export cannot save where
    it changes nothing."""
    if enabled == torch.is_grad_enabled():
        return nullcontext()
    return torch.set_grad_enabled(enabled)


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context without autocast. It costs nothing where autocast is not
    enabled, and torch.export cannot trace the context of torch."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _as_precise_as(z: Tensor, y: Tensor | list[Tensor]) -> Tensor:
    """Return an image in the precision of a measurement, if it is the higher one. Under
    autocast a denoiser returns half precision."""
    widest = torch.promote_types(z.dtype.to_real(), _first_tensor(y).dtype.to_real())
    return z.to(torch.promote_types(z.dtype, widest))


def _first_tensor(y: Tensor | list[Tensor]) -> Tensor:
    """Return a measurement, or the first one of a list, which stacked physics have."""
    return y if isinstance(y, Tensor) else _first_tensor(y[0])


def _image(layout: StateLayout, packed: Tensor) -> Tensor:
    image = layout.unpack(packed)
    assert isinstance(image, Tensor)
    return image


def adjoint_image(physics: Physics, y: Tensor) -> Tensor:
    r"""
    Return :math:`A^\top y`, the initial image of deepinv's optimisers.

    :param deepinv.physics.Physics physics: the physics.
    :param torch.Tensor y: the measurement.
    :return: (:class:`torch.Tensor`) :math:`A^\top y`.
    :raises ValueError: if the physics has no method ``A_adjoint``.
    """
    if not hasattr(physics, "A_adjoint"):
        raise ValueError(
            f"{type(physics).__name__} has no A_adjoint to start from; give init=."
        )
    return physics.A_adjoint(y)
