"""What is known of the contraction of a model, and what follows."""

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
from .contraction_bounds import Contraction, Term
from .fingerprints import differences, fingerprint
from .gradients.recorded_gradient import image_problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .gradients.gradient_errors import GradientError
    from .gradients.planning import Plan


@dataclass(frozen=True, repr=False)
class Certificate:
    r"""
    What :func:`certify <deepinv_equilibrium.certify>` returns. ``print`` it for a
    report.

    It holds for the weights, step sizes, operator and image size that it was made for:
    :meth:`check` says when one of the first three has changed, and so does every method
    that takes the model; measurements and solutions of another size are refused. It
    keeps digests, not the model.

    :param Contraction contraction: what the model says of its contraction.
    :param str model: name of the model's class.
    :param str physics: name of that of the physics.
    :param tuple img_size: :math:`(C, H, W)`.
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
        r"""Upper bound :math:`\rho` of the Lipschitz constant of the step, that is of
        one block of layers, in :attr:`norm`. Infinite where nothing is proved: its
        source then says which part cannot be certified, and why."""
        return self.contraction.rate

    @property
    def norm(self) -> str:
        """The norm that the rate holds in."""
        return self.contraction.norm

    @property
    def kind(self) -> Kind | None:
        """The weakest kind among the terms of the rate; None where no rate is known,
        and there is nothing to be certified."""
        return None if self.rate.is_vacuous else self.rate.kind

    @property
    def terms(self) -> tuple[Term, ...]:
        """What the rate rests on."""
        return self.contraction.terms

    @property
    def contracts(self) -> bool:
        """Whether it is proved that the step contracts: a certified rate below 1."""
        return self.rate.is_certified and self.rate.value < 1

    @property
    def stability(self) -> Bound:
        r"""How far the reconstruction moves with the measurement:
        :math:`\|x^\star(y_1) - x^\star(y_2)\| \le \text{stability} \|y_1 - y_2\|` for
        the exact fixed points. For one layer of PGD it is
        :math:`L_D \tau \|A\| / (\sigma^2 (1 - \rho))`."""
        return self.contraction.stability

    def steps_to(self, factor: float) -> int:
        r"""
        Steps after which the distance to the fixed point, in :attr:`norm`, has fallen
        to ``factor`` times what it was: the least :math:`k` with
        :math:`\rho^k \le` ``factor``, a step being a block. It is as sound as
        :attr:`kind` says.

        :param float factor: in :math:`(0, 1)`, e.g. ``1e-6``.
        :return: the number of steps.
        :raises ValueError: if the factor is out of range, or the rate is not below 1.
        """
        if not 0 < factor < 1:
            raise ValueError(f"factor must be in (0, 1), got {factor!r}.")
        rate = self.rate.value
        if not rate < 1:
            raise ValueError(
                f"no number of steps: the rate is not below 1 ({self._rate_text()})."
            )
        if rate <= factor:
            return 1
        # The quotient is moved outwards: a step too many is sound, one too few is not.
        return math.ceil(outward(math.log(factor) / math.log(rate)))

    def check(self, model: nn.Module, physics: Physics) -> None:
        r"""
        Refuse a model or a physics that it was not made for.

        :param torch.nn.Module model: the model.
        :param deepinv.physics.Physics physics: the physics.
        :raises ValueError: if something has changed; it names what.
        """
        changed = differences(self.fingerprint, fingerprint_of(model, physics))
        if changed:
            shown = ", ".join(changed[:5])
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            raise ValueError(
                f"this certificate does not hold any more: {shown}{more} changed since "
                "it was made; certify the model again."
            )

    def holds_for(self, model: nn.Module, physics: Physics) -> bool:
        r"""
        Whether nothing that it rests on has changed.

        :param torch.nn.Module model: the model.
        :param deepinv.physics.Physics physics: the physics.
        """
        return not differences(self.fingerprint, fingerprint_of(model, physics))

    def gradient_error(
        self, model: Any, y: Any, physics: Physics, loss: Any, **options: Any
    ) -> GradientError:
        r"""
        Bounds of the error of the model's gradient; see
        :func:`deepinv_equilibrium.certificates.gradient_error`.

        :param torch.nn.Module model: the model.
        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :param Callable loss: the loss of the reconstruction.
        :param options: further arguments of that function.
        :return: the bounds, each with its kind.
        :raises TypeError: if ``physics`` is none.
        :raises ValueError: if the certificate does not hold for the model or the size
            of the image, its norm is not that of the solver's state, or that state is
            not the image.
        """
        from .gradients.gradient_errors import gradient_error

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
        The cheapest number of layers and restarts whose gradient is within a tolerance;
        see :func:`deepinv_equilibrium.certificates.plan`.

        :param torch.nn.Module model: the model.
        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :param Callable loss: the loss of the reconstruction.
        :param float tol: the tolerance.
        :param options: further arguments of that function.
        :return: the plan, ``layers, restarts = plan``.
        :raises TypeError: if ``physics`` is none.
        :raises ValueError: if the certificate does not hold for the model or the size
            of the image, its norm is not that of the solver's state, or that state is
            not the image.
        """
        from .gradients.planning import plan

        self._require_problem(model, y, physics)
        return plan(self, model, y, physics, loss, tol, **options)

    def plot(self, solution: Solution) -> Figure:
        r"""
        Observed absolute residuals of a solve under the certified envelope
        :math:`\rho^k r_0` of the plain iteration.

        :param Solution solution: a solution, such as ``model.solution``.
        :return: the figure.
        :raises ImportError: if matplotlib is not installed.
        :raises TypeError: if it is no solution.
        :raises ValueError: if the rate is not below 1, or the images are of another
            size than the certificate's.
        """
        from .certificate_plot import plot_envelope

        if not isinstance(solution, Solution):
            raise TypeError(
                "solution must be a Solution, such as model.solution, got "
                f"{type(solution).__name__}."
            )
        self._require_size(solution.x if solution.output is None else solution.output)
        return plot_envelope(self, solution)

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
                "the arguments are (model, y, physics, loss): physics must be a "
                f"deepinv Physics, got {type(physics).__name__}."
            )
        self.check(model, physics)
        if not self.contraction.in_state:
            raise ValueError(
                f"the rate holds in the {self.norm}, and not in the state of the "
                "solver, in which errors of gradients are bounded; take PGD."
            )
        with torch.no_grad():
            _, start = image_problem(model, y, physics)
        self._require_size(start)

    def _rate_text(self) -> str:
        from .certificate_report import rate_text

        return rate_text(self)

    def __str__(self) -> str:
        from .certificate_report import report

        return report(self)

    def __repr__(self) -> str:
        return f"<Certificate of {self.model}: {self._rate_text()}>"


def fingerprint_of(model: nn.Module, physics: Physics) -> dict[str, str]:
    """Digests of a model and a physics, and of the model's number of layers."""
    digests = {f"model.{k}": v for k, v in fingerprint(model).items()}
    digests.update({f"physics.{k}": v for k, v in fingerprint(physics).items()})
    layers = getattr(getattr(model, "equilibrium", None), "layers", None)
    return {**digests, "model.equilibrium.layers": str(layers)}
