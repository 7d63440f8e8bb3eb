"""Denoising by weighted total variation, solved through its dual."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...fixed_points import Report, Status
from .image_differences import (
    differences,
    differences_adjoint,
    differences_adjoint_into,
    differences_into,
    differences_norm_squared,
)
from .tv_groups import TVNorm, group_norm, project_, radii_and_ratios

# Iterations between two checks of the gap, which cost about as much as two iterations.
_CHECK_EVERY = 10
# Primal step size at which the linear phase begins, and its relaxation.
_LAST_STEP = 0.01
_RELAXATION = 1.9


@torch.no_grad()
def duality_gap(
    x: Tensor, dual: Tensor, v: Tensor, weight: Tensor, norm: TVNorm
) -> tuple[Tensor, Tensor]:
    r"""
    Return the gap between the energy of an image and a dual bound of the least energy,

    .. math::

        \begin{aligned}
        P(x) - Q(p) &= \sum_i \left( \bar\lambda_i \|(S D x)_i\|
        - \langle (S D x)_i, p_i \rangle \right)
        + \tfrac12 \|x - v + D^\top S p\|^2, \\
        P(x) &= \tfrac12 \|x - v\|^2 + \|\Lambda D x\|_{2, 1}, \qquad
        Q(p) = \tfrac12 \|v\|^2 - \tfrac12 \|v - D^\top S p\|^2,
        \end{aligned}

    for :math:`\Lambda = \bar\lambda S` and a dual field with
    :math:`\|p_i\| \leq \bar\lambda_i`. No term is negative, and no large numbers
    cancel. As the energy is 1-strongly convex,

    .. math::

        \tfrac12 \|x - x^*\|^2 \leq P(x) - P(x^*) \leq P(x) - Q(p).

    The bound holds for every image and every field up to rounding in the given dtype.
    The field is first projected onto the balls.

    :param torch.Tensor x: images of shape :math:`(B, C, N_1, \ldots, N_d)`.
    :param torch.Tensor dual: :math:`p`, of the shape of the differences.
    :param torch.Tensor v: noisy images.
    :param torch.Tensor weight: :math:`\Lambda`, with the axes of the differences.
    :param str norm: ``"isotropic"`` or ``"componentwise"``.
    :return: the gap and the energy :math:`P(x)`, each of shape :math:`(B,)`.
    """
    radius, ratio = radii_and_ratios(weight, norm)
    dual = project_(dual.clone(), radius, norm)
    field, pulled = differences(x), dual
    if ratio is not None:
        field, pulled = field * ratio, dual * ratio
    variation = radius * group_norm(field, norm)
    aligned = (field * dual.conj()).real if x.is_complex() else field * dual
    # Rounding errors could make the difference negative in float32.
    slack = (_total(variation) - _total(aligned)).clamp_min(0)
    mismatch = _half_square(x - v + differences_adjoint(pulled))
    return slack + mismatch, _half_square(x - v) + _total(variation)


def _total(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1).sum(1, dtype=torch.float64)


def _half_square(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.reshape(len(x), -1), dim=1).double().square() / 2


@dataclass(frozen=True, repr=False)
class TVDenoising(Report):
    r"""
    Images denoised by total variation, with a bound of the error of each image.

    The report has the duality gap in float64, see
    :func:`~deepinv_equilibrium.optim.total_variation.duality_gap`: ``residual`` is the
    gap relative to the energy and ``absolute_residual`` the gap. The histories have one
    row for each check, every ten iterations. The means of the images are subtracted
    before the gap is computed: total variation ignores them, and small variations of an
    image would be lost in the rounding of a large mean.

    :param torch.Tensor x: the images.
    :param torch.Tensor error_bound: upper bound of :math:`\|x - x^*\|`, the sum of
        :math:`\sqrt{2 \, \text{gap}}` and the rounding error of the images, of shape
        :math:`(B,)`.
    :param torch.Tensor dual: :math:`p`, without gradient; a later call can start from
        it.
    """

    x: Tensor = field(repr=False)
    error_bound: Tensor = field(repr=False)
    dual: Tensor = field(repr=False)

    @property
    def gap(self) -> Tensor:
        """Duality gap of each sample, of shape (B,)."""
        return self.absolute_residual


@torch.no_grad()
def solve_denoising(
    v: Tensor,
    weight: Tensor,
    norm: TVNorm,
    tol: float,
    max_iter: int,
    dual: Tensor | None = None,
) -> TVDenoising:
    r"""
    Solve :math:`\min_x \tfrac12 \|x - v\|^2 + \|\Lambda D x\|_{2, 1}`, or with the
    componentwise norm, by the primal-dual iterations

    .. math::

        \begin{aligned}
        \tilde x &= \frac{x + \tau (v - D^\top S p)}{1 + \tau}, \\
        \tilde p &= \operatorname{proj}_{\|p_i\| \leq \bar\lambda_i} \left( p + \sigma
        S D (\tilde x + \theta (\tilde x - x)) \right),
        \end{aligned}

    of :footcite:t:`chambolle2011first`. They are accelerated (Algorithm 2 there, with
    :math:`\gamma = \tfrac12`) until :math:`\tau` is 0.01. Then the step sizes are
    constant and the iterations over-relaxed by 1.9, which converges by
    :footcite:t:`condat2013primal`. Throughout, :math:`\sigma \tau \|D\|^2 = 1`. The
    step sizes have no units and do not depend on the weight. A sample leaves the batch
    when its duality gap meets the tolerance.

    :param torch.Tensor v: images of shape :math:`(B, C, N_1, \ldots, N_d)`.
    :param torch.Tensor weight: :math:`\Lambda`, with the axes of the differences.
    :param str norm: ``"isotropic"`` or ``"componentwise"``.
    :param float tol: tolerance on the duality gap, relative to the energy.
    :param int max_iter: largest number of iterations.
    :param torch.Tensor dual: dual field to start from, of the shape of the differences.
        A sample whose gap is smaller at zero starts at zero. Default: ``None``, zero.
    :return: (TVDenoising) the images, and their accuracy.
    """
    centred = v - v.mean(dim=tuple(range(2, v.ndim)), keepdim=True)
    run = _Run(centred, weight.expand(len(v), *weight.shape[1:]), norm, dual)
    found, balls = torch.empty_like(v), torch.empty_like(run.p)
    iterations = torch.zeros(len(v), dtype=torch.long, device=v.device)
    gaps = torch.empty(2, len(v), dtype=torch.float64, device=v.device)
    history: list[Tensor] = []
    running = torch.arange(len(v), device=v.device)
    tau = 1.0 if dual is None else _LAST_STEP
    for iteration in range(max_iter + 1):
        if iteration % _CHECK_EVERY == 0 or iteration == max_iter:
            gap, energy = run.gap()
            if iteration == max_iter or bool((gap <= tol * energy).any()):
                gap, energy = run.proved_gap()
            row = torch.stack([_relative(gap, energy), gap])
            history.append(row.new_full((2, len(v)), math.nan))
            history[-1][:, running] = row
            # A sample with NaN stops: it would never meet the tolerance.
            stay = (row[0] > tol) & torch.isfinite(gap) & (iteration < max_iter)
            if not bool(stay.all()):
                stop, stopped = ~stay, running[~stay]
                found[stopped], balls[stopped] = run.x[stop], run.feasible()[stop]
                gaps[:, stopped], iterations[stopped] = row[:, stop], iteration
                if not bool(stay.any()):
                    break
                running, run = running[stay], run.select(stay)
        theta = 1 / math.sqrt(1 + tau) if tau > _LAST_STEP else 1.0
        run.step(tau, theta)
        tau = max(tau * theta, _LAST_STEP)
    # Centring, two differences and a sum each round by at most half an epsilon of an
    # image that is no larger than v. The proximal operator does not expand the first.
    rounding = 3 * torch.finfo(v.dtype).eps * _norm(v)
    relative, absolute = torch.stack(history).unbind(1)
    return TVDenoising(
        status=tuple(_status(value, tol) for value in gaps[0].tolist()),
        residual=gaps[0],
        absolute_residual=gaps[1],
        iterations=iterations,
        evaluations=iterations,
        history=relative,
        absolute_history=absolute,
        x=v + (found - centred),
        error_bound=(2 * gaps[1]).sqrt() + rounding,
        dual=balls,
    )


def _norm(v: Tensor) -> Tensor:
    return torch.linalg.vector_norm(v.reshape(len(v), -1), dim=1).double()


def _relative(gap: Tensor, energy: Tensor) -> Tensor:
    """Gap over energy, or 0 for a constant image, where both are 0."""
    return gap / torch.where(energy > 0, energy, 1.0)


def _status(relative_gap: float, tol: float) -> Status:
    if not math.isfinite(relative_gap):
        return Status.NONFINITE
    return Status.CONVERGED if relative_gap <= tol else Status.MAX_ITER


class _Run:
    """The samples that have not stopped, with preallocated memory."""

    def __init__(self, v: Tensor, weight: Tensor, norm: TVNorm, dual: Tensor | None):
        self.v, self.weight, self.norm = v, weight, norm
        self.radius, self.ratio = radii_and_ratios(weight, norm)
        self.norm_squared = differences_norm_squared(v.shape[2:]) or 1.0
        self.p = v.new_zeros(*v.shape[:2], v.ndim - 2, *v.shape[2:])
        self.x = v.clone()
        if dual is not None:
            self._start_from(dual)
        self._image = torch.empty_like(self.x)
        self._field = torch.zeros_like(self.p)

    def _start_from(self, dual: Tensor) -> None:
        """Start from a dual field where its gap is below that of zero. A constant image
        always starts at zero: its gap would decrease no faster than its energy."""
        without, _ = self.gap()
        for d, n in enumerate(self.v.shape[2:]):
            inner = dual[:, :, d].narrow(2 + d, 0, n - 1)
            self.p[:, :, d].narrow(2 + d, 0, n - 1).copy_(inner)
        project_(self.p, self.radius, self.norm)
        self.x = self.v - differences_adjoint(self._pulled(self.p))
        worse = ~(self.gap()[0] < without)
        self.p[worse], self.x[worse] = 0, self.v[worse]

    def step(self, tau: float, theta: float) -> None:
        """Make one iteration, in place."""
        relaxation = _RELAXATION if theta == 1 else 1.0
        move = differences_adjoint_into(self._pulled(self.p), self._image)
        # The increment rounds to 0 if the weight is below the precision of the image.
        move.neg_().add_(self.v).sub_(self.x).mul_(tau / (1 + tau))
        ahead = torch.add(self.x, move, alpha=1 + theta)
        field = differences_into(ahead, self._field)
        if self.ratio is not None:
            field.mul_(self.ratio)
        # Algorithm 2 with its half steps exchanged: sigma belongs to the next tau.
        sigma = 1 / (self.norm_squared * max(tau * theta, _LAST_STEP))
        project_(field.mul_(sigma).add_(self.p), self.radius, self.norm)
        self.x.add_(move, alpha=relaxation)
        self.p.lerp_(field, relaxation)

    def feasible(self) -> Tensor:
        """The dual field, projected: over-relaxation may leave the balls."""
        return project_(self.p.clone(), self.radius, self.norm)

    def gap(self) -> tuple[Tensor, Tensor]:
        """Duality gap and energy, in the precision of the iterations."""
        # At x and not at v - D'Sp, which agrees with x only to the rounding error over
        # tau. The gap has first order in the differences, second in the mismatch.
        return duality_gap(self.x, self.p, self.v, self.weight, self.norm)

    def proved_gap(self) -> tuple[Tensor, Tensor]:
        """Duality gap and energy of the returned pair, in double precision."""
        wide = torch.complex128 if self.v.is_complex() else torch.float64
        x, p, v = (t.to(wide) for t in (self.x, self.feasible(), self.v))
        return duality_gap(x, p, v, self.weight.double(), self.norm)

    def select(self, stay: Tensor) -> _Run:
        """Return the run without the samples that have stopped."""
        run = _Run(self.v[stay], self.weight[stay], self.norm, None)
        run.x, run.p = self.x[stay], self.p[stay]
        return run

    def _pulled(self, p: Tensor) -> Tensor:
        return p if self.ratio is None else p * self.ratio
