"""Base class of deepinv's optimisers at equilibrium."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import torch
from deepinv.models import Denoiser
from deepinv.optim import BaseOptim, DEQConfig, OptimIterator
from deepinv.physics import Physics
from torch import Tensor, nn

from ..certificates import Contraction
from ..certificates.bounds import unproved
from ..equilibrium import Equilibrium, EquilibriumModel
from ..equilibrium.equilibrium_model import Observer
from ..equilibrium.measured_physics import adjoint_image, gradients
from ..fixed_points import Solution, State, Step, Unrolled
from ..fixed_points.argument_checks import SuggestsArguments, refuse_unknown
from .algorithm_state import PRIMAL, AlgorithmState, Estimate, starting_estimate
from .automatic_step_sizes import AutomaticStepSizes
from .contraction.model_contraction import OptimiserParts, read_contraction
from .contraction.rate_scheme import LayerParts, RateScheme
from .contraction.step_intervals import NoStepSizeError, StepSizeRule
from .deepinv_options import TRANSLATED, as_deq_config, to_equilibrium
from .iteration_step import (
    IterationMetrics,
    IterationStep,
    IterationStepWithOutput,
    relax,
)
from .optimiser_arguments import (
    bind,
    check_kinds_of_parts,
    check_layers,
    check_parts_are_given,
    check_prior_gradients,
    check_trainable,
    check_values,
    merge_equal,
    signature_of,
    take_automatic_steps,
)
from .second_names import SecondNames
from .trained_parameters import TrainedValue, with_trained


class EquilibriumOptim(EquilibriumModel, BaseOptim):
    r"""
    Base class that adds the configurations of this package, as the argument ``DEQ``, to
    an optimiser of deepinv.

    Without ``DEQ`` the optimiser behaves as deepinv's. With ``DEQ``, :meth:`forward`
    computes the fixed point of a block of iterations. The state is the smallest set of
    deepinv's iterates that determines the next iteration. :attr:`solution` contains the
    report.

    A user-defined optimiser is a subclass of this class and of a subclass of
    :class:`deepinv.optim.BaseOptim`, in this order, or a subclass of this class alone,
    which is built with an ``iterator``: see :doc:`/user_guide/own_model`. If its state
    is not the first component of deepinv's iterates alone, it sets
    :attr:`algorithm_state`.

    :raises TypeError: at the definition of a subclass, if the bases are in another
        order, or the constructor of the optimiser does not take the arguments of
        :class:`deepinv.optim.BaseOptim`.
    """

    algorithm_state: ClassVar[AlgorithmState] = PRIMAL
    """The components of deepinv's iterates that are the state. Default: the first,
    :math:`x`."""
    prior_gradient: ClassVar[bool] = False
    """Whether every iteration takes a gradient step on the prior."""
    prior_gradient_if_g_first: ClassVar[bool] = False
    """Whether every iteration takes a gradient step on the prior if
    ``g_first=True``."""
    rate_scheme: ClassVar[RateScheme | None] = None
    """Rate of the algorithm; ``None`` if no rate is proved."""
    step_size_rule: ClassVar[StepSizeRule | None] = None
    """Step sizes of the algorithm for ``stepsize="auto"``; ``None`` if it has none."""

    params_algo: Any
    init_params_algo: Any
    prior: Any
    data_fidelity: Any
    _optimiser_signature: ClassVar[inspect.Signature] = signature_of(BaseOptim)
    _plain_max_iter: int
    _plain_has_converged: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        optimiser = next(
            base
            for base in cls.__mro__
            if issubclass(base, BaseOptim) and not issubclass(base, EquilibriumOptim)
        )
        if cls.__mro__.index(optimiser) < cls.__mro__.index(EquilibriumOptim):
            raise TypeError(
                f"{optimiser.__name__} comes before EquilibriumOptim in the bases of "
                f"{cls.__name__}, so that DEQ would have no effect: write class "
                f"{cls.__name__}(EquilibriumOptim, {optimiser.__name__})."
            )
        cls._optimiser_signature = signature_of(optimiser)
        super().__init_subclass__(**kwargs)
        own = cls.__init__ is not EquilibriumOptim.__init__
        cls.__signature__ = (
            vars(SuggestsArguments)["__signature__"]
            if own
            else cls._optimiser_signature
        )

    def __init__(self, *args: Any, **kwargs: Any):
        signature = self._optimiser_signature
        given = bind(signature, self, args, kwargs)
        deq = given.get("DEQ")
        if deq is None or deq is False:
            take_automatic_steps(given, type(self).__name__, available=False)
            super(EquilibriumModel, self).__init__(**given)
            check_trainable(given.get("trainable_params") or (), self.init_params_algo)
        else:
            self._init_equilibrium(deq, given, signature)
        self._default_output = None if "get_output" in given else self.get_output
        self._register_linear_map(given.get("K"))

    def _init_equilibrium(
        self, deq: DEQConfig | bool, given: dict[str, Any], signature: Any
    ) -> None:
        deq = as_deq_config(deq)
        check_kinds_of_parts(given)
        has_rule = self.step_size_rule is not None and not given.get("g_first", False)
        is_automatic = take_automatic_steps(given, type(self).__name__, has_rule)
        defaults = {
            name: p.default for name, p in signature.parameters.items() if name != "DEQ"
        }
        # A deepinv DEQConfig that is set later is translated with these options.
        options = {**defaults, **given}
        config = to_equilibrium(deq, given, options)
        trainable = given.pop("trainable_params", None)
        for name in ("DEQ", "max_iter", "anderson_acceleration", "unfold"):
            given.pop(name, None)
        # deepinv would train the values and not their logarithms, so that it gets no
        # trainable_params. unfold=True registers priors and data fidelities as modules.
        super(EquilibriumModel, self).__init__(
            **given, max_iter=config.layers, unfold=True, trainable_params=[]
        )
        self.DEQ_config = deq
        iterator = self.fixed_point.iterator
        iterator.has_cost = False
        if type(iterator).relaxation_step is OptimIterator.relaxation_step:
            iterator.relaxation_step = relax  # a user-defined relaxation stays
        parameters = dict(self.params_algo)
        keys = {name: len(values) for name, values in parameters.items()}
        if not isinstance(deq, Equilibrium):  # lists have a value for each iteration
            parameters = {n: merge_equal(values) for n, values in parameters.items()}
            self.prior = nn.ModuleList(merge_equal(self.prior))
            self.data_fidelity = nn.ModuleList(merge_equal(self.data_fidelity))
        if self.prior_gradient or (
            self.prior_gradient_if_g_first and self.fixed_point.iterator.g_first
        ):
            check_prior_gradients(self.prior, type(self).__name__)
        names = with_trained(parameters, trainable, keys)
        fixed = {name: parameters[name] for name in parameters if name not in names}
        if "g_param" in fixed and given.get("sigma_denoiser") is not None:
            fixed["sigma_denoiser"] = fixed.pop("g_param")
        scheme = self.rate_scheme
        divides = scheme is not None and scheme.solves_prox
        check_values(fixed, positive=("stepsize",) if divides else ())
        if is_automatic:
            assert self.step_size_rule is not None
            parameters["stepsize"] = AutomaticStepSizes(
                self.step_size_rule,
                len(parameters["stepsize"]),
                trained="stepsize" in names,
            )
        self.params_algo = nn.ParameterDict(parameters)
        self.init_params_algo = SecondNames(parameters)
        self._deepinv_options = {name: options[name] for name in TRANSLATED}
        super()._set_equilibrium(self._with_layers(config))
        check_parts_are_given(type(self).__name__, options)

    def _set_equilibrium(self, config: Any) -> None:
        if "fixed_point" not in self._modules:
            return  # deepinv's constructor sets a bool of the name DEQ
        if self._equilibrium is None:
            raise ValueError(
                f"DEQ={config!r} cannot be set: this {type(self).__name__} was built "
                "without DEQ; build it with DEQ=Equilibrium(...) or DEQ=ReTune(...)."
            )
        if config is None or config is False:
            raise ValueError(
                f"DEQ={config!r} cannot be set: this {type(self).__name__} was built "
                "with DEQ; build deepinv's optimiser without DEQ."
            )
        deq = as_deq_config(config)
        options = self._deepinv_options
        super()._set_equilibrium(self._with_layers(to_equilibrium(deq, {}, options)))
        self.DEQ_config = deq

    def _with_layers(self, config: Equilibrium) -> Equilibrium:
        """Return the configuration; raise unless its layers fit the model's lists."""
        check_layers(dict(self.params_algo), config.layers)
        check_layers({"prior": self.prior}, config.layers)
        check_layers({"data_fidelity": self.data_fidelity}, config.layers)
        return config

    @property
    def max_iter(self) -> int | None:
        """Maximum number of iterations of the solver with ``DEQ``, and of deepinv's
        loop without ``DEQ``. A new value takes effect at the next call."""
        if self._equilibrium is None:
            return self._plain_max_iter
        return self._equilibrium.solver.max_iter

    @max_iter.setter
    def max_iter(self, iterations: int) -> None:
        if self._equilibrium is not None:
            self._set_max_iter(iterations)
            return
        if "fixed_point" in self._modules:
            for name, values in self.params_algo.items():
                if 1 < len(values) < iterations:
                    raise ValueError(
                        f"max_iter={iterations} needs as many values of {name}, which "
                        f"has {len(values)}; build the optimiser with a longer list."
                    )
            self.fixed_point.max_iter = iterations
        self._plain_max_iter = iterations

    @property
    def has_converged(self) -> bool:
        """Whether all samples of the last call have met the tolerance."""
        # Not stored after each call: the host would wait for an accelerator.
        if self._equilibrium is None:
            return self._plain_has_converged
        return self.solution is not None and bool(self.solution.converged.all())

    @has_converged.setter
    def has_converged(self, value: bool) -> None:
        self._plain_has_converged = value

    def update_params_fn(self, it: int) -> dict[str, Any]:
        r"""
        Return the parameters of an iteration.

        :param int it: number of the iteration, or with ``DEQ`` of the layer.
        :return: (dict) the values by name, in which a trained value is a plain tensor.
        """
        return {
            name: value.as_subclass(Tensor) if type(value) is TrainedValue else value
            for name, value in super().update_params_fn(it).items()
        }

    @property
    def _has_custom_output(self) -> bool:
        """Whether ``get_output`` was given, or set after the construction."""
        return self.get_output is not self._default_output

    def _register_linear_map(self, K: list[Any] | None) -> None:
        """Register K as a submodule if it is a module, which deepinv does not do."""
        if K is not None and isinstance(K[0], nn.Module):
            self.linear_map = K[0]

    def forward(
        self,
        y: Tensor,
        physics: Physics,
        init: Any = None,
        x_gt: Tensor | None = None,
        compute_metrics: bool = False,
        observer: Observer | None = None,
        update_parameters: bool = False,
        **kwargs: Any,
    ) -> Any:
        r"""
        Reconstruct the images of a measurement.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :param Callable, torch.Tensor, tuple, dict init: initial iterate, in one of
            deepinv's forms. Components of the state that it lacks are filled in.
            Default: ``None``, ``custom_init`` of the constructor, or :math:`A^\top y`.
        :param torch.Tensor x_gt: ground truth for the metrics. Default: ``None``.
        :param bool compute_metrics: whether to return the metrics of each iteration.
            Default: ``False``.
        :param Callable observer: called after each evaluation of the step, with the
            state :math:`x` and the value :math:`f(x)`. Available with ``DEQ`` only.
            Default: ``None``.
        :param bool update_parameters: not used. deepinv passes it to models that a
            self-supervised loss may have adapted. Default: ``False``.
        :return: (:class:`torch.Tensor`) the images, of shape :math:`(B, C, H, W)` or
            :math:`(B, C, D, H, W)`; with ``compute_metrics``, a tuple of the images and
            a dictionary, which has for each metric one list per sample.
        :raises TypeError: if ``y`` or ``physics`` is of another type, dtype or device
            than the model needs, an argument is unknown, or a denoiser needs a noise
            level and ``sigma_denoiser`` is missing.
        :raises ValueError: if ``y`` is not a measurement of ``physics``, its images
            have another number of channels than the networks of the model, the physics
            has no adjoint and ``init`` is missing, or a module of the model couples the
            samples or is random.
        :raises ConvergenceError: if a sample does not converge and
            ``DEQ.on_failure="raise"``.
        """
        if self._equilibrium is None:
            return super(EquilibriumModel, self).forward(
                y, physics, init, x_gt, compute_metrics=compute_metrics, **kwargs
            )
        refuse_unknown(
            f"{type(self).__name__} with DEQ",
            kwargs,
            ("init", "x_gt", "compute_metrics", "observer"),
        )
        metrics: IterationMetrics | None = None

        def watch(step: IterationStep, start: State) -> Observer | None:
            nonlocal metrics
            if not compute_metrics:
                return observer
            step.trace = []
            first = {"est": self.algorithm_state.expand(start), "cost": None}
            metrics = measures = IterationMetrics(self, first, x_gt)

            def observe(state: State, value: State) -> None:
                measures.extend(step.take_trace())
                if observer is not None:
                    observer(state, value)

            return observe

        x = self._reconstruct(y, physics, watch, init=init)
        return x if metrics is None else (x, metrics.values)

    def fixed_point_problem(
        self, y: Tensor, physics: Physics, init: Any = None
    ) -> tuple[IterationStep, State]:
        r"""
        Return the step, a block of ``DEQ.layers`` iterations, and the initial state.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :param Callable, torch.Tensor, tuple, dict init: initial iterate, as in
            :meth:`forward`.
        :return: (tuple) the step and the initial state.
        :raises ValueError: if the model was built without ``DEQ``, or the physics has
            no adjoint and ``init`` is missing.
        """
        config = self._require_equilibrium()
        image_in_state = 0 in self.algorithm_state.components
        kind = (
            IterationStep
            if image_in_state and not self._has_custom_output
            else IterationStepWithOutput
        )
        step = kind(self, self.algorithm_state, y, physics, config)
        estimate = self._starting_estimate(y, step.physics, init)
        self._read_step_sizes(physics, estimate[0].shape[1:])
        step.keep_step_sizes()
        return step, self.algorithm_state.select(estimate)

    def step_of_samples(
        self, step: IterationStep, y: Any, physics: Any, rows: Tensor
    ) -> Step | None:
        """Return the step for some samples, with the step sizes of the batch."""
        return step.of_samples(rows)

    def contraction(self, physics: Physics, img_size: Sequence[int]) -> Contraction:
        r"""
        Return the rate of the step, which :func:`deepinv_equilibrium.certify` reports.

        :param deepinv.physics.Physics physics: the physics.
        :param Sequence img_size: size :math:`(C, H, W)` of the images.
        :return: (Contraction) the rate of a block of ``DEQ.layers`` iterations, the
            norm in which it holds, and the terms from which it is computed.
        :raises ValueError: if the model was built without ``DEQ``.
        """
        try:
            self._read_step_sizes(physics, img_size)
        except NoStepSizeError as error:
            return Contraction(unproved(str(error)), "none")
        layers = tuple(
            LayerParts(
                self.update_data_fidelity_fn(layer),
                self.update_prior_fn(layer),
                self.update_params_fn(layer),
            )
            for layer in range(self._require_equilibrium().layers)
        )
        parts = OptimiserParts(
            type(self).__name__,
            self.rate_scheme,
            self.fixed_point.iterator,
            layers,
            self._has_custom_output,
        )
        return read_contraction(parts, physics, img_size)

    def _read_step_sizes(self, physics: Physics, img_size: Sequence[int]) -> None:
        """Compute automatic step sizes for a physics and a size of the images."""
        layers = range(self._require_equilibrium().layers)
        step_sizes = self.params_algo.get("stepsize")
        if isinstance(step_sizes, AutomaticStepSizes):
            parts = [
                (self.update_data_fidelity_fn(layer), self.update_prior_fn(layer))
                for layer in layers
            ]
            step_sizes.read(parts, self.params_algo["lambda"], physics, img_size)

    def noise_levels(self) -> Iterable[Any]:
        """Return the ``g_param`` of each layer whose prior has a denoiser."""
        if self._equilibrium is None:
            return ()
        return [
            self.update_params_fn(layer).get("g_param")
            for layer in range(self._equilibrium.layers)
            if any(
                isinstance(module, Denoiser)
                for module in self.update_prior_fn(layer).modules()
            )
        ]

    def _require_equilibrium(self) -> Equilibrium:
        if self._equilibrium is None:
            raise ValueError(
                f"this {type(self).__name__} was built without DEQ and solves no fixed "
                "point; build it with DEQ=Equilibrium(...) or DEQ=ReTune(...)."
            )
        return self._equilibrium

    def _starting_estimate(self, y: Tensor, physics: Physics, init: Any) -> Estimate:
        """Return the initial estimate with all components. It has a gradient only if
        the adjoint records all iterations."""
        unrolled = isinstance(self._require_equilibrium().adjoint, Unrolled)
        K: Callable[[Tensor], Tensor] = (
            self.params_algo["K"][0] if "K" in self.params_algo else (lambda x: x)
        )
        with gradients(unrolled and torch.is_grad_enabled()):
            init = self.custom_init if init is None else init
            if callable(init):
                init = init(y, physics)
            if init is None:
                image = adjoint_image(physics, y)
                init = (image, image)
            return self.algorithm_state.complete(starting_estimate(init), K)

    def _report(self, step: Step, solution: Solution) -> None:
        super()._report(step, solution)
        if self.verbose:
            print(self.solution)
