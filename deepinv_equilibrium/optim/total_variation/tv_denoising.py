"""Denoising by weighted total variation, solved through its dual."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...fixed_points import Report, Status
from .dual_bounds import duality_gap
from .image_differences import (
    differences_adjoint,
    differences_adjoint_into,
    differences_into,
    differences_norm_squared,
)
from .tv_groups import TVNorm, project_, radii_and_ratios

_CHECK_EVERY = 10  # iterations; a check costs about as much as two
_LAST_STEP = 0.01  # of the primal variable, where the linear phase begins
_RELAXATION = 1.9


@dataclass(frozen=True, repr=False)
class TVDenoising(Report):
    r"""
    Images denoised by total variation, and how accurate each is.

    As a :class:`~deepinv_equilibrium.Report`, ``residual`` is the duality gap relative
    to the energy, ``absolute_residual`` the gap, both in float64 (see
    :func:`~deepinv_equilibrium.optim.total_variation.dual_bounds`), and the histories
    have a row for every check of the gap, every ten iterations. They are of the images
    less their means, which total variation does not see: what little an image varies
    is then not lost in the rounding of its mean.

    :param torch.Tensor x: the images.
    :param torch.Tensor error_bound: :math:`\|x - x^*\|` is at most this,
        :math:`\sqrt{2 \, \text{gap}}` and the rounding of the images, of shape
        :math:`(B,)`.
    :param torch.Tensor dual: :math:`p`, from which a later call can start, without
        gradient.
    """

    x: Tensor = field(repr=False)
    error_bound: Tensor = field(repr=False)
    dual: Tensor = field(repr=False)

    @property
    def gap(self) -> Tensor:
        """The duality gap, of shape (B,)."""
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

    of :footcite:t:`chambolle2011first`: accelerated (their Algorithm 2, with
    :math:`\gamma = \tfrac12`) until :math:`\tau` has fallen to 0.01, then with steps
    kept and over-relaxed by 1.9 as in :footcite:t:`condat2013primal`, which converges;
    :math:`\sigma \tau \|D\|^2 = 1` throughout. The steps have no units and do not
    depend on the weight. A sample stops when its own duality gap meets the tolerance,
    and leaves the batch.

    :param torch.Tensor v: images of shape :math:`(B, C, N_1, \ldots, N_d)`.
    :param torch.Tensor weight: :math:`\Lambda`, with the axes of the differences.
    :param str norm: ``"isotropic"`` or ``"componentwise"``.
    :param float tol: tolerance on the duality gap, relative to the energy.
    :param int max_iter: the most iterations.
    :param torch.Tensor dual: where to start, of the shape of the differences; samples
        whose gap is smaller at zero start there.
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
            # NaN never meets a tolerance, and never will.
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
    # The centring, two differences and a sum: each rounds by at most half an epsilon of
    # images no larger than v, and prox does not expand the first.
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
    """The gap over the energy, which both vanish for a constant image."""
    return gap / torch.where(energy > 0, energy, 1.0)


def _status(relative_gap: float, tol: float) -> Status:
    if not math.isfinite(relative_gap):
        return Status.NONFINITE
    return Status.CONVERGED if relative_gap <= tol else Status.MAX_ITER


class _Run:
    """The samples that are still running, and memory for their iterations."""

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
        """Where that is better than zero. It never is for a constant image, whose gap
        would fall no faster than its energy: both vanish."""
        without, _ = self.gap()
        for d, n in enumerate(self.v.shape[2:]):
            inner = dual[:, :, d].narrow(2 + d, 0, n - 1)
            self.p[:, :, d].narrow(2 + d, 0, n - 1).copy_(inner)
        project_(self.p, self.radius, self.norm)
        self.x = self.v - differences_adjoint(self._pulled(self.p))
        worse = ~(self.gap()[0] < without)
        self.p[worse], self.x[worse] = 0, self.v[worse]

    def step(self, tau: float, theta: float) -> None:
        """One iteration, in place."""
        relaxation = _RELAXATION if theta == 1 else 1.0
        move = differences_adjoint_into(self._pulled(self.p), self._image)
        # As a move, which rounds to 0 where the weight is too small to be seen.
        move.neg_().add_(self.v).sub_(self.x).mul_(tau / (1 + tau))
        ahead = torch.add(self.x, move, alpha=1 + theta)
        field = differences_into(ahead, self._field)
        if self.ratio is not None:
            field.mul_(self.ratio)
        # sigma is that of the next tau, as in Algorithm 2 in its other order.
        sigma = 1 / (self.norm_squared * max(tau * theta, _LAST_STEP))
        project_(field.mul_(sigma).add_(self.p), self.radius, self.norm)
        self.x.add_(move, alpha=relaxation)
        self.p.lerp_(field, relaxation)

    def feasible(self) -> Tensor:
        """The field in the balls, which relaxation may have left."""
        return project_(self.p.clone(), self.radius, self.norm)

    def gap(self) -> tuple[Tensor, Tensor]:
        """The duality gap, and the energy, in the precision of the iterations."""
        # Of x, not of v - D'Sp: that agrees with x to the rounding over tau only, and
        # the gap is of first order in its differences, but of second in the mismatch.
        return duality_gap(self.x, self.p, self.v, self.weight, self.norm)

    def proved_gap(self) -> tuple[Tensor, Tensor]:
        """The same in double precision, of what is returned."""
        wide = torch.complex128 if self.v.is_complex() else torch.float64
        x, p, v = (t.to(wide) for t in (self.x, self.feasible(), self.v))
        return duality_gap(x, p, v, self.weight.double(), self.norm)

    def select(self, stay: Tensor) -> _Run:
        """Without the samples that have stopped."""
        run = _Run(self.v[stay], self.weight[stay], self.norm, None)
        run.x, run.p = self.x[stay], self.p[stay]
        return run

    def _pulled(self, p: Tensor) -> Tensor:
        return p if self.ratio is None else p * self.ratio
