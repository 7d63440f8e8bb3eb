"""What deepinv's optimisers share once they run to equilibrium."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, ClassVar

import torch
from deepinv.optim import BaseOptim, DEQConfig
from deepinv.physics import Physics
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..certificates import Contraction
from ..equilibrium import Equilibrium
from ..equilibrium.input_checks import check_samples_apart
from ..equilibrium.measured_physics import adjoint_image
from ..fixed_points import Solution, State, Unrolled, fixed_point
from .algorithm_state import PRIMAL, AlgorithmState, Estimate, starting_estimate
from .contraction.model_contraction import read_contraction
from .contraction.rate_scheme import RateScheme
from .deepinv_options import to_equilibrium
from .iteration_step import (
    IterationMetrics,
    IterationStep,
    IterationStepWithOutput,
    relax,
)
from .optimiser_arguments import (
    bind,
    check_layers,
    check_prior_gradients,
    check_trainable,
    check_values,
    is_trainable,
    signature_of,
)
from .trained_parameters import TrainedParameters


class EquilibriumOptim(BaseOptim):
    r"""
    Mixin that gives an optimiser of deepinv the ``DEQ`` configurations of this package.

    Without ``DEQ`` the optimiser is deepinv's own. With it, ``forward`` finds the fixed
    point of a block of the optimiser's iterations in the state that the algorithm's
    theory is about, and leaves the report in :attr:`solution`.
    """

    algorithm_state: ClassVar[AlgorithmState] = PRIMAL
    prior_gradient: ClassVar[bool] = False
    """Whether every iteration takes a gradient step on the prior."""
    prior_gradient_if_g_first: ClassVar[bool] = False
    """Whether it does with ``g_first=True``."""
    rate_scheme: ClassVar[RateScheme | None] = None
    """How it contracts; ``None`` where no rate is proved."""

    params_algo: Any
    solution: Solution | None
    """Report and state of the last equilibrium, without gradient; ``None`` before."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        optimiser = next(
            (c for c in cls.__mro__ if c.__module__.startswith("deepinv.")), BaseOptim
        )
        if optimiser is not BaseOptim:
            cls.__signature__ = signature_of(optimiser)

    def __init__(self, *args: Any, **kwargs: Any):
        signature = type(self).__signature__
        given = bind(signature, self, args, kwargs)
        deq = given.get("DEQ")
        if deq is None or deq is False:
            super().__init__(**given)
            check_trainable(given.get("trainable_params") or (), self.init_params_algo)
            self.equilibrium: Equilibrium | None = None
        else:
            self._init_equilibrium(deq, given, signature)
        self._has_custom_output = "get_output" in given
        self._register_linear_map(given.get("K"))
        self.solution = None

    def _init_equilibrium(
        self, deq: DEQConfig | bool, given: dict[str, Any], signature: Any
    ) -> None:
        if deq is True:
            deq = DEQConfig()
        if not isinstance(deq, DEQConfig):
            raise TypeError(
                "DEQ must be Equilibrium(...), ReTune(...), a deepinv DEQConfig or a "
                f"bool, got {deq!r}."
            )
        defaults = {
            name: p.default for name, p in signature.parameters.items() if name != "DEQ"
        }
        config = to_equilibrium(deq, given, {**defaults, **given})
        trainable = given.pop("trainable_params", None)
        for name in ("DEQ", "max_iter", "anderson_acceleration", "unfold"):
            given.pop(name, None)
        # deepinv learns natural values; what is to be trained is set up below.
        super().__init__(**given, max_iter=config.layers, DEQ=True, trainable_params=[])
        self.DEQ_config = deq
        self.equilibrium = config
        self.fixed_point.iterator.has_cost = False
        self.fixed_point.iterator.relaxation_step = relax
        parameters = dict(self.params_algo)
        check_layers(parameters, config.layers)
        check_layers({"prior": self.prior}, config.layers)
        check_layers({"data_fidelity": self.data_fidelity}, config.layers)
        if self.prior_gradient or (
            self.prior_gradient_if_g_first and self.fixed_point.iterator.g_first
        ):
            check_prior_gradients(self.prior, type(self).__name__)
        if trainable is None:
            trainable = [name for name in parameters if is_trainable(parameters[name])]
        check_trainable(trainable, parameters)
        for name in trainable:
            if not is_trainable(parameters[name]):
                raise ValueError(
                    f"trainable_params has {name!r}, whose value is "
                    f"{parameters[name][0]!r}: give it a number to start from, or "
                    "leave it out."
                )
            parameters[name] = TrainedParameters(name, parameters[name])
        fixed = {name: parameters[name] for name in parameters if name not in trainable}
        if "g_param" in fixed and given.get("sigma_denoiser") is not None:
            fixed["sigma_denoiser"] = fixed.pop("g_param")
        check_values(fixed)
        self.params_algo = nn.ParameterDict(parameters)
        self.init_params_algo = self.params_algo.copy()

    def _register_linear_map(self, K: list[Any] | None) -> None:
        """Make a K that is a module one of the model's, as deepinv does not."""
        if K is not None and isinstance(K[0], nn.Module):
            self.linear_map = K[0]

    def forward(
        self,
        y: Tensor,
        physics: Physics,
        init: Any = None,
        x_gt: Tensor | None = None,
        compute_metrics: bool = False,
        **kwargs: Any,
    ) -> Any:
        r"""
        Reconstruct.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :param Callable, torch.Tensor, tuple, dict init: where to start, as in deepinv;
            components that are missing are completed. Default: ``None``,
            :math:`A^\top y`.
        :param torch.Tensor x_gt: ground truth, for the metrics.
        :param bool compute_metrics: whether to return the metrics of every iteration.
        :return: the image; with ``compute_metrics`` also a dictionary of metrics, each
            a list a sample.
        :raises ValueError: if modules couple the samples or are random.
        :raises ConvergenceError: if a sample fails and ``on_failure="raise"``.
        """
        if self.equilibrium is None:
            return super().forward(
                y, physics, init, x_gt, compute_metrics=compute_metrics, **kwargs
            )
        if kwargs:
            raise TypeError(
                f"{type(self).__name__} takes no argument {next(iter(kwargs))!r} with "
                "DEQ; known are init, x_gt and compute_metrics."
            )
        config = self.equilibrium
        step, estimate = self._problem(y, physics, init)
        metrics = self._metrics(step, estimate, x_gt) if compute_metrics else None
        progress = (
            tqdm(total=config.solver.max_iter, desc=type(self).__name__)
            if self.show_progress_bar
            else nullcontext()
        )
        with progress as bar:

            def observe(state: State, value: State) -> None:
                if bar is not None:
                    bar.update()
                if metrics is not None:
                    metrics.extend(step.take_trace())

            solution = fixed_point(
                step,
                self.algorithm_state.select(estimate),
                config.solver,
                config.adjoint,
                config.on_failure,
                None if bar is None and metrics is None else observe,
            )
        self._report(step, solution)
        if solution.output is not None:
            x = solution.output
        else:
            x = solution.x if isinstance(solution.x, Tensor) else solution.x[0]
        return x if metrics is None else (x, metrics.values)

    def fixed_point_problem(
        self, y: Tensor, physics: Physics, init: Any = None
    ) -> tuple[IterationStep, State]:
        r"""
        The fixed-point problem that the model solves for a measurement.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :param Callable, torch.Tensor, tuple, dict init: where to start, as in the call.
        :return: the step, a block of the model's layers, and the initial state.
        :raises ValueError: if the model was built without ``DEQ``, or modules couple
            the samples or are random.
        """
        self._require_equilibrium()
        step, estimate = self._problem(y, physics, init)
        return step, self.algorithm_state.select(estimate)

    def contraction(self, physics: Physics, img_size: Sequence[int]) -> Contraction:
        r"""
        How the model's step contracts, as it stands; what
        :func:`certify <deepinv_equilibrium.certify>` reports.

        :param deepinv.physics.Physics physics: the physics.
        :param Sequence img_size: :math:`(C, H, W)` of the images.
        :return: the rate of the block of layers, its norm, and what it rests on.
        :raises ValueError: if the model was built without ``DEQ``.
        """
        self._require_equilibrium()
        return read_contraction(self, physics, img_size)

    def _require_equilibrium(self) -> None:
        if self.equilibrium is None:
            raise ValueError(
                f"this {type(self).__name__} is deepinv's own and solves no fixed "
                "point; build it with DEQ=Equilibrium(...) or DEQ=ReTune(...)."
            )

    def _problem(
        self, y: Tensor, physics: Physics, init: Any
    ) -> tuple[IterationStep, Estimate]:
        """The step, and the complete estimate to start from."""
        if not isinstance(physics, Physics):
            raise TypeError(
                "physics must be a deepinv Physics, as in model(y, physics), got "
                f"{type(physics).__name__}."
            )
        check_samples_apart(self)
        assert self.equilibrium is not None
        image_in_state = 0 in self.algorithm_state.components
        kind = (
            IterationStep
            if image_in_state and not self._has_custom_output
            else IterationStepWithOutput
        )
        step = kind(self, y, physics, self.equilibrium)
        return step, self._starting_estimate(y, step.physics, init)

    def _starting_estimate(self, y: Tensor, physics: Physics, init: Any) -> Estimate:
        """The estimate to start from, complete; with gradient only where the whole
        run is recorded."""
        assert self.equilibrium is not None
        unrolled = isinstance(self.equilibrium.adjoint, Unrolled)
        K = self.params_algo["K"][0] if "K" in self.params_algo else (lambda x: x)
        with torch.set_grad_enabled(unrolled and torch.is_grad_enabled()):
            init = self.custom_init if init is None else init
            if callable(init):
                init = init(y, physics)
            if init is None:
                image = adjoint_image(physics, y)
                init = (image, image)
            return self.algorithm_state.complete(starting_estimate(init), K)

    def _metrics(
        self, step: IterationStep, estimate: Estimate, x_gt: Tensor | None
    ) -> IterationMetrics:
        step.trace = []
        return IterationMetrics(self, {"est": estimate, "cost": None}, x_gt)

    def _report(self, step: IterationStep, solution: Solution) -> None:
        """Keep the report, and tell of inner solves that were cut off."""
        assert self.equilibrium is not None
        # Broyden's memory is that of many images: it served the backward.
        self.solution = replace(solution.detach(), inverse_jacobian=None)
        if self.verbose:
            print(self.solution)
        if step.measured is not None:
            step.measured.report_unfinished()
