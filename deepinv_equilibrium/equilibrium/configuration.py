"""Values of the argument ``DEQ``: solver, adjoint and number of layers."""

from __future__ import annotations

from dataclasses import dataclass, field

from deepinv.optim import DEQConfig

from ..fixed_points import (
    Adjoint,
    Anderson,
    FailurePolicy,
    FixedPointSolver,
    Implicit,
    JacobianFree,
    Restarts,
)
from ..fixed_points.argument_checks import require_count, require_instance
from ..fixed_points.failures import FAILURE_POLICIES, check_on_failure


@dataclass
class Equilibrium(DEQConfig):
    r"""
    Configuration of a model whose output is the fixed point
    :math:`x^\star = \Phi_K(x^\star)` of a block :math:`\Phi_K` of :math:`K`
    iterations.

    The solver holds the number of iterations and the tolerance, so that the optimisers
    refuse ``max_iter``, ``early_stop`` and ``thres_conv`` in addition. A list of
    parameters, priors or data fidelities of length :math:`K` has one entry for each
    layer, and every entry receives its own gradient.

    :param FixedPointSolver solver: finds the fixed point. Default: ``Anderson()``.
    :param Adjoint adjoint: differentiates the fixed point. Default: ``Implicit()``.
    :param int layers: number :math:`K` of iterations in the block, at least 1. Default:
        1.
    :param str on_failure: what happens if a sample does not converge in the forward or
        the backward pass: ``"warn"``, ``"raise"``, ``"ignore"``, or ``"skip"``: with a
        warning, the sample adds nothing to any gradient. Default: ``"warn"``.
    :raises TypeError: if ``solver`` or ``adjoint`` is of another type.
    :raises ValueError: if ``layers`` or ``on_failure`` is out of its range, or the
        adjoint does not work with the solver.
    """

    solver: FixedPointSolver = field(default_factory=Anderson)
    adjoint: Adjoint = field(default_factory=Implicit)
    layers: int = 1
    on_failure: FailurePolicy = "warn"
    # Fields of deepinv's DEQConfig. Solver and adjoint take their place.
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
        check_on_failure(self.on_failure, FAILURE_POLICIES)
        self.adjoint.require(self.solver)


class ReTune(Equilibrium):
    r"""
    Configuration of ReTune :footcite:p:`davy2025restarted`: a block :math:`\Phi_K` of
    :math:`K` iterations is applied :math:`T` times, and the gradient passes through the
    last application,

    .. math::

        x_T = \Phi_K^T(x_0), \qquad
        \frac{\mathrm{d} x_T}{\mathrm{d} \theta} \approx
        \partial_\theta \Phi_K(x_{T-1}).

    The gradient is equation (25) of the paper. It needs the memory of :math:`K`
    iterations. Its error decreases with :math:`K`; with :math:`T` it decreases to a
    limit that depends on :math:`K`. The configuration is equivalent to ``Picard`` on
    the block with ``JacobianFree()``, except for the status: a sample that makes all
    :math:`T` applications ends as ``COMPLETED``, without a warning. It ends as
    ``DIVERGED`` if its residual has grown more than tenfold since the first
    application.

    :param int layers: number :math:`K` of iterations in the block, at least 1.
    :param int restarts: number :math:`T` of applications of the block, at least 1.
    :param float rtol: relative residual of the block at which a sample stops, in [0,
        1). Default: ``None``, every sample makes all applications.
    :param str on_failure: what happens if a sample diverges or becomes non-finite:
        ``"warn"``, ``"raise"``, ``"ignore"`` or ``"skip"``, as above. Default:
        ``"warn"``.
    :raises ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        layers: int,
        restarts: int,
        rtol: float | None = None,
        on_failure: FailurePolicy = "warn",
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
