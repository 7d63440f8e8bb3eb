"""Base class of the models whose output is a fixed point."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias
from weakref import WeakKeyDictionary

import torch
from deepinv.models import Denoiser, Reconstructor
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor
from tqdm.auto import tqdm

from ..certificates.spectra.physics_operator import batch_size
from ..fixed_points import (
    ALONE,
    ConvergenceError,
    OfSamples,
    Processes,
    Solution,
    State,
    Step,
    Unrolled,
    fixed_point,
)
from ..fixed_points.argument_checks import (
    SuggestsArguments,
    refuse_unknown,
    require_count,
)
from ..fixed_points.autocast import widen
from ..fixed_points.caller_warnings import warn_caller
from ..fixed_points.transforms import refuse_transforms
from .batch_parts import of_samples
from .configuration import Equilibrium, ReTune
from .distributed_parts import processes_of
from .failure_explanations import explain_failure
from .fixed_point_cache import FixedPointCache, cache_in_use
from .input_checks import (
    check_samples_apart,
    measured_image,
    require_image_axes,
    require_measurement,
    require_physics,
)
from .repeatability import CallTraces, mode_of

Observer: TypeAlias = Callable[[State, State], None]
"""A function that is called with each state and with the value of the step there."""

# One object for each physics: Python reuses the id of a physics that is released.
_IDENTITIES: WeakKeyDictionary[Physics, object] = WeakKeyDictionary()

# Noisy images in [0, 1] stay far below; 8-bit images reach 255.
_LARGEST_INTENSITY = 100.0


class EquilibriumModel(SuggestsArguments, Reconstructor, ABC):
    r"""
    Base class of the reconstructors whose output is the fixed point of a step,

    .. math::

        x^\star = f_\theta(x^\star; y, A),

    which depends on the measurement :math:`y` and its operator :math:`A`.

    A subclass defines :meth:`fixed_point_problem`, which returns the step and the
    initial state. The base class checks the input, solves and differentiates the
    problem with the solver and the adjoint of ``DEQ``, shows progress, and stores the
    report in :attr:`solution`. If the image is neither the state nor its first
    component, the subclass also defines :meth:`image`, or its step has a method
    ``step_and_output``, which returns the next state and the image.

    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: solver,
        adjoint and number of layers of the step. Default: ``None``, ``Equilibrium()``.
    :param bool show_progress_bar: whether to show a progress bar during the iterations.
        Default: ``False``.
    :raises TypeError: if ``DEQ`` is of another type, or an argument is unknown.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> class Landweber(deq.equilibrium.EquilibriumModel):
    ...     def fixed_point_problem(self, y, physics):
    ...         def step(x):
    ...             return x - 0.5 * physics.A_adjoint(physics.A(x) - y) - 0.1 * x
    ...         return step, physics.A_adjoint(y)
    >>> model = Landweber(DEQ=deq.Equilibrium(deq.Anderson(rtol=1e-6)))
    >>> x = model(torch.full((2, 1, 8, 8), 0.6), dinv.physics.Denoising())
    >>> print(round(x.mean().item(), 4), model.solution.converged.tolist())
    0.5 [True, True]
    """

    spatial_axes: ClassVar[tuple[int, ...]] = (2, 3)
    """Numbers of spatial axes of the images that the model accepts."""

    show_progress_bar: bool = False
    """Whether to show a progress bar during the iterations."""

    solution: Solution | None = None
    """Report and state of the last call, detached; ``None`` before the first call."""

    has_common_step_size: ClassVar[bool] = False
    """Whether the step size belongs to the operators of all samples. If the samples
    have operators of their own, a step for some of them would then be another one."""

    warm_starts: FixedPointCache | None = None
    """The fixed points of training samples, from which a solve in training mode starts;
    ``None``, the default, for the initial state of the model."""

    run_state: ClassVar[frozenset[str]] = frozenset(
        (
            *("solution", "show_progress_bar", "DEQ_config", "_deepinv_options"),
            "warm_starts",
            *("_equilibrium", "_checked", "_has_warned_of_units", "_plain_max_iter"),
            "_repeatable",
        )
    )
    """Attributes that a run changes, or that the step does not depend on: a certificate
    does not cover them. A subclass lists its further ones under the same name."""

    _equilibrium: Equilibrium | None = None
    _checked: tuple[Any, ...] | None = None
    _has_warned_of_units = False
    _repeatable: frozenset[tuple[bool, bool]] = frozenset()

    def __init__(
        self, DEQ: Equilibrium | None = None, show_progress_bar: bool = False
    ) -> None:
        super().__init__()
        self.DEQ = Equilibrium() if DEQ is None else DEQ
        self.show_progress_bar = show_progress_bar

    @property
    def DEQ(self) -> Any:
        """Solver, adjoint and number of layers; ``None`` for an optimiser that was
        built without ``DEQ``. A new value takes effect at the next call."""
        return self._equilibrium

    @DEQ.setter
    def DEQ(self, config: Any) -> None:
        self._set_equilibrium(config)

    def _set_equilibrium(self, config: Any) -> None:
        if not isinstance(config, Equilibrium):
            raise TypeError(
                "DEQ must be Equilibrium(solver, adjoint) or ReTune(layers, restarts), "
                f"got {config!r}."
            )
        self._equilibrium = config

    @property
    def max_iter(self) -> int | None:
        """Maximum number of iterations of the solver; ``None`` without ``DEQ``. A new
        value takes effect at the next call."""
        return None if self._equilibrium is None else self._equilibrium.solver.max_iter

    @max_iter.setter
    def max_iter(self, iterations: int) -> None:
        self._set_max_iter(iterations)

    def _set_max_iter(self, iterations: int) -> None:
        require_count("max_iter", iterations, 1)
        config = self.DEQ
        if isinstance(config, ReTune):
            raise ValueError(
                f"max_iter={iterations} has no meaning with {config!r}: set model.DEQ "
                "= ReTune(layers, restarts)."
            )
        self.DEQ = replace(config, solver=replace(config.solver, max_iter=iterations))

    @abstractmethod
    def fixed_point_problem(self, y: Any, physics: Any) -> tuple[Step, State]:
        r"""
        Return the fixed-point problem for a measurement.

        :meth:`forward` checks the input with :meth:`check_input` before it calls this
        method.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :return: (tuple) the step, a block of ``DEQ.layers`` iterations, and the initial
            state.
        """

    def step_of_samples(
        self, step: Any, y: Any, physics: Any, rows: Tensor
    ) -> Step | None:
        r"""
        Return the step for some samples of the batch, so that the solver can go on
        without the samples that have converged.

        The default builds the problem again, for the measurements of these samples and
        the parameters of the physics that have one value for each sample. The solver
        compares its first value with that of ``step``, and goes on with the whole batch
        if they differ by more than rounding, or if this method raises.

        :param Callable step: the step for the batch.
        :param torch.Tensor y: the measurement of the batch.
        :param deepinv.physics.Physics physics: its physics.
        :param torch.Tensor rows: the numbers of the samples, integers.
        :return: (Callable) the step; ``None`` if it is to be evaluated for the whole
            batch.
        """
        if self.has_common_step_size and batch_size(physics) > 1:
            return None
        return self.fixed_point_problem(*of_samples(y, physics, rows))[0]

    def image(self, step: Step, solution: Solution) -> Tensor:
        r"""
        Return the image of a solution.

        :param Callable step: the step :math:`f`.
        :param deepinv_equilibrium.Solution solution: its fixed point, with gradient.
        :return: (:class:`torch.Tensor`) the image that ``step_and_output`` returns, if
            the step has this method; otherwise the state or its first component.
        """
        if solution.output is not None:
            return solution.output
        return solution.x if isinstance(solution.x, Tensor) else solution.x[0]

    def processes(self, physics: Any) -> Processes:
        r"""
        Return the processes that evaluate the step together.

        :param deepinv.physics.Physics physics: the physics.
        :return: (Processes) all processes, if ``deepinv.distributed.distribute``
            has distributed the physics or a part of the model; otherwise this process
            alone.
        """
        return processes_of((self, physics))

    def noise_levels(self) -> Iterable[Any]:
        """Return the noise levels that the model passes to its denoisers."""
        return ()

    def check_input(self, y: Any, physics: Any) -> None:
        r"""
        Refuse inputs that the model cannot reconstruct.

        For a linear physics this compares ``y`` with the shape that ``physics.A``
        returns. The comparison evaluates the operator, and is repeated only if the
        physics, or the shape, dtype or device of ``y``, differs from the last call.

        Warns once for each model with a denoiser if a noise level is above 1, or the
        images are far outside :math:`[0, 1]`.

        :param torch.Tensor y: the measurement, a floating-point or complex tensor with
            a batch axis.
        :param deepinv.physics.Physics physics: its physics.
        :raises TypeError: if ``y`` is not a floating-point or complex tensor, or
            ``physics`` is not a physics.
        :raises ValueError: if ``y`` does not have the shape that ``physics.A`` returns,
            its images have no batch axis, or the model contains a normalisation that
            uses batch statistics or an active dropout.
        """
        require_physics(physics, y)
        require_measurement(y)
        check_samples_apart(self)
        if isinstance(physics, LinearPhysics) and not torch.compiler.is_compiling():
            kind = _kind_of_input(y, physics)
            # The check evaluates the operator, in which all processes take part.
            device = (y if isinstance(y, Tensor) else y[0]).device
            if processes_of((physics,)).any(kind != self._checked, device):
                with torch.no_grad():
                    image = measured_image(y, physics)
                    require_image_axes(image, self.spatial_axes)
                    self._warn_of_units(image, physics)
                self._checked = kind

    def forward(
        self,
        y: Any,
        physics: Any,
        *,
        observer: Observer | None = None,
        update_parameters: bool = False,
        **kwargs: Any,
    ) -> Any:
        r"""
        Reconstruct the images of a measurement.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :param Callable observer: called after each evaluation of the step, with the
            state :math:`x` and the value :math:`f(x)`. Default: ``None``.
        :param bool update_parameters: not used. deepinv passes it to models that a
            self-supervised loss may have adapted. Default: ``False``.
        :return: (:class:`torch.Tensor`) the images, of shape :math:`(B, C, H, W)` or
            :math:`(B, C, D, H, W)`.
        :raises TypeError: if ``y`` or ``physics`` is of another type, dtype or device
            than the model needs, an argument is unknown, or a denoiser needs a noise
            level and ``sigma_denoiser`` is missing.
        :raises ValueError: if ``y`` is not a measurement of ``physics``, its images
            have another number of channels than the networks of the model, or a module
            of the model couples the samples or is random.
        :raises ConvergenceError: if a sample does not converge and
            ``DEQ.on_failure="raise"``.
        """
        refuse_unknown(type(self).__name__, kwargs, ("observer",))
        return self._reconstruct(y, physics, lambda step, start: observer)

    def _reconstruct(
        self,
        y: Any,
        physics: Any,
        watch: Callable[[Any, State], Observer | None],
        **options: Any,
    ) -> Tensor:
        """Check the input, solve the problem and store the report.

        ``watch`` takes the step and the initial state, and returns an observer or
        ``None``. ``options`` are keyword arguments of :meth:`fixed_point_problem`.
        """
        unrolled = isinstance(self.DEQ.adjoint, Unrolled)
        refuse_transforms(f"{type(self).__name__} with DEQ", unrolled)
        self.check_input(y, physics)
        try:
            step, start = self.fixed_point_problem(y, physics, **options)
            cache = None if unrolled else cache_in_use(self, self.warm_starts)
            if cache is not None:
                start = cache.start(y, physics, start)
            processes = self.processes(physics)
            traces = self._traces(start, processes)
            solution = self._solve(
                step,
                start,
                watch(step, start),
                processes,
                lambda rows: self.step_of_samples(step, y, physics, rows),
            )
            image = self.image(step, solution)
            if torch.is_autocast_enabled(image.device.type):
                image = widen(image)  # a frame may map the state in half precision
        except ConvergenceError:
            raise
        except (RuntimeError, TypeError, AttributeError, IndexError) as error:
            found = explain_failure(error, self, y, physics, self.noise_levels())
            if found is None:
                raise
            raise found from error
        self._report(step, solution)
        if cache is not None:
            cache.store(y, physics, solution)
        if traces is not None:
            self._repeatable |= {mode_of(self)}
            traces.check(step, solution, self.DEQ.on_failure)
        return image

    def _traces(self, start: State, processes: Processes) -> CallTraces | None:
        """Return what tells after the first solve in a mode whether the step is random
        or remembers earlier calls."""
        if (
            mode_of(self) in self._repeatable
            or processes.cooperate
            or torch.compiler.is_compiling()
            or torch._C._are_functorch_transforms_active()
        ):
            return None
        first = start if isinstance(start, Tensor) else start[0]
        return CallTraces.of(self, first.device)

    def _solve(
        self,
        step: Step,
        start: State,
        observer: Observer | None = None,
        processes: Processes = ALONE,
        of_samples: OfSamples | None = None,
    ) -> Solution:
        """Solve the problem with ``DEQ``, and return the solution with gradient."""
        config = self.DEQ
        total, hidden = config.solver.max_iter, not self.show_progress_bar
        with tqdm(total=total, desc=type(self).__name__, disable=hidden) as bar:

            def observe(state: State, value: State) -> None:
                bar.update()
                if observer is not None:
                    observer(state, value)

            return fixed_point(
                step,
                start,
                config.solver,
                config.adjoint,
                config.on_failure,
                None if hidden and observer is None else observe,
                processes,
                of_samples,
            )

    def _report(self, step: Step, solution: Solution) -> None:
        """Store the report, and warn of inner solves that did not converge."""
        # Broyden's inverse Jacobian is as large as many images. The backward pass has
        # its own reference to it.
        self.solution = replace(solution.detach(), inverse_jacobian=None)
        measured = getattr(step, "measured", None)
        if measured is not None:
            measured.report_unfinished()

    def _warn_of_units(self, image: Tensor, physics: LinearPhysics) -> None:
        """Warn once if images or noise levels are not in units of images in [0, 1]."""
        if self._has_warned_of_units or not any(
            isinstance(module, Denoiser) or getattr(module, "expects_unit_range", False)
            for module in self.modules()
        ):
            return
        levels = [_largest(v) for v in self.noise_levels() if v is not None]
        if levels and max(levels) > 1:
            self._has_warned_of_units = True
            warn_caller(
                f"sigma_denoiser={max(levels):g} is a noise level above 1, in units of "
                "images in [0, 1]: divide levels for images in [0, 255] by 255."
            )
        # A^T y is about |A|^2 times the image, and A^T A (A^T y) about |A|^4 times.
        backprojected = _largest(physics.A_adjoint(physics.A(image)))
        size = _largest(image) ** 2 / backprojected if backprojected > 0 else 0.0
        if size > _LARGEST_INTENSITY:
            self._has_warned_of_units = True
            warn_caller(
                f"the images of y have values up to about {size:.3g}, and denoisers "
                "expect images in [0, 1]: divide y by 255 where images are in [0, "
                "255], by 65535 for 16 bits."
            )


def _largest(value: Any) -> float:
    values = torch.as_tensor(value).detach()
    if values.is_meta or not values.numel():
        return 0.0
    return float(values.abs().amax())


def _kind_of_input(y: Any, physics: Physics) -> tuple[Any, ...]:
    """Return the properties of the input on which the check of shapes depends."""
    parts = [y] if isinstance(y, Tensor) else list(y)
    return (
        _IDENTITIES.setdefault(physics, object()),
        [(part.shape, part.dtype, part.device) for part in parts],
        [(buffer.shape, buffer.dtype) for buffer in physics.buffers()],
    )
