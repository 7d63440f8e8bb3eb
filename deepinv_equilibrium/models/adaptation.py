"""What adapting a model returns: the model, its operator, and how it went."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from deepinv.models import Reconstructor
from deepinv.physics import Physics
from torch import Tensor


class AdaptationStatus(IntEnum):
    r"""
    Why an adaptation stopped. Each member carries a sentence:

    >>> from deepinv_equilibrium.models import AdaptationStatus
    >>> print(AdaptationStatus.NOISE_LEVEL.sentence)
    The discrepancy came down to the noise; to fit further would be to fit noise.
    """

    NOISE_LEVEL = 0
    CONVERGED = 1
    COMPLETED = 2
    MAX_STEPS = 3
    NONFINITE = 4

    @property
    def sentence(self) -> str:
        """What happened and, where one is due, what to do about it."""
        return _SENTENCES[self]

    @property
    def failed(self) -> bool:
        """Whether it did not reach what was asked for."""
        return self > AdaptationStatus.COMPLETED


_SENTENCES = {
    AdaptationStatus.NOISE_LEVEL: (
        "The discrepancy came down to the noise; to fit further would be to fit noise."
    ),
    AdaptationStatus.CONVERGED: (
        "The objective has settled. With a known noise level that it does not reach, "
        "weight holds the model back, or the operator is not the one that measured."
    ),
    AdaptationStatus.COMPLETED: "The fixed budget that was asked for was spent.",
    AdaptationStatus.MAX_STEPS: (
        "max_steps was reached first: raise max_steps or lr, or lower weight if the "
        "discrepancy is to come down to the noise."
    ),
    AdaptationStatus.NONFINITE: (
        "The objective became NaN or infinite: the best finite weights were kept. "
        "Check y for NaN, or reduce lr and physics_lr."
    ),
}


@dataclass(frozen=True, repr=False, eq=False)
class Adaptation:
    r"""
    A model that was adapted to an operator, and a report; all of it observed.

    :param deepinv.models.Reconstructor model: the adapted copy, in the mode of the
        original; the weights after the last step where the discrepancy met the noise,
        else those of the least objective.
    :param deepinv.physics.Physics physics: a copy of the operator, with its adapted
        parameters.
    :param AdaptationStatus status: why it stopped.
    :param torch.Tensor discrepancy: :math:`\frac{1}{B m} \|y - A f(y)\|^2` before each
        step and after the last, the first of them that of the naive swap.
    :param torch.Tensor penalty: :math:`\|\theta - \theta_0\|^2`, likewise.
    :param torch.Tensor physics_penalty: :math:`\|\varphi - \varphi_0\|^2`, likewise.
    :param int kept: index in these of what is returned.
    :param float target: the discrepancy that noise alone has, :math:`(\tau \sigma)^2`;
        ``None`` where the noise level is not known.
    """

    model: Reconstructor
    physics: Physics
    status: AdaptationStatus
    discrepancy: Tensor
    penalty: Tensor
    physics_penalty: Tensor
    kept: int
    target: float | None

    @property
    def steps(self) -> int:
        """Steps that were made."""
        return len(self.discrepancy) - 1

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        noise = "unknown" if self.target is None else f"{self.target:.3e}"
        first, last = self.discrepancy[0].item(), self.discrepancy[self.kept].item()
        return (
            f"{self.status.name} after {self.steps} steps, step {self.kept} kept\n"
            f"discrepancy {first:.3e} -> {last:.3e} (observed), of noise {noise}\n"
            f"|theta - theta_0|^2 {self.penalty[self.kept].item():.3e}, "
            f"|phi - phi_0|^2 {self.physics_penalty[self.kept].item():.3e} (observed)\n"
            f"{self.status.name}: {self.status.sentence}"
        )
