"""Reconstruction with total variation whose weights a network estimates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ...certificates import Bound, Contraction, spectrum
from ...certificates.bounds import outward
from ...certificates.declarations import refuse_changed
from ...equilibrium import Equilibrium, UnrollableModel
from ...equilibrium.equilibrium_model import Observer
from ...fixed_points import Implicit, Solution, State, Step
from ...fixed_points.argument_checks import require_count
from ...optim.total_variation.primal_dual_step import (
    PrimalDualTVStep,
    with_implicit_gradient,
)
from ...optim.total_variation.tv_groups import TVNorm, as_weight, check_norm
from ..least_squares_image import map_input
from .tv_map import ConstantTVMap, TVMap, refuse_other_settings
from .tv_map_plot import plot_tv_map
from .tv_step_sizes import TVStepSizes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def tv_map_contraction(
    physics: LinearPhysics, img_size: Sequence[int], constant_map: bool, budget: bool
) -> Contraction:
    r"""
    Contraction and stability of :math:`\min_x \tfrac12 \|A x - y\|^2 +
    \|\Lambda D x\|`, solved by primal-dual iterations.

    These are averaged for every weight, and converge; but the dual of a minimiser is
    not unique, so that they do not contract, and no rate is claimed. With a weight that
    does not depend on the measurement, and run to a tolerance and not for a number of
    iterations, whose result depends on where they start, the minimisers are stable,

    .. math::

        \|x^\star(y_1) - x^\star(y_2)\| \leq \frac{1}{\sqrt\mu} \|y_1 - y_2\|, \qquad
        A^\top A \geq \mu I,

    as :math:`A x^\star` is a proximal operator of the measurement, which does not
    expand.

    :param deepinv.physics.LinearPhysics physics: the physics.
    :param Sequence img_size: size of the images, without the batch.
    :param bool constant_map: whether the weight does not depend on the measurement.
    :param bool budget: whether a fixed number of iterations is made.
    :return: (Contraction) an infinite rate, with the reason, and the stability.
    """
    if budget:
        stability = Bound(
            math.inf, source="a number of iterations, which need not reach a minimiser"
        )
    elif constant_map:
        mu = spectrum(physics, img_size).lower
        stability = Bound(
            outward(1 / math.sqrt(mu.value)) if mu.value > 0 else math.inf,
            mu.kind,
            f"1 / sqrt(mu), mu {mu}",
        )
    else:
        stability = Bound(math.inf, source="the map depends on the measurement")
    return Contraction(
        Bound(
            math.inf,
            source="the dual of total variation is not unique: the iterations are "
            "averaged and converge, but do not contract",
        ),
        norm="that of image and dual with the weights 1/tau and 1/sigma",
        stability=stability,
        in_state=False,
        notes=(
            "The step sizes keep tau |A|^2 < 2 and sigma tau |D|^2 < 1.",
            "A stability is that of the exact minimiser, which is reached up to the "
            "tolerance of the solver.",
        ),
    )


class TVMapReconstructor(UnrollableModel):
    r"""
    Total variation with weights that are estimated from the measurement,

    .. math::

        \hat x = \operatorname*{arg\,min}_x \tfrac12 \|A x - y\|^2
        + \|\Lambda(y) D x\|_{2, 1}, \qquad
        \Lambda(y) = \operatorname{NN}_\theta(z), \quad z \approx A^\dagger y,

    or with :math:`\|\Lambda(y) D x\|_1`, learned end to end
    :footcite:p:`kofler2023learning`, for any linear physics. The map is estimated once,
    and the problem solved by the primal-dual iterations of
    :class:`~deepinv_equilibrium.optim.total_variation.PrimalDualTVStep`, whose two step
    sizes are learned too, so that they converge whatever is learned:
    :class:`~deepinv_equilibrium.models.TVStepSizes`. (The paper has :math:`\sigma \tau
    \|K\|^2 < 1` with :math:`K = (A, D)` and :math:`\|A\| \leq 1` assumed, and a
    learned extrapolation; its code has the componentwise norm.)

    What is computed, and with which gradient:

    - ``max_iter=T``: :math:`T` iterations, unrolled: all are recorded.
    - ``DEQ=ReTune(K, R)``: :math:`R` times :math:`K` iterations, the last :math:`K` of
      which are recorded.
    - ``DEQ=Equilibrium(solver, JacobianFree())``: the minimiser, with the last
      iteration recorded.
    - ``DEQ=Equilibrium(solver, Implicit(CG()))``: the minimiser, with the gradient of
      the implicit function theorem. No iteration is recorded. It is taken in the image,
      among those with the same flat places
      (:class:`~deepinv_equilibrium.optim.total_variation.PiecewiseConstantStep`), where
      the system is symmetric and definite if :math:`A` is injective there; in the
      state it would be singular, as the dual is not unique.

    ``max_iter`` and ``DEQ`` can be changed at any time. A map that was trained with few
    iterations has learned to make up for those that are missing: it is run with about
    as many; one that was trained near the minimiser, with any number from there on.

    :param deepinv_equilibrium.models.TVMap tv_map: estimates the weight, e.g.
        :class:`~deepinv_equilibrium.models.UNetTVMap`; or the baseline
        :class:`~deepinv_equilibrium.models.ConstantTVMap`.
    :param int max_iter: iterations :math:`T` to unroll.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: the
        equilibrium, in the place of ``max_iter``.
    :param str norm: ``"isotropic"`` (default) or ``"componentwise"``.
    :param int input_iterations: iterations of conjugate gradients on the normal
        equations that make the input :math:`z` of the map; with 0 it is
        :math:`A^\top y`.
    :param float stepsize: :math:`\tau \|A\|^2` to start from, in (0, 1.98).
    :param bool show_progress_bar: whether to show one during the iterations.
    :raises TypeError: if ``tv_map`` or ``DEQ`` is none.
    :raises ValueError: if not exactly one of ``max_iter`` and ``DEQ`` is given, or an
        argument is out of its range.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> model = deq.models.TVMapReconstructor(
    ...     deq.models.UNetTVMap(in_channels=1, directions=(0, 0)),
    ...     DEQ=deq.ReTune(layers=8, restarts=4),
    ... )
    >>> physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    >>> y = physics(torch.rand(2, 1, 32, 32))
    >>> with torch.no_grad():
    ...     print(model(y, physics).shape, model.parameter_map(y, physics).shape)
    torch.Size([2, 1, 32, 32]) torch.Size([2, 1, 2, 32, 32])
    """

    def __init__(
        self,
        tv_map: TVMap,
        max_iter: int | None = None,
        DEQ: Equilibrium | None = None,
        norm: TVNorm = "isotropic",
        input_iterations: int = 8,
        stepsize: float = 1.0,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__(max_iter, DEQ, show_progress_bar)
        if not isinstance(tv_map, TVMap):
            raise TypeError(
                "tv_map must be a TVMap, such as UNetTVMap(in_channels=1, "
                f"directions=(0, 0)), got {type(tv_map).__name__}."
            )
        check_norm(norm)
        require_count("input_iterations", input_iterations, 0)
        self.tv_map, self.norm = tv_map, norm
        self.input_iterations = input_iterations
        self.step_sizes = TVStepSizes(stepsize)

    def _settings(self, config: Equilibrium) -> dict[str, int | bool]:
        # The stability is that of the minimiser, which a fixed budget need not reach.
        budget = config.solver.has_fixed_budget
        return {**super()._settings(config), "fixed_budget": budget}

    def get_extra_state(self) -> dict[str, Any]:
        """Return what else the image depends on, for the ``state_dict``."""
        return {"norm": self.norm, "input_iterations": self.input_iterations}

    def set_extra_state(self, state: Any) -> None:
        """Refuse weights of a model that solves another problem."""
        refuse_other_settings(self, state)

    def extra_repr(self) -> str:
        """Return what the representation shows first."""
        return (
            f"norm={self.norm!r}, input_iterations={self.input_iterations}, "
            f"DEQ={self.DEQ!r}"
        )

    def parameter_map(self, y: Tensor, physics: LinearPhysics) -> Tensor:
        r"""
        The weight that is estimated for a measurement.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: (:class:`torch.Tensor`) :math:`\Lambda > 0`, of shape
            :math:`(B, 1, d, N_1, \ldots, N_d)`, with 1 for what it does not depend on.
        :raises TypeError: if the physics is not linear.
        :raises ValueError: if the measurement is none of this physics.
        """
        return self.tv_map(map_input(y, physics, self.input_iterations))

    @torch.no_grad()
    def plot(self, y: Tensor, physics: LinearPhysics) -> Figure:
        r"""
        Show the reconstruction of the first sample, and the map it was made with.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: (matplotlib.figure.Figure) images, and weights of the directions.
        """
        images = {
            r"$A^\top y$": physics.A_adjoint(y)[:1],
            "reconstruction": self(y, physics)[:1],
        }
        weight = self.parameter_map(y, physics)[:1]
        return plot_tv_map(images, weight, self.tv_map.directions)

    def contraction(
        self, physics: LinearPhysics, img_size: Sequence[int]
    ) -> Contraction:
        r"""
        What is known of the contraction, for :func:`deepinv_equilibrium.certify`: see
        :func:`~deepinv_equilibrium.models.tv_maps.tv_map_reconstructor.tv_map_contraction`.

        :param deepinv.physics.LinearPhysics physics: the physics.
        :param Sequence img_size: size of the images, without the batch.
        :return: (Contraction) no rate, and the stability of the minimiser.
        :raises UncertifiableModuleError: if a hook may change what is computed.
        """
        refuse_changed(self)
        constant = type(self.tv_map) is ConstantTVMap  # subclasses may read the image
        return tv_map_contraction(
            physics, img_size, constant, self.DEQ.solver.has_fixed_budget
        )

    def fixed_point_problem(
        self, y: Tensor, physics: LinearPhysics
    ) -> tuple[PrimalDualTVStep, State]:
        r"""
        The fixed-point problem that the model solves for a measurement.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: the step, a block of ``DEQ.layers`` iterations, and the initial image
            and dual.
        :raises TypeError: if the physics is not linear.
        :raises ValueError: if the measurement is none of this physics.
        """
        z = map_input(y, physics, self.input_iterations)
        weight = as_weight(self.tv_map(z), z, "the weight of tv_map")
        tau, sigma = self.step_sizes(physics, z.detach())
        step = PrimalDualTVStep(
            y, physics, weight, self.norm, tau, sigma, self.DEQ.layers
        )
        dual = z.new_zeros(*z.shape[:2], z.ndim - 2, *z.shape[2:])
        return step, (z, dual)

    def _solve(
        self, step: Step, start: State, observer: Observer | None = None
    ) -> Solution:
        assert isinstance(step, PrimalDualTVStep)
        config = self.DEQ
        if not isinstance(config.adjoint, Implicit):
            return super()._solve(step, start, observer)
        with torch.no_grad():
            solution = super()._solve(step, start, observer)
        if not torch.is_grad_enabled():
            return solution
        return with_implicit_gradient(step, solution, config.adjoint, config.on_failure)
