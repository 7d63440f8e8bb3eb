"""Backtracked descent, sample by sample: what is kept, and what is reported."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...fixed_points import Report, Status

_ROUNDING = 32.0  # units of rounding of an energy below which no decrease can be seen
_LEAST_STEP = 1e-12  # of the first step size: no smooth energy asks for less


@dataclass(frozen=True, repr=False)
class Descent(Report):
    r"""
    How a descent went: a report, and the energies that it went through.

    The absolute residual of proximal gradient steps is
    :math:`\frac{\tau_0}{\tau} \|x - T_\tau(x)\|`, which is at least that of the map
    :math:`T_{\tau_0}` of the first step size, however short the steps have become; of
    mirror descent it is :math:`\|x - T_\tau(x)\|`. ``iterations`` counts accepted
    steps, ``evaluations`` those of the network and its gradient.

    :param torch.Tensor energy: energies of the accepted iterates, the first of them
        :math:`x_0`, iterations + 1 :math:`\times` samples; NaN after a sample has
        stopped.
    :param torch.Tensor stepsize: the step size that each sample has come to, of shape
        :math:`(B,)`.
    :param torch.Tensor checked: of shape :math:`(B,)`, accepted steps whose sufficient
        decrease was seen beyond rounding; the others were accepted within it.
    """

    energy: Tensor
    stepsize: Tensor
    checked: Tensor

    @property
    def largest_increase(self) -> Tensor:
        """Largest relative increase of the energy in an accepted step: 0 where it has
        decreased monotonically, at most rounding elsewhere."""
        change = self.energy.diff(dim=0) / self.energy[:-1].abs()
        zero = change.new_zeros(1, change.shape[1])
        return torch.cat((zero, change)).nan_to_num(0.0).amax(dim=0)

    def __str__(self) -> str:
        lines = [
            super().__str__(),
            "sample  energy      to          decrease  stepsize",
        ]
        for i, iterations in enumerate(self.iterations.tolist()):
            lines.append(
                f"{i:<6d}  {float(self.energy[0, i]):<10.4e}  "
                f"{float(self.energy[iterations, i]):<10.4e}  "
                f"{int(self.checked[i])}/{iterations} checked  "
                f"{float(self.stepsize[i]):.2e}"
            )
        lines.append(
            "Each accepted step was checked for sufficient decrease; what is not "
            "counted was within rounding. Largest relative increase: "
            f"{float(self.largest_increase.max()):.1e}."
        )
        return "\n".join(lines)


@dataclass
class DescentRecord:
    """One sample's descent, in plain numbers."""

    stepsize: float
    gamma: float
    eta: float
    rtol: float
    eps: float
    energies: list[float]
    accepted_stepsize: float = math.nan
    active: bool = True
    status: Status = Status.MAX_ITER
    evaluations: int = 1
    checked: int = 0
    first: float = math.nan
    first_stepsize: float = field(init=False)
    history: list[float] = field(default_factory=list)
    absolute_history: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.first_stepsize = self.stepsize
        if not math.isfinite(self.energies[0]):
            self._end(Status.NONFINITE)

    def observe(
        self, energy: float, divergence: float, absolute: float, size: float
    ) -> bool:
        r"""
        Take a trial step into account.

        :param float energy: :math:`F(c)` of the trial.
        :param float divergence: :math:`D(c, x)`, of which the energy must decrease by
            :math:`\gamma / \tau`.
        :param float absolute: the absolute residual.
        :param float size: :math:`\|c\|`.
        :return: whether it is accepted; if not, the step size has become smaller.
        """
        if not self.active:
            return False
        self.evaluations += 1
        needed = self.gamma / self.stepsize * divergence
        decrease = self.energies[-1] - energy
        slack = _ROUNDING * self.eps * abs(self.energies[-1])
        # Never true of a NaN.
        if not decrease >= needed - slack:
            self.stepsize *= self.eta
            if self.stepsize < _LEAST_STEP * self.first_stepsize:
                self._end(
                    Status.DIVERGED if math.isfinite(energy) else Status.NONFINITE
                )
            return False
        self.checked += decrease >= needed
        self.accepted_stepsize = self.stepsize
        self.energies.append(energy)
        if not self.history:
            self.first = absolute
        scale = max(size, self.first)
        relative = absolute / scale if absolute else 0.0
        self.history.append(relative)
        self.absolute_history.append(absolute)
        if self.rtol > 0 and relative <= self.rtol:
            self._end(Status.CONVERGED)
        return True

    def finish(self) -> None:
        """Say how the sample ended if it was still running."""
        if self.active and self.rtol == 0:
            self.status = Status.COMPLETED

    def _end(self, status: Status) -> None:
        self.status = status
        self.active = False


def describe(records: list[DescentRecord], device: torch.device) -> Descent:
    """The report of a batch."""

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=device)

    def table(columns: list[list[float]]) -> Tensor:
        length = max(map(len, columns))
        padded = [c + [math.nan] * (length - len(c)) for c in columns]
        return column([]) if not length else torch.stack([column(c) for c in padded], 1)

    def count(values: list[int]) -> Tensor:
        return torch.tensor(values, device=device)

    return Descent(
        status=tuple(record.status for record in records),
        residual=column([(r.history or [math.inf])[-1] for r in records]),
        absolute_residual=column(
            [(r.absolute_history or [math.inf])[-1] for r in records]
        ),
        iterations=count([len(r.history) for r in records]),
        evaluations=count([r.evaluations for r in records]),
        history=table([r.history for r in records]),
        absolute_history=table([r.absolute_history for r in records]),
        energy=table([r.energies for r in records]),
        stepsize=column([r.stepsize for r in records]),
        checked=count([r.checked for r in records]),
    )
