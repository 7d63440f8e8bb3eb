"""Configurations of the ``DEQ`` argument: which solver, which adjoint, which block."""

from __future__ import annotations

from dataclasses import dataclass, field

from deepinv.optim import DEQConfig

from ..fixed_points import (
    Adjoint,
    Anderson,
    FixedPointSolver,
    Implicit,
    JacobianFree,
    OnFailure,
    Restarts,
)
from ..fixed_points.argument_checks import require_count, require_instance
from ..fixed_points.failures import check_on_failure


@dataclass
class Equilibrium(DEQConfig):
    r"""
    A model whose output is the fixed point of a block of ``layers`` iterations of the
    optimiser, :math:`x^* = \Phi_K(x^*)`.

    It has the numbers: ``max_iter``, ``early_stop`` and ``thres_conv`` beside it are
    refused. Parameter, prior or data-fidelity lists of length ``layers`` are the
    layers of the block, and each gets its gradient.

    :param solver: finds the fixed point. Default: ``Anderson()``.
    :param adjoint: gives it its gradient. Default: ``Implicit()``.
    :param int layers: iterations :math:`K` in the block, at least 1. Default: 1.
    :param str on_failure: what to do where a sample does not converge, forward or
        backward: ``"warn"`` (default), ``"raise"`` or ``"ignore"``.
    :raises TypeError: if ``solver`` or ``adjoint`` has the wrong type.
    :raises ValueError: if an argument is out of its range, or the adjoint cannot work
        with the solver.
    """

    solver: FixedPointSolver = field(default_factory=Anderson)
    adjoint: Adjoint = field(default_factory=Implicit)
    layers: int = 1
    on_failure: OnFailure = "warn"
    # The fields of deepinv's own configuration come first and mean nothing here.
    jacobian_free: bool = field(init=False, repr=False, default=False)
    anderson_acceleration_backward: bool = field(init=False, repr=False, default=False)
    history_size_backward: int = field(init=False, repr=False, default=5)
    beta_backward: float = field(init=False, repr=False, default=1.0)
    eps_backward: float = field(init=False, repr=False, default=1e-4)
    max_iter_backward: int = field(init=False, repr=False, default=50)

    def __post_init__(self) -> None:
        require_instance("solver", self.solver, FixedPointSolver)
        require_instance("adjoint", self.adjoint, Adjoint)
        require_count("layers", self.layers, 1)
        check_on_failure(self.on_failure)
        self.adjoint.require(self.solver)


class ReTune(Equilibrium):
    r"""
    ReTune: a block of :math:`K` iterations applied :math:`T` times, of which the last
    application is recorded,

    .. math::

        x_T = \Phi_K^T(x_0), \qquad
        \frac{\mathrm{d} x_T}{\mathrm{d} \theta} \approx
        \partial_\theta \Phi_K(x_{T-1}).

    The gradient is equation (25) of the paper; its memory is that of :math:`K`
    iterations, and its error falls with :math:`K`, and with :math:`T` down to a floor
    that :math:`K` sets. In terms of this package: ``Picard`` over the block with
    ``JacobianFree`` through its last application. Spending the budget is what was
    asked for, so it ends as ``COMPLETED`` without a warning; only a residual that has
    grown more than tenfold since the first application is ``DIVERGED``.

    :param int layers: iterations :math:`K` in the block, at least 1.
    :param int restarts: applications :math:`T` of the block, at least 1.
    :param float rtol: stop restarting a sample when the relative residual of the block
        meets it. Default: ``None``, all restarts are made.
    :param str on_failure: what to do where a sample diverges or turns non-finite:
        ``"warn"`` (default), ``"raise"`` or ``"ignore"``.
    :raises ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        layers: int,
        restarts: int,
        rtol: float | None = None,
        on_failure: OnFailure = "warn",
    ):
        require_count("restarts", restarts, 1)
        super().__init__(
            solver=Restarts(max_iter=restarts, rtol=0.0 if rtol is None else rtol),
            adjoint=JacobianFree(),
            layers=layers,
            on_failure=on_failure,
        )
        self.restarts = restarts
        self.rtol = rtol

    def __repr__(self) -> str:
        return (
            f"ReTune(layers={self.layers}, restarts={self.restarts}, "
            f"rtol={self.rtol}, on_failure={self.on_failure!r})"
        )
