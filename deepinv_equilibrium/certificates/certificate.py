"""The certificate of a model: its contraction rate and the consequences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from deepinv.physics import Physics
from torch import Tensor, nn

from ..fixed_points import Solution, State
from .bounds import Bound, Kind, outward
from .certificate_export import contraction_data, latex_table
from .certificate_plot import plot_envelope
from .certificate_report import rate_text, report
from .certified_distance import certified_distance
from .contraction_bounds import Contraction, Term, steps_to
from .convergence import Convergence, Energy
from .families import ANY_MASK, FAMILIES
from .fingerprints import changed_names, problem_fingerprint
from .gradients.gradient_errors import GradientError, gradient_error
from .gradients.planning import Plan, plan
from .gradients.recorded_gradient import image_problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Certificate:
    r"""
    What is proved about a model's step: that it contracts, converges, or decreases an
    energy. It is the result of :func:`certify <deepinv_equilibrium.certify>`; ``print``
    it for a report.

    The certificate holds for the weights, step sizes, operator and image size that it
    was made for. It stores digests of them, not the model. :meth:`check` and every
    method that takes the model raise if weights, step sizes or operator have changed;
    measurements and solutions of another image size are refused.

    :param Contraction contraction: the contraction that the model states.
    :param str model: name of the model's class.
    :param str physics: name of the physics' class.
    :param tuple img_size: size :math:`(C, H, W)` of the images.
    :param dict fingerprint: digests of the model and the physics.
    :param str version: version of this package.
    """

    contraction: Contraction
    model: str
    physics: str
    img_size: tuple[int, ...]
    fingerprint: Mapping[str, str]
    version: str

    @property
    def rate(self) -> Bound:
        r"""Upper bound :math:`\rho` of the Lipschitz constant of the step, one block of
        layers, in :attr:`norm`. It is infinite if nothing is proved; its source then
        names the part that cannot be certified and the reason."""
        return self.contraction.rate

    @property
    def norm(self) -> str:
        """The norm in which the rate holds."""
        return self.contraction.norm

    @property
    def kind(self) -> Kind | None:
        """The weakest kind among the terms of the rate; ``None`` if the rate is
        infinite."""
        return None if self.rate.is_vacuous else self.rate.kind

    @property
    def terms(self) -> tuple[Term, ...]:
        """The quantities that the rate is computed from."""
        return self.contraction.terms

    @property
    def convergence(self) -> Convergence:
        """The strongest property of the plain iteration that is proved:
        ``"contracts"``, ``"converges"``, ``"decreases"`` or ``"unproved"``; see
        :class:`Convergence <deepinv_equilibrium.certificates.Convergence>`."""
        return self.contraction.convergence

    @property
    def contracts(self) -> bool:
        """Whether the step is proved to contract: the rate is certified and below 1."""
        return self.convergence is Convergence.CONTRACTS

    @property
    def energy(self) -> Energy | None:
        """What is proved of the energy whose critical points are the fixed points:
        convexity, decrease in each step, and distance to the minimum; ``None`` if no
        energy is known."""
        return self.contraction.energy

    @property
    def stability(self) -> Bound:
        r"""Lipschitz constant of the reconstruction :math:`x^\star`, the exact fixed
        point, in the measurement:
        :math:`\|x^\star(y_1) - x^\star(y_2)\| \le \text{stability} \|y_1 - y_2\|`. For
        PGD with one layer it is :math:`L_D \tau \|A\| / (\sigma^2 (1 - \rho))`."""
        return self.contraction.stability

    def steps_to(self, factor: float) -> int:
        r"""
        Return the number of steps after which the distance to the fixed point, in
        :attr:`norm`, is at most ``factor`` times the initial distance: the least
        :math:`k` with :math:`\rho^k \le` ``factor``. One step is one block. The number
        is of the kind :attr:`kind`.

        :param float factor: in :math:`(0, 1)`, such as ``1e-6``.
        :return: the number of steps.
        :raises ValueError: if the factor is out of range or the rate is not below 1.
        """
        if not 0 < factor < 1:
            raise ValueError(f"factor must be in (0, 1), got {factor!r}.")
        if not self.rate.value < 1:
            raise ValueError(
                f"no number of steps: the rate is not below 1 ({rate_text(self.rate)})."
            )
        return steps_to(self.rate.value, factor)

    def tolerance(self, distance: float) -> float:
        r"""
        Return the tolerance of a solver at which the distance to the fixed point, in
        :attr:`norm`, is at most a given one: the absolute residual
        :math:`(1 - \rho)\, d`. A solver takes it as ``atol``, with ``rtol=0``.

        :param float distance: :math:`d > 0`, for a whole image; the root mean square of
            :math:`n` pixels is :math:`d / \sqrt n`.
        :return: the tolerance, rounded downwards.
        :raises ValueError: if the distance is not positive and finite, or the rate is
            not below 1.

        :Example:

        >>> import deepinv as dinv, deepinv_equilibrium as deq
        >>> physics = dinv.physics.Inpainting((3, 32, 32), mask=0.5)
        >>> model = deq.presets.certified_deq_pgd(contraction=0.9)
        >>> atol = deq.certify(model, physics, (3, 32, 32)).tolerance(0.5)
        >>> print(f"{atol:.4f}")
        0.0500
        >>> model.DEQ = deq.Equilibrium(deq.Anderson(rtol=0.0, atol=atol))

        """
        if not 0 < distance < math.inf:
            raise ValueError(f"distance must be positive and finite, got {distance!r}.")
        if not self.rate.value < 1:
            raise ValueError(
                f"no tolerance: the rate is not below 1 ({rate_text(self.rate)})."
            )
        return outward((1 - self.rate.value) * distance, is_lower=True)

    def distance(
        self,
        model: Any,
        y: Any,
        physics: Physics,
        x: Tensor,
        near: Tensor | None = None,
    ) -> tuple[Bound, ...]:
        r"""
        Bound the distance of images from the fixed points :math:`x^\star` of the model:
        :math:`\|x - x^\star\| \le \|T(x) - x\| / (1 - \rho)`. The images can come from
        any method, such as a solver that stopped early or a rounded file.

        A residual that is not small, as that of a rounded image, makes this bound
        large for a rate near 1. With an image :math:`z` near the fixed point, such as
        the image before its rounding, the bound is :math:`\|x - z\| + \|T(z) - z\| /
        (1 - \rho)`.

        The step :math:`T` is evaluated once, in float64, in which convolutions on a
        CPU need several times the memory and the time of float32.

        :param torch.nn.Module model: the model.
        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :param torch.Tensor x: the images, of shape :math:`(B, C, H, W)`.
        :param torch.Tensor near: :math:`z`, of the same shape. Default: ``None``,
            ``x``.
        :return: (tuple) one :class:`Bound <deepinv_equilibrium.certificates.Bound>` of
            the :math:`\ell_2` distance for each image, of the kind :attr:`kind`.
        :raises TypeError: if ``physics`` is not a deepinv Physics or ``x`` or ``near``
            is not a tensor.
        :raises ValueError: if the rate is not below 1, the certificate does not hold
            for the model or the size of the image, its norm is not the norm of the
            solver's state, that state is not the image, or ``x`` or ``near`` has
            another shape or is not finite.
        """
        if not self.rate.value < 1:
            raise ValueError(
                f"no distance: the rate is not below 1 ({rate_text(self.rate)})."
            )
        self._require_problem(model, y, physics)
        return certified_distance(self.rate, model, y, physics, x, near)

    def check(self, model: nn.Module, physics: Physics) -> None:
        r"""
        Raise if the certificate does not hold for a model and a physics.

        :param torch.nn.Module model: the model.
        :param deepinv.physics.Physics physics: the physics.
        :raises ValueError: if the model or the physics differs from the certified one;
            the message names the differences.
        """
        changed = self._changed(model, physics)
        if changed:
            shown = ", ".join(changed[:5])
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            raise ValueError(
                f"this certificate does not hold any more: {shown}{more} changed since "
                "it was made; certify the model again."
            )

    def holds_for(self, model: nn.Module, physics: Physics) -> bool:
        r"""
        Return whether the certificate holds for a model and a physics.

        :param torch.nn.Module model: the model.
        :param deepinv.physics.Physics physics: the physics.
        :return: ``True`` if neither differs from the certified one.
        """
        return not self._changed(model, physics)

    def gradient_error(
        self, model: Any, y: Any, physics: Physics, loss: Any, **options: Any
    ) -> GradientError:
        r"""
        Bound the error of the model's gradient; see
        :func:`deepinv_equilibrium.certificates.gradient_error`.

        :param torch.nn.Module model: the model.
        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :param Callable loss: the loss of the reconstruction.
        :param options: further arguments of that function.
        :return: the bounds, each with its kind.
        :raises TypeError: if ``physics`` is not a deepinv Physics.
        :raises ValueError: if the certificate does not hold for the model or the size
            of the image, if its norm is not the norm of the solver's state, or if that
            state is not the image.
        """
        self._require_problem(model, y, physics)
        return gradient_error(self, model, y, physics, loss, **options)

    def plan(
        self,
        model: Any,
        y: Any,
        physics: Physics,
        loss: Any,
        tol: float,
        **options: Any,
    ) -> Plan:
        r"""
        Find the cheapest numbers of layers and restarts whose gradient is within a
        tolerance; see :func:`deepinv_equilibrium.certificates.plan`.

        :param torch.nn.Module model: the model.
        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :param Callable loss: the loss of the reconstruction.
        :param float tol: the relative tolerance.
        :param options: further arguments of that function.
        :return: the plan, ``layers, restarts = plan``.
        :raises TypeError: if ``physics`` is not a deepinv Physics.
        :raises ValueError: if the certificate does not hold for the model or the size
            of the image, if its norm is not the norm of the solver's state, or if that
            state is not the image.
        """
        self._require_problem(model, y, physics)
        return plan(self, model, y, physics, loss, tol, **options)

    def to_dict(self) -> dict[str, Any]:
        r"""
        Return the certificate as plain data, for ``json.dump``: what is certified, what
        is proved, and each bound with its value, relation, kind and source. A bound
        that is not finite has the value ``None``.

        :return: (dict) strings, numbers, lists and dictionaries.
        """
        return {
            "model": self.model,
            "physics": self.physics,
            "img_size": list(self.img_size),
            "version": self.version,
            **contraction_data(self.contraction),
            "fingerprint": dict(self.fingerprint),
        }

    def to_latex(self) -> str:
        r"""
        Return the terms, the rate and the stability as a table for a paper. Values are
        rounded to the safe side. The preamble needs ``\usepackage{booktabs}`` and, for
        values that are not certified, ``\usepackage{amssymb}``.

        :return: (str) the source of a ``table`` environment.
        """
        caption = f"{self.model} with {self.physics}"
        return latex_table(self.contraction, caption, self.img_size, self.version)

    def plot(self, solution: Solution) -> Figure:
        r"""
        Plot the absolute residuals of a solve and the certified envelope
        :math:`\rho^k r_0` of the plain iteration.

        :param Solution solution: a solution, such as ``model.solution``.
        :return: the figure.
        :raises ImportError: if matplotlib is not installed.
        :raises TypeError: if ``solution`` is not a Solution.
        :raises ValueError: if the rate is not below 1, or the images differ in size
            from those of the certificate.
        """
        if not isinstance(solution, Solution):
            raise TypeError(
                "solution must be a Solution, such as model.solution, got "
                f"{type(solution).__name__}."
            )
        self._require_size(solution.x if solution.output is None else solution.output)
        title = f"{self.model} with {self.physics}"
        return plot_envelope(title, self.contraction, solution.absolute_history)

    def _changed(self, model: nn.Module, physics: Physics) -> list[str]:
        changed = changed_names(self.fingerprint, problem_fingerprint(model, physics))
        family = FAMILIES.get(type(physics), lambda physics: None)(physics)
        if changed and family is not None and type(family).__name__ == self.physics:
            digests = problem_fingerprint(model, family)
            return changed_names(self.fingerprint, digests)
        return changed

    def _require_size(self, state: State) -> None:
        image = state if isinstance(state, Tensor) else state[0]
        if tuple(image.shape[1:]) != self.img_size:
            raise ValueError(
                f"this certificate is for images of size {self.img_size}, got "
                f"{tuple(image.shape[1:])}: certify the model at that size."
            )

    def _require_problem(self, model: Any, y: Any, physics: Physics) -> None:
        if not isinstance(physics, Physics):
            raise TypeError(
                "the arguments begin with (model, y, physics): physics must be a "
                f"deepinv Physics, got {type(physics).__name__}."
            )
        self.check(model, physics)
        if not self.contraction.in_state:
            raise ValueError(
                f"the rate holds in the {self.norm}, but this bound needs a rate in "
                "the norm of the solver's state; use PGD, whose rate holds there."
            )
        with torch.no_grad():
            _, start = image_problem(model, y, physics)
        self._require_size(start)

    def __str__(self) -> str:
        size = " x ".join(map(str, self.img_size))
        title = f"Contraction of {self.model} with {self.physics}, images {size}"
        operator = "operator"
        if self.physics.startswith(ANY_MASK):
            operator = "operator with every mask of 0 and 1"
        return report(title, self.contraction, operator, self.version)

    def __repr__(self) -> str:
        return f"<Certificate of {self.model}: {rate_text(self.rate)}>"
