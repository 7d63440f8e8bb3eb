"""What can be observed of the iterates of a step."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, fields
from enum import IntEnum

import torch
from deepinv.models import Reconstructor
from torch import Tensor

from ..certificates import Kind
from ..fixed_points import (
    FixedPointSolver,
    Picard,
    Report,
    Solution,
    State,
    StateLayout,
    Status,
    Step,
    fixed_point,
)
from ..fixed_points.argument_checks import require_count, require_number
from ..fixed_points.step import PackedStep


class WellPosed(IntEnum):
    r"""
    What was observed of one sample, in a sentence:

    >>> from deepinv_equilibrium.certificates import WellPosed
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
        """What was seen and, where one is due, what to do about it."""
        return _SENTENCES[self]


_SENTENCES = {
    WellPosed.UNIQUE: "All starts converged to one point, which the step fixes.",
    WellPosed.SEVERAL: (
        "The starts converged to different points, each of which the step fixes: the "
        "result depends on the start. Always start in the same way (by default the "
        "models do), or make the step a contraction."
    ),
    WellPosed.UNRESOLVED: (
        "The starts converged so slowly that their limits cannot be told apart: give a "
        "solver with a smaller rtol and a larger max_iter."
    ),
    WellPosed.NOT_FIXED: (
        "The iterates settled, but the step does not return what it settled on: it is "
        "random, or keeps something from call to call. Call eval() on its networks."
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
    What :func:`check_well_posed <deepinv_equilibrium.check_well_posed>` saw. ``print``
    it for a report.

    It is observed, for these measurements and starts; a proof for all starts is a
    certified rate below 1, by :func:`certify <deepinv_equilibrium.certify>`.

    :param tuple reports: the report of the solve from each start.
    :param torch.Tensor residual: :math:`\|f(x) - x\| / s` where the iterates ended,
        starts :math:`\times` samples, with the scale :math:`s` of the sample: the
        largest norm of its ends and of :math:`f(x_0) - x_0`.
    :param torch.Tensor distance: largest distance of the images of two ends over
        :math:`s`, of shape :math:`(B,)`. The image is the output of the step, or the
        first component of the state: a dual that is not unique does not count.
    :param torch.Tensor resolution: distances below which two ends cannot be told apart:
        what the tail of the residuals says is left to go, of shape :math:`(B,)`.
    :param float tol: distance from which two ends are different points.
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
        """Whether the step fixes every end, up to the tolerance, of shape (B,)."""
        return (self.residual <= self.tol).all(dim=0)

    @property
    def well_posed(self) -> Tensor:
        r"""Whether each sample is as the definition asks, of shape (B,): from every
        start the iterates converge to a fixed point of the step, be it one or
        several."""
        return self.converged & self.fixed

    @property
    def verdict(self) -> tuple[WellPosed, ...]:
        """One a sample."""
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
        ends = Counter(s.name for report in self.reports for s in report.status)
        if WellPosed.NOT_CONVERGENT in verdicts:
            how = ", ".join(f"{count} {name}" for name, count in ends.items())
            lines.append(f"the solves ended as {how}")
        return "\n".join(lines)


@torch.no_grad()
def check_well_posed(
    step: Step,
    x0: State,
    starts: int = 4,
    spread: float = 1.0,
    solver: FixedPointSolver | None = None,
    tol: float = 1e-3,
    generator: torch.Generator | None = None,
) -> WellPosedness:
    r"""
    Observe whether a step is well posed: whether it has fixed points, and whether the
    iterates

    .. math::

        x_{k+1} = f(x_k)

    converge to one from given starts. That is the definition of a well-posed layer;
    it asks for one start and lets its limit depend on it. Here several are tried,
    ``x0`` and random ones about it, and it is also reported whether they end in one
    point.

    For a model: ``check_well_posed(*model.fixed_point_problem(y, physics))``.

    >>> import torch, deepinv_equilibrium as deq
    >>> report = deq.check_well_posed(torch.cos, torch.zeros(1, 1))
    >>> bool(report.well_posed), report.verdict[0].name
    (True, 'UNIQUE')

    :param Callable step: :math:`f`, as for :func:`fixed_point
        <deepinv_equilibrium.fixed_point>`.
    :param torch.Tensor, tuple x0: the initial state.
    :param int starts: how many are tried, at least 2: ``x0``, and others.
    :param float spread: distance of the others from ``x0``, relative to its norm (to
        that of ones, where it is zero). Where a step has a domain, it is halved until
        they are within.
    :param FixedPointSolver solver: how the iterates are made. Default: ``None``, the
        plain ``Picard(max_iter=2000)`` to an ``rtol`` of 1e-5, or of 1e-8 in double
        precision.
    :param float tol: relative distance from which two ends are different points, and
        relative residual from which an end is not fixed.
    :param torch.Generator generator: draws the starts. Default: one with the seed 0.
    :return: (WellPosedness) the report, observed.
    :raises TypeError: if an argument is of the wrong kind.
    :raises ValueError: if an argument is out of its range, or no start was found in the
        domain of the step.
    """
    if isinstance(step, Reconstructor):
        raise TypeError(
            "step must be the step of the model: give check_well_posed("
            "*model.fixed_point_problem(y, physics)), got the "
            f"{type(step).__name__} itself."
        )
    require_count("starts", starts, 2)
    for name, value in (("spread", spread), ("tol", tol)):
        require_number(name, value)
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be in (0, inf), got {value!r}.")
    layout = StateLayout.of(x0)
    packed, first = PackedStep(step, layout), layout.pack(x0)
    if solver is None:
        rtol = 1e-8 if first.dtype is torch.float64 else 1e-5
        solver = Picard(max_iter=2000, rtol=rtol)
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    others = [_start(packed, first, spread, generator) for _ in range(starts - 1)]
    reports, images, sizes, residuals, left = [], [], [], [], []
    for start in (first, *others):
        solution = fixed_point(step, layout.unpack(start), solver, on_failure="ignore")
        end = layout.pack(solution.x)
        residuals.append(_norms(packed(end)[0] - end))
        sizes.append(_norms(end))
        left.append(2 * _left_to_go(solution))
        reports.append(
            Report(**{f.name: getattr(solution, f.name) for f in fields(Report)})
        )
        images.append(_image(solution).flatten(1))
    distances = [
        _norms(image - other) for i, image in enumerate(images) for other in images[:i]
    ]
    # Ends may be 0: what x0 has moved at first is a scale too.
    moved = reports[0].absolute_history[0].double().cpu()
    scale = torch.stack([moved, *sizes]).amax(dim=0)
    scale = scale.clamp(min=torch.finfo(torch.float64).tiny)
    return WellPosedness(
        tuple(reports),
        torch.stack(residuals) / scale,
        torch.stack(distances).amax(dim=0) / scale,
        torch.stack(left).amax(dim=0) / scale,
        tol,
    )


def _start(
    step: PackedStep, x0: Tensor, spread: float, generator: torch.Generator
) -> Tensor:
    """A random state at a distance of x0, each sample in the domain of the step."""
    noise = torch.randn(
        x0.shape, generator=generator, device=generator.device, dtype=torch.float64
    )
    size = x0.double().norm(dim=1)
    size = torch.where(size > 0, size, math.sqrt(x0.shape[1])).to(noise.device)
    shift = (spread * (size / noise.norm(dim=1))[:, None] * noise).to(x0)
    for _ in range(60):
        inside = step.inside(x0 + shift)
        if bool(inside.all()):
            return x0 + shift
        shift = torch.where(inside[:, None], shift, shift / 2)
    raise ValueError(
        "no start was found in the domain of the step: x0 must be within it, and not "
        "at its border."
    )


def _image(solution: Solution) -> Tensor:
    if solution.output is not None:
        return solution.output
    return solution.x if isinstance(solution.x, Tensor) else solution.x[0]


def _left_to_go(report: Report) -> Tensor:
    r""":math:`r \rho / (1 - \rho)` with the last residual and the rate at which the
    last ones fell; infinite where they did not."""
    left = []
    for i, status in enumerate(report.status):
        history = report.absolute_history[:, i].double()
        history = history[torch.isfinite(history)]
        last = float(report.absolute_residual[i])
        tail = history[-11:]
        if last == 0 or status is not Status.CONVERGED:
            left.append(0.0)
        elif len(tail) < 2:
            left.append(last)
        else:
            rate = float((tail[-1] / tail[0]) ** (1 / (len(tail) - 1)))
            left.append(last * rate / (1 - rate) if rate < 1 else math.inf)
    return torch.tensor(left, dtype=torch.float64)


def _norms(x: Tensor) -> Tensor:
    """One a sample, on the CPU, as the verdicts are."""
    return torch.linalg.vector_norm(x, dim=1, dtype=torch.float64).cpu()
