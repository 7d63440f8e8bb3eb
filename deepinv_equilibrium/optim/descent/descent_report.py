"""The record of a descent with backtracking, and its report."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...fixed_points import Report, Status

# Units of rounding of an energy, below which a decrease cannot be observed.
_ROUNDING = 32.0
# Smallest step size, relative to the first one, that a smooth energy can need.
_LEAST_STEP = 1e-12


@dataclass(frozen=True, repr=False)
class Descent(Report):
    r"""
    The report of a descent, with the energy of every iterate.

    The absolute residual of a proximal gradient step is
    :math:`\frac{\tau_0}{\tau} \|x - T_\tau(x)\|`. It is at least the residual of
    :math:`T_{\tau_0}` with the first step size, for every :math:`\tau \leq \tau_0`. The
    absolute residual of a mirror descent step is :math:`\|x - T_\tau(x)\|`.
    ``iterations`` is the number of accepted steps, ``evaluations`` the number of
    evaluations of the network and its gradient.

    :param torch.Tensor energy: energies of :math:`x_0` and of the accepted iterates, of
        shape (iterations + 1) :math:`\times` samples; NaN after a sample has stopped.
    :param torch.Tensor stepsize: last step size of each sample, of shape :math:`(B,)`.
    :param torch.Tensor checked: number of accepted steps whose decrease was sufficient
        beyond rounding, of shape :math:`(B,)`. The decrease of the other accepted steps
        was sufficient up to rounding.
    """

    energy: Tensor
    stepsize: Tensor
    checked: Tensor

    @property
    def largest_increase(self) -> Tensor:
        """Largest relative increase of the energy in an accepted step: 0 if the energy
        has decreased monotonically, else at most its rounding."""
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
    """The descent of one sample, as Python numbers."""

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
        Record a trial step.

        :param float energy: energy :math:`F(c)` of the trial :math:`c`.
        :param float divergence: :math:`D(c, x)`; the energy must decrease by
            :math:`\gamma D(c, x) / \tau`.
        :param float absolute: the absolute residual.
        :param float size: :math:`\|c\|`.
        :return: (bool) whether the trial is accepted. If not, the step size is reduced.
        """
        if not self.active:
            return False
        self.evaluations += 1
        needed = self.gamma / self.stepsize * divergence
        decrease = self.energies[-1] - energy
        slack = _ROUNDING * self.eps * abs(self.energies[-1])
        # A NaN is never accepted.
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
        """Set the status of a sample that has spent the budget."""
        if self.active and self.rtol == 0:
            self.status = Status.COMPLETED

    def _end(self, status: Status) -> None:
        self.status = status
        self.active = False


def describe(records: list[DescentRecord], device: torch.device) -> Descent:
    """Return the report of a batch."""

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
