"""Bounds of the error of the gradient that a model computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from deepinv.physics import Physics
from torch import Tensor

from ...fixed_points import JacobianFree, Neumann, Picard
from ..bounds import Bound, Kind
from .gradient_bounds import jacobian_free_error, retune_error, retune_squared_error
from .gradient_terms import GradientTerms
from .recorded_gradient import FixedPointModel, RecordedGradient, record_gradient
from .smooth_loss import Loss, SquaredError, require_loss
from .step_constants import StepConstants


class HasRate(Protocol):
    """An object with the rate of a model's step, such as a ``Certificate``."""

    @property
    def rate(self) -> Bound:
        """Lipschitz constant of the step, a block of the model's layers, in the
        Euclidean norm of the image."""


@dataclass(frozen=True)
class GradientError:
    r"""
    Bounds of the error :math:`\|g - \hat g\|` of a gradient.

    :param Bound a_posteriori: a bound computed from the residuals of the forward and
        the backward pass.
    :param Bound from_adjoint: the part of ``a_posteriori`` that a better adjoint makes
        smaller: more layers, a longer series, a smaller tolerance.
    :param Bound from_forward: the part of ``a_posteriori`` that a better fixed point
        makes smaller.
    :param dict a_priori: by name, the bounds of the theorems that apply to the adjoint.
    :param dict terms: by name, the quantities from which the bounds were computed, each
        for the sample with the largest value.
    :param tuple gradient: :math:`\hat g`, one tensor for each trained parameter.
    """

    a_posteriori: Bound
    from_adjoint: Bound
    from_forward: Bound
    a_priori: Mapping[str, Bound]
    terms: Mapping[str, Bound]
    gradient: tuple[Tensor, ...] = field(repr=False)

    @property
    def kind(self) -> Kind:
        """The kind of the a-posteriori bound, the weakest kind among its terms."""
        return self.a_posteriori.kind

    @property
    def gradient_norm(self) -> float:
        r"""The computed norm :math:`\|\hat g\|`."""
        return float(torch.stack([g.double().norm() for g in self.gradient]).norm())

    def __str__(self) -> str:
        error, norm = self.a_posteriori, self.gradient_norm
        exceeds = error.value > norm and not error.is_vacuous
        lines = [
            f"gradient of norm {norm:.3e}",
            f"its error {error}" + ", larger than the gradient itself" * exceeds,
            f"  from the adjoint {self.from_adjoint}",
            f"  from the fixed point {self.from_forward}",
        ]
        lines += [f"  a priori, {name} {b}" for name, b in self.a_priori.items()]
        lines += ["terms:"]
        lines += [f"  {name} {bound}" for name, bound in self.terms.items()]
        return "\n".join(lines)


def gradient_error(
    certificate: HasRate,
    model: FixedPointModel,
    y: Any,
    physics: Physics,
    loss: Loss,
    constants: StepConstants | None = None,
) -> GradientError:
    r"""
    Bound the error of the gradient that a model computes with its solver and adjoint.

    Let :math:`\rho` be the rate of the step :math:`f`, :math:`J = \partial_x f` and
    :math:`B = \partial_\theta f`. The computed gradient is
    :math:`\hat g = \sum_j B(x_j)^\top c_j`; the sum has several terms for
    ``JacobianFree(steps)`` and ``Unrolled``, and one term for all other adjoints. The
    exact gradient is
    :math:`g = B(\hat x)^\top (I - J(\hat x)^\top)^{-1} \nabla \ell(\hat x)`. With the
    distances :math:`e_j = \|f(x_j) - x_j\| / (1 - \rho)`, the distance
    :math:`\tilde e = \|f(\tilde x) - \tilde x\| / (1 - \rho)` of the returned state
    :math:`\tilde x`, and the adjoint residual :math:`s =
    \|\nabla \ell(\tilde x) - \sum_j (I - J(x_j)^\top) c_j\|`,

    .. math::

        \|g - \hat g\| \leq \frac{\beta}{1 - \rho} \Big( s + L_\ell\, \tilde e
        + L_J \sum_j e_j \|c_j\| \Big) + L_B \sum_j e_j \|c_j\|, \qquad
        \beta = \|B(x_j)\| + L_B e_j \geq \|B(\hat x)\|.

    The bound follows from :math:`g - \hat g = B(\hat x)^\top (w - \sum_j c_j) + \sum_j
    (B(\hat x) - B(x_j))^\top c_j` with :math:`(I - J(\hat x)^\top) w = \nabla
    \ell(\hat x)`. For Jacobian-free gradients :math:`s = \|J_{\Phi_K}^\top \nabla
    \ell(\tilde x)\|`, where :math:`\Phi_K` denotes the recorded iterations.

    The gradient is that of the loss of the batch, and the bound is the sum over its
    samples. The term with :math:`L_\ell` also holds for a loss that couples the
    samples. The bound is certified if :math:`\rho, L_\ell, L_J` and :math:`L_B` are,
    the computation is in float64, and at most 32 parameters are trained, because norms
    of :math:`B` in more parameters are estimated. Evaluations of the step are assumed
    to be accurate to :math:`10^{-12}` of their size.

    :param Certificate certificate: an object with the rate of the step.
    :param FixedPointModel model: the model, such as ``deq.optim.PGD(..., DEQ=...)``.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param Callable loss: a function from a batch of reconstructions to a scalar. The
        smoothness of a :class:`SmoothLoss
        <deepinv_equilibrium.certificates.SmoothLoss>` is used; that of another loss is
        estimated.
    :param StepConstants constants: :math:`L_J` and :math:`L_B` of the model's step, a
        block of its layers. Default: ``None``, they are estimated.
    :return: the bounds and the terms from which they were computed.
    :raises TypeError: if the loss needs another argument than the reconstruction.
    :raises ValueError: if the model does not solve a fixed-point problem, has no
        trained parameters, or has another state than the image, or if the loss is not a
        scalar.
    """
    require_loss(loss)
    record = record_gradient(model, y, physics, loss)
    terms = GradientTerms.of(certificate.rate, record, loss, constants)
    return GradientError(
        a_posteriori=terms.bound(
            terms.adjoint + terms.forward, "forward and adjoint residuals"
        ),
        from_adjoint=terms.bound(terms.adjoint, "adjoint residual"),
        from_forward=terms.bound(terms.forward, "forward residual"),
        a_priori=_a_priori(model.DEQ, loss, record, terms),
        terms=terms.described(),
        gradient=record.gradient,
    )


def _a_priori(
    config: Any, loss: Loss, record: RecordedGradient, terms: GradientTerms
) -> dict[str, Bound]:
    """Return the bounds of the theorems that apply, for the batch as one vector."""
    rate, beta = terms.rate.value, float(terms.parameter_jacobian.norm())
    adjoint, solver = config.adjoint, config.solver
    bounds = {}
    order = None
    if isinstance(adjoint, JacobianFree):
        order = adjoint.steps - 1
    elif isinstance(adjoint, Neumann):
        order = adjoint.order
    if order is not None:
        bounds["Lemma 1"] = terms.bound(
            jacobian_free_error(rate, terms.slope, beta, order),
            "for an exact fixed point",
        )
    if order == 0 and isinstance(solver, Picard) and solver.relaxation == 1:
        # Samples with more iterations are nearer to the fixed point.
        restarts = int(record.solution.iterations.min())
        start = float(terms.start_distance.norm())
        last = float(terms.recorded_parameter_jacobian.norm())
        L_B = terms.constants.parameter_jacobian_lipschitz.value
        source = f"corrected, {restarts} restarts"
        bounds["Theorem 2"] = terms.bound(
            retune_error(
                rate,
                restarts,
                start,
                terms.slope,
                terms.smoothness.value,
                beta,
                last,
                L_B,
            ),
            source,
        )
        if isinstance(loss, SquaredError):
            # The loss w ||x - x^||^2 is 2 w times the loss of the paper.
            scale = terms.smoothness.value
            error = terms.slope / scale
            bounds["Corollary 1"] = terms.bound(
                scale
                * retune_squared_error(rate, restarts, start, error, beta, last, L_B),
                source,
            )
    return bounds
