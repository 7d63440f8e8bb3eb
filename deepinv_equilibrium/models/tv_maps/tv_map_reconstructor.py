"""Reconstruction with total variation whose weight a network estimates."""

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
from ...fixed_points import (
    ALONE,
    Implicit,
    OfSamples,
    Processes,
    Solution,
    State,
    Step,
)
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


class TVMapReconstructor(UnrollableModel):
    r"""
    Reconstruction by total variation with a weight that is estimated from the
    measurement :footcite:p:`kofler2023learning`, for a linear operator :math:`A`,

    .. math::

        \hat x = \operatorname*{arg\,min}_x \tfrac12 \|A x - y\|^2
        + \|\Lambda(y) D x\|_{2, 1}, \qquad
        \Lambda(y) = \operatorname{NN}_\theta(z), \quad z \approx A^\dagger y,

    or with the norm :math:`\|\Lambda(y) D x\|_1`. The map :math:`\Lambda(y)` is
    estimated once for each measurement. The primal-dual iterations of
    :class:`~deepinv_equilibrium.optim.total_variation.PrimalDualTVStep` solve the
    problem, from the image :math:`z` and the dual 0.

    The weights :math:`\theta` of the network and the two step sizes are trained end to
    end. :class:`~deepinv_equilibrium.models.TVStepSizes` keeps the step sizes in the
    range in which the iterations converge. The paper has :math:`\sigma \tau \|K\|^2 <
    1` with :math:`K = (A, D)`, assumes :math:`\|A\| \leq 1`, and trains an
    extrapolation parameter; the authors' code has the componentwise norm.

    The arguments ``max_iter`` and ``DEQ`` determine the iterations and the gradient:

    - ``max_iter=T`` unrolls :math:`T` iterations. The gradient passes through all of
      them.
    - ``DEQ=ReTune(K, R)`` makes :math:`R` blocks of :math:`K` iterations. The gradient
      passes through the last block.
    - ``DEQ=Equilibrium(solver, JacobianFree())`` computes the minimiser. The gradient
      passes through the last iteration.
    - ``DEQ=Equilibrium(solver, Implicit(CG()))`` computes the minimiser and its
      gradient by the implicit function theorem, and stores no iteration. The theorem is
      applied to the images that are constant where the minimiser is constant, see
      :class:`~deepinv_equilibrium.optim.total_variation.PiecewiseConstantStep`. If
      :math:`A` is injective on these images, the linear system is symmetric and
      positive definite. The system in image and dual would be singular, because the
      dual is not unique.

    Both can be set at any time. A map that was trained with few iterations compensates
    for the missing ones, and should be used with about as many. A map that was trained
    near the minimiser can be used with any larger number.

    Calling the model returns images of the shape of :math:`A^\top y`, :math:`(B, C, H,
    W)`, or with three spatial axes :math:`(B, C, D, H, W)` or :math:`(B, C, T, H, W)`.
    In addition to :class:`~deepinv_equilibrium.equilibrium.EquilibriumModel`, it raises
    a ``TypeError`` if the physics is not linear, and a ``ValueError`` if ``y`` has
    values that are not finite, or its images have another number of channels or of
    spatial axes than the map was built for.

    :param deepinv_equilibrium.models.TVMap tv_map: estimates the weight, e.g.
        :class:`~deepinv_equilibrium.models.UNetTVMap`, or the baseline
        :class:`~deepinv_equilibrium.models.ConstantTVMap`.
    :param int max_iter: number :math:`T` of iterations to unroll. Default: ``None``.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: solver,
        adjoint and number of layers, instead of ``max_iter``. Default: ``None``.
    :param str norm: ``"isotropic"`` or ``"componentwise"``. Default: ``"isotropic"``.
    :param int input_iterations: number of iterations of conjugate gradients on the
        normal equations that compute the input :math:`z` of the map; with 0, :math:`z =
        A^\top y`. Default: 8.
    :param float stepsize: initial value of :math:`\tau \|A\|^2`, in (0, 1.98). Default:
        1.
    :param bool show_progress_bar: whether to show a progress bar during the iterations.
        Default: ``False``.
    :raises TypeError: if ``tv_map`` or ``DEQ`` is of another type.
    :raises ValueError: if both or neither of ``max_iter`` and ``DEQ`` are given, or an
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

    has_common_step_size = True

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

    def _set_equilibrium(self, config: Any) -> None:
        super()._set_equilibrium(config)
        # The stability is that of the minimiser, which a fixed budget need not reach.
        # A certificate sees when this public attribute changes.
        self.fixed_budget = self.DEQ.solver.has_fixed_budget

    def get_extra_state(self) -> dict[str, Any]:
        """Return the settings that the ``state_dict`` contains."""
        return {"norm": self.norm, "input_iterations": self.input_iterations}

    def set_extra_state(self, state: Any) -> None:
        """Raise if the settings of a ``state_dict`` differ from those of the model."""
        refuse_other_settings(self, state)

    def extra_repr(self) -> str:
        """Return the settings that ``repr`` shows."""
        return (
            f"norm={self.norm!r}, input_iterations={self.input_iterations}, "
            f"DEQ={self.DEQ!r}"
        )

    def parameter_map(self, y: Tensor, physics: LinearPhysics) -> Tensor:
        r"""
        Return the weight that is estimated for a measurement.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: (:class:`torch.Tensor`) :math:`\Lambda > 0`, of shape
            :math:`(B, 1, d, N_1, \ldots, N_d)`. Axes along which the weight is constant
            may have length 1.
        :raises TypeError: if the physics is not linear.
        :raises ValueError: if ``y`` does not have the shape that ``physics.A`` returns,
            or its images do not fit the map.
        """
        return self.tv_map(map_input(y, physics, self.input_iterations))

    @torch.no_grad()
    def plot(self, y: Tensor, physics: LinearPhysics) -> Figure:
        r"""
        Plot :math:`A^\top y`, the reconstruction and the weight of the first sample.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: (matplotlib.figure.Figure) the figure.
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
        Return what is proved of the model; :func:`deepinv_equilibrium.certify` reports
        it.

        The iterations are averaged for every weight :math:`\Lambda`, so that they
        converge. They do not contract, because the dual of a minimiser is not unique,
        and no rate is returned.

        If the weight does not depend on the measurement, :math:`A x^\star(y)` is a
        proximal operator at :math:`y`, which is nonexpansive. The minimisers are
        stable,

        .. math::

            \|x^\star(y_1) - x^\star(y_2)\| \leq \frac{1}{\sqrt\mu} \|y_1 - y_2\|,
            \qquad A^\top A \succeq \mu I.

        This does not hold for a fixed number of iterations, whose result depends on the
        initial image.

        :param deepinv.physics.LinearPhysics physics: the physics.
        :param Sequence img_size: size of the images without the batch axis.
        :return: (Contraction) an infinite rate with the reason, and the stability.
        :raises UncertifiableModuleError: if a hook or a replaced method may change what
            the model computes.
        """
        refuse_changed(self)
        if self.fixed_budget:
            stability = Bound(
                math.inf,
                source="a number of iterations, which need not reach a minimiser",
            )
        elif type(self.tv_map) is ConstantTVMap:  # a subclass may use the image
            mu = spectrum(physics, img_size).of_one_kind().lower
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
                "A stability is that of the exact minimiser, which is reached up to "
                "the tolerance of the solver.",
            ),
        )

    def fixed_point_problem(
        self, y: Tensor, physics: LinearPhysics
    ) -> tuple[PrimalDualTVStep, State]:
        r"""
        Return the step, a block of ``DEQ.layers`` iterations, and the initial image
        and dual.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: (tuple) the step, and the tuple of the image :math:`z` and the dual 0.
        :raises TypeError: if the physics is not linear.
        :raises ValueError: if ``y`` does not have the shape that ``physics.A`` returns
            or has values that are not finite, or its images do not fit the map.
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
        self,
        step: Step,
        start: State,
        observer: Observer | None = None,
        processes: Processes = ALONE,
        of_samples: OfSamples | None = None,
    ) -> Solution:
        assert isinstance(step, PrimalDualTVStep)
        config = self.DEQ
        if not isinstance(config.adjoint, Implicit):
            return super()._solve(step, start, observer, processes, of_samples)
        with torch.no_grad():
            solution = super()._solve(step, start, observer, processes, of_samples)
        if not torch.is_grad_enabled():
            return solution
        return with_implicit_gradient(step, solution, config.adjoint, config.on_failure)
