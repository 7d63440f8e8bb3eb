"""Whether the iterates of a model's step converge, from several starts."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import torch
from deepinv.physics import Physics
from torch import Tensor

from ..certificates import Kind
from ..certificates.gradients.step_jacobians import sample_norms
from ..fixed_points import (
    FixedPointSolver,
    Picard,
    Report,
    Solution,
    StateLayout,
    Status,
    fixed_point,
)
from ..fixed_points.argument_checks import require_count, require_in_range
from ..fixed_points.step import PackedStep
from .fixed_point_models import fixed_point_problem


class WellPosed(IntEnum):
    r"""
    Verdict for one sample. Each member has a sentence:

    >>> from deepinv_equilibrium.diagnostics import WellPosed
    >>> print(WellPosed.UNIQUE.sentence)
    All starts converged to one point, which the step fixes.
    """

    UNIQUE = 0
    SEVERAL = 1
    UNRESOLVED = 2
    NOT_FIXED = 3
    NOT_CONVERGENT = 4

    @property
    def sentence(self) -> str:
        """What was observed, with a remedy where one exists."""
        return _SENTENCES[self]


_SENTENCES = {
    WellPosed.UNIQUE: "All starts converged to one point, which the step fixes.",
    WellPosed.SEVERAL: (
        "The starts converged to different points, each of which the step fixes: the "
        "result depends on the start. Always start in the same way (by default the "
        "models do), or make the step a contraction."
    ),
    WellPosed.UNRESOLVED: (
        "The starts converged so slowly that their limits cannot be distinguished: "
        "give a solver with a smaller rtol and a larger max_iter."
    ),
    WellPosed.NOT_FIXED: (
        "The iterates converged, but the step does not fix their limit: it is random, "
        "or has a state that changes from call to call. Call eval() on its networks."
    ),
    WellPosed.NOT_CONVERGENT: (
        "A start did not converge. Reduce the step size, relax the iteration "
        "(Picard(relaxation<1)), constrain the network, or give a solver with a larger "
        "max_iter if its residual still fell."
    ),
}


@dataclass(frozen=True, repr=False)
class WellPosedness:
    r"""
    Report of :func:`check_well_posed <deepinv_equilibrium.check_well_posed>`; ``print``
    it to read it.

    It is observed for the given measurements and starts. A certified rate below 1, from
    :func:`certify <deepinv_equilibrium.certify>`, is a proof for all starts.

    :param tuple reports: the :class:`~deepinv_equilibrium.Report` of the solve from
        each start.
    :param torch.Tensor residual: :math:`\|f(x) - x\| / s` at the last iterate
        :math:`x`, of shape (starts, :math:`B`). The scale :math:`s` of a sample is the
        largest norm of its last iterates and of :math:`f(x_0) - x_0`.
    :param torch.Tensor distance: largest distance between the images of two last
        iterates, over :math:`s`, of shape :math:`(B,)`. The image is the output of the
        step, or the first component of the state: a dual variable need not be unique.
    :param torch.Tensor resolution: twice the largest estimated distance of a last
        iterate from its limit, over :math:`s`, of shape :math:`(B,)`. Limits that are
        closer cannot be distinguished.
    :param float tol: relative distance above which two limits count as different.
    :param Kind kind: observed.
    """

    reports: tuple[Report, ...]
    residual: Tensor
    distance: Tensor
    resolution: Tensor
    tol: float
    kind: Kind = Kind.OBSERVED

    @property
    def converged(self) -> Tensor:
        """Whether the iterates of every start converged, a boolean of shape (B,)."""
        return torch.stack([report.converged for report in self.reports]).all(dim=0)

    @property
    def fixed(self) -> Tensor:
        """Whether the step fixes every last iterate up to ``tol``, of shape (B,)."""
        return (self.residual <= self.tol).all(dim=0)

    @property
    def well_posed(self) -> Tensor:
        """Whether the iterates from every start converge to a fixed point, the same or
        different ones, a boolean of shape (B,)."""
        return self.converged & self.fixed

    @property
    def verdict(self) -> tuple[WellPosed, ...]:
        """The verdict for each sample."""
        verdicts = []
        for i, converged in enumerate(self.converged.tolist()):
            if not converged:
                verdicts.append(WellPosed.NOT_CONVERGENT)
            elif not self.fixed[i]:
                verdicts.append(WellPosed.NOT_FIXED)
            elif self.distance[i] > self.tol + self.resolution[i]:
                verdicts.append(WellPosed.SEVERAL)
            elif self.resolution[i] > self.tol:
                verdicts.append(WellPosed.UNRESOLVED)
            else:
                verdicts.append(WellPosed.UNIQUE)
        return tuple(verdicts)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        verdicts, starts = self.verdict, len(self.reports)
        lines = [
            f"Well-posedness, {self.kind} from {starts} starts; no proof",
            "sample  starts converged  residual  distance  verdict",
        ]
        counts = torch.stack([report.converged for report in self.reports]).sum(0)
        for i, verdict in enumerate(verdicts):
            lines.append(
                f"{i:<6d}  {int(counts[i]):>6d} of {starts:<6d}  "
                f"{float(self.residual[:, i].max()):.2e}  "
                f"{float(self.distance[i]):.2e}  {verdict.name}"
            )
        lines += [f"{v.name}: {v.sentence}" for v in WellPosed if v in verdicts]
        if WellPosed.NOT_CONVERGENT in verdicts:
            ends = Counter(s.name for report in self.reports for s in report.status)
            how = ", ".join(f"{count} {name}" for name, count in ends.items())
            lines.append(f"the solves ended as {how}")
        return "\n".join(lines)


@torch.no_grad()
def check_well_posed(
    model: Any,
    y: Tensor,
    physics: Physics,
    starts: int = 4,
    spread: float = 1.0,
    solver: FixedPointSolver | None = None,
    tol: float = 1e-3,
    generator: torch.Generator | None = None,
) -> WellPosedness:
    r"""
    Observe whether a model is well posed for a measurement: whether the iterates of its
    step :math:`f`,

    .. math::

        x_{k+1} = f(x_k),

    converge to a fixed point of :math:`f`.

    The definition of a well-posed layer asks this of one start. This function tries
    several, the initial state :math:`x_0` of the model and random states around it, and
    also reports whether the limits are the same point.

    :param model: a model of this package with ``DEQ``, or another one with
        ``fixed_point_problem(y, physics)`` and ``DEQ``.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param int starts: number of starts, at least 2, of which :math:`x_0` is the first.
    :param float spread: distance of the random starts from :math:`x_0`, relative to the
        norm of :math:`x_0` (of a state of ones if :math:`x_0 = 0`). If the step has a
        domain, the distance is halved until the starts are inside.
    :param FixedPointSolver solver: makes the iterates. Default: ``None``,
        ``Picard(max_iter=2000, rtol=1e-5)``, with ``rtol=1e-8`` in double precision.
    :param float tol: relative distance above which two limits count as different, and
        relative residual above which a limit counts as not fixed.
    :param torch.Generator generator: draws the starts. Default: ``None``, a new one
        with seed 0.
    :return: (WellPosedness) the report; it is observed.
    :raises TypeError: if the model solves no fixed-point problem, or an argument has
        the wrong type.
    :raises ValueError: if the model was built without ``DEQ``, an argument is out of
        its range, or no start was found in the domain of the step.

    :Example:

    >>> import deepinv as dinv, torch, deepinv_equilibrium as deq
    >>> model = deq.optim.PGD(
    ...     dinv.optim.L2(), dinv.optim.Tikhonov(), stepsize=0.5, DEQ=deq.Equilibrium()
    ... )
    >>> y, physics = torch.ones(1, 1, 8, 8), dinv.physics.Denoising()
    >>> report = deq.check_well_posed(model, y, physics)
    >>> bool(report.well_posed), report.verdict[0].name
    (True, 'UNIQUE')
    """
    require_count("starts", starts, 2)
    require_in_range("spread", spread)
    require_in_range("tol", tol)
    step, x0 = fixed_point_problem(model, y, physics)
    layout = StateLayout.of(x0)
    packed, first = PackedStep(step, layout), layout.pack(x0)
    if solver is None:
        rtol = 1e-8 if first.dtype is torch.float64 else 1e-5
        solver = Picard(max_iter=2000, rtol=rtol)
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    others = [_start(packed, first, spread, generator) for _ in range(starts - 1)]
    reports, images, sizes, residuals, resolutions = [], [], [], [], []
    for start in (first, *others):
        solution = fixed_point(step, layout.unpack(start), solver, on_failure="ignore")
        end = layout.pack(solution.x)
        residuals.append(sample_norms(packed(end)[0] - end).cpu())
        sizes.append(sample_norms(end).cpu())
        resolutions.append(2 * _distance_to_limit(solution))
        reports.append(
            Report(**{f.name: getattr(solution, f.name) for f in fields(Report)})
        )
        images.append(_image(solution))
    distances = [
        sample_norms(image - other).cpu()
        for i, image in enumerate(images)
        for other in images[:i]
    ]
    # A limit may be 0, so the first residual from x0 counts for the scale too.
    moved = reports[0].absolute_history[0].double().cpu()
    scale = torch.stack([moved, *sizes]).amax(dim=0)
    scale = scale.clamp(min=torch.finfo(torch.float64).tiny)
    return WellPosedness(
        tuple(reports),
        torch.stack(residuals) / scale,
        torch.stack(distances).amax(dim=0) / scale,
        torch.stack(resolutions).amax(dim=0) / scale,
        tol,
    )


def _start(
    step: PackedStep, x0: Tensor, spread: float, generator: torch.Generator
) -> Tensor:
    """Random states around x0, each in the domain of the step."""
    noise = torch.randn(
        x0.shape, generator=generator, device=generator.device, dtype=torch.float64
    )
    size = sample_norms(x0)
    size = torch.where(size > 0, size, math.sqrt(x0.shape[1])).to(noise.device)
    shift = (spread * (size / sample_norms(noise))[:, None] * noise).to(x0)
    for _ in range(60):
        inside = step.inside(x0 + shift)
        if bool(inside.all()):
            return x0 + shift
        shift = torch.where(inside[:, None], shift, shift / 2)
    raise ValueError(
        "no start was found in the domain of the step: the initial state of the model "
        "must be in the interior of this domain."
    )


def _image(solution: Solution) -> Tensor:
    """The images of a solution as real rows, of shape (B, n)."""
    image = solution.output
    if image is None:
        image = solution.x if isinstance(solution.x, Tensor) else solution.x[0]
    return StateLayout.of(image).pack(image)


def _distance_to_limit(report: Report) -> Tensor:
    r"""Estimate :math:`r \rho / (1 - \rho)` with the last residual :math:`r` and the
    mean rate :math:`\rho` of the last ten; infinite if they did not fall."""
    distances = []
    for i, status in enumerate(report.status):
        history = report.absolute_history[:, i].double()
        history = history[torch.isfinite(history)]
        last = float(report.absolute_residual[i])
        tail = history[-11:]
        if last == 0 or status is not Status.CONVERGED:
            distances.append(0.0)
        elif len(tail) < 2:
            distances.append(last)
        else:
            rate = float((tail[-1] / tail[0]) ** (1 / (len(tail) - 1)))
            distances.append(last * rate / (1 - rate) if rate < 1 else math.inf)
    return torch.tensor(distances, dtype=torch.float64)
