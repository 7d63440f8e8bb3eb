"""A reconstructor for one operator that is reused as a regulariser for another."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from deepinv.models import Reconstructor
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor
from tqdm.auto import tqdm

from ...equilibrium import Equilibrium
from ...equilibrium.input_checks import (
    check_samples_apart,
    measured_image,
    require_linear,
)
from ...equilibrium.measured_physics import MeasuredPhysics
from ...fixed_points import Solution, State, fixed_point
from ...fixed_points.argument_checks import require_number


class ReuseAndRegularise(Reconstructor):
    r"""
    Reuse and regularise :footcite:p:`gilton2021model`: a model
    :math:`f(\cdot\,; \theta, A_0)` that was trained for an operator :math:`A_0`
    restores measurements :math:`y = A_1 x + \varepsilon` of another one, without any
    training,

    .. math::

        z_k = f(A_0 x_k; \theta, A_0), \qquad
        x_{k+1} = \operatorname*{arg\,min}_x \|A_1 x - y\|^2 + \lambda \|x - z_k\|^2 .

    An image of the kind that the model was trained on is restored by :math:`f` from
    its measurement :math:`A_0 x`, so that :math:`x - f(A_0 x)` is small for such
    images and for no others: it has the part of the residual of a denoiser in
    regularisation by denoising, and a fixed point solves

    .. math::

        A_1^\top (A_1 x - y) + \lambda \bigl(x - f(A_0 x; \theta, A_0)\bigr) = 0 .

    Nothing bounds the Lipschitz constant of :math:`f \circ A_0`, so that convergence is
    observed, not certified: see :attr:`solution`. Iterations start from
    :math:`A_1^\top y`. The minimiser is in closed form where the physics has one, else
    by conjugate gradients to its ``tol`` and ``max_iter``. Gradients reach
    :math:`\theta`, the measurement and the physics, so that the model can be trained
    on.

    :param deepinv.models.Reconstructor model: :math:`f`, trained for
        ``nominal_physics``.
    :param deepinv.physics.Physics nominal_physics: :math:`A_0`.
    :param float weight: :math:`\lambda > 0`.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: solver and
        adjoint, or so many iterations: ``ReTune(layers=1, restarts=20)``. Default:
        ``None``, ``Equilibrium()``.
    :param bool show_progress_bar: whether to show one during the iterations.
    :raises TypeError: if an argument is of the wrong kind.
    :raises ValueError: if ``weight`` is not positive and finite.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> nominal = dinv.physics.Denoising()
    >>> model = dinv.models.ArtifactRemoval(dinv.models.MedianFilter())
    >>> reused = deq.models.ReuseAndRegularise(
    ...     model, nominal, weight=0.1, DEQ=deq.ReTune(layers=1, restarts=5)
    ... )
    >>> physics = dinv.physics.Inpainting((1, 8, 8), mask=0.5)
    >>> reused(physics(torch.rand(2, 1, 8, 8)), physics).shape
    torch.Size([2, 1, 8, 8])
    """

    solution: Solution | None
    """Report and state of the last solve, without gradient; ``None`` before."""

    def __init__(
        self,
        model: Reconstructor,
        nominal_physics: Physics,
        weight: float = 0.1,
        DEQ: Equilibrium | None = None,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(model, Reconstructor):
            raise TypeError(
                "model must be a deepinv Reconstructor that was trained for "
                f"nominal_physics, got {type(model).__name__}."
            )
        if not isinstance(nominal_physics, Physics):
            raise TypeError(
                "nominal_physics must be the deepinv Physics that model was trained "
                f"for, got {type(nominal_physics).__name__}."
            )
        require_number("weight", weight)
        if not 0 < weight < math.inf:
            raise ValueError(f"weight must be positive and finite, got {weight!r}.")
        if not (DEQ is None or isinstance(DEQ, Equilibrium)):
            raise TypeError(
                "DEQ must be Equilibrium(solver, adjoint) or ReTune(layers, restarts), "
                f"got {DEQ!r}."
            )
        self.model = model
        self.nominal_physics = nominal_physics
        self.weight = float(weight)
        self.DEQ = Equilibrium() if DEQ is None else DEQ
        self.show_progress_bar = show_progress_bar
        self.solution = None

    @property
    def equilibrium(self) -> Equilibrium:
        """``DEQ``, by the name that the optimisers of :mod:`deepinv_equilibrium.optim`
        keep theirs under."""
        return self.DEQ

    def extra_repr(self) -> str:
        """Return what the representation shows first."""
        return f"weight={self.weight:g}, DEQ={self.DEQ!r}"

    def fixed_point_problem(
        self, y: Tensor, physics: LinearPhysics
    ) -> tuple[ReuseStep, State]:
        r"""
        The fixed-point problem that the model solves for a measurement.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: :math:`A_1`, linear.
        :return: the step, a block of ``DEQ.layers`` iterations, and
            :math:`A_1^\top y`.
        :raises TypeError: if the physics is not linear.
        :raises ValueError: if the measurement is none of this physics, or modules
            couple the samples or are random.
        """
        require_linear(physics, "the data are fitted by least squares")
        check_samples_apart(self)
        measured = MeasuredPhysics(physics, y, self.DEQ.on_failure)
        start = measured_image(y, measured.physics).detach()
        return ReuseStep(self, measured), start

    def forward(self, y: Tensor, physics: LinearPhysics, **kwargs: Any) -> Tensor:
        r"""
        Reconstruct.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: :math:`A_1`, linear.
        :return: (:class:`torch.Tensor`) images, of the shape that the model returns.
        :raises TypeError: if the physics is not linear, or an argument is unknown.
        :raises ValueError: if the measurement is none of ``physics``, the model returns
            images of another shape than those that ``physics`` measures, or modules
            couple the samples or are random.
        :raises ConvergenceError: if a sample fails and ``on_failure="raise"``.
        """
        if kwargs:
            raise TypeError(
                f"ReuseAndRegularise takes no argument {next(iter(kwargs))!r}."
            )
        step, start = self.fixed_point_problem(y, physics)
        config = self.DEQ
        hidden, total = not self.show_progress_bar, config.solver.max_iter
        with tqdm(total=total, desc="ReuseAndRegularise", disable=hidden) as bar:
            solution = fixed_point(
                step,
                start,
                config.solver,
                config.adjoint,
                config.on_failure,
                lambda state, value: bar.update(),
            )
        assert isinstance(solution.x, Tensor)
        # Broyden's memory is that of many images: it served the backward.
        self.solution = replace(solution.detach(), inverse_jacobian=None)
        step.measured.report_unfinished()
        return solution.x


class ReuseStep:
    r"""
    As many iterations as the block has layers.

    :param ReuseAndRegularise owner: has the model, its operator and the weight.
    :param MeasuredPhysics measured: the physics of the measurement.
    """

    def __init__(self, owner: ReuseAndRegularise, measured: MeasuredPhysics) -> None:
        self.owner = owner
        self.measured = measured
        self.physics = measured.physics

    def __call__(self, state: State) -> State:
        """The image after the block."""
        assert isinstance(state, Tensor)
        if torch.is_grad_enabled():
            self.measured.start_recording()
        owner, x = self.owner, state
        for _ in range(owner.DEQ.layers):
            z = owner.model(owner.nominal_physics.A(x), owner.nominal_physics)
            if z.shape != x.shape:
                raise ValueError(
                    f"model returns images of shape {tuple(z.shape)}, but physics "
                    f"({type(self.measured.original).__name__}) measures images of "
                    f"shape {tuple(x.shape)}; nominal_physics must be for these too."
                )
            x = self.physics.prox_l2(z, self.measured.y, gamma=1 / owner.weight)
        return x
