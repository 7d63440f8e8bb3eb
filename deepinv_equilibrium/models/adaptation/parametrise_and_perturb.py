"""Adaptation of a model to another operator by parametrise-and-perturb."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from deepinv.models import Reconstructor
from deepinv.physics import GaussianNoise, LinearPhysics, Physics
from torch import Tensor
from tqdm.auto import tqdm

from ...equilibrium.input_checks import (
    measured_image,
    require_measurement,
    require_physics,
)
from ...fixed_points import ConvergenceWarning
from ...fixed_points.argument_checks import require_count, require_in_range
from .adaptation_objective import AdaptationObjective, copy_module


class AdaptationStatus(IntEnum):
    r"""
    Why an adaptation stopped. Each member has a sentence:

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
        """What happened and, after a failure, what to do about it."""
        return _SENTENCES[self]

    @property
    def failed(self) -> bool:
        """Whether the adaptation stopped before its goal."""
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
    A model that was adapted to an operator, and a report. All values are observed.

    :param deepinv.models.Reconstructor model: the adapted copy, in the mode (train or
        eval) of the original. It has the weights after the last step if the discrepancy
        met the noise level, and otherwise those of the smallest objective.
    :param deepinv.physics.Physics physics: a copy of the operator with the adapted
        parameters.
    :param AdaptationStatus status: why the adaptation stopped.
    :param torch.Tensor discrepancy: :math:`\frac{1}{B m} \|y - A f(y)\|^2` before each
        step and after the last step. The first value is that of the model before
        adaptation.
    :param torch.Tensor penalty: :math:`\|\theta - \theta_0\|^2` at the same steps.
    :param torch.Tensor physics_penalty: :math:`\|\varphi - \varphi_0\|^2` at the same
        steps.
    :param int kept: index of the step whose weights ``model`` has.
    :param float target: the discrepancy of the noise, :math:`(\tau \sigma)^2`, or
        ``None`` if the noise level is not known.
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
        """Number of steps."""
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


def adapt(
    model: Reconstructor,
    y: Tensor,
    physics: Physics,
    weight: float,
    *,
    physics_parameters: Sequence[str] = (),
    physics_weight: float = 0.0,
    noise_level: float | Tensor | None = None,
    tau: float = 1.1,
    lr: float = 1e-3,
    physics_lr: float = 1e-2,
    max_steps: int = 200,
    rtol: float = 1e-2,
    show_progress_bar: bool = False,
) -> Adaptation:
    r"""
    Adapt a trained model :math:`f(y; \theta_0, A_0)` to measurements of another
    operator :math:`A_1` without ground truth, by parametrise-and-perturb of
    :footcite:t:`gilton2021model`,

    .. math::

        \min_{\theta, \varphi} \; \frac{1}{B} \sum_{i=1}^B
        \frac{1}{m} \|y_i - A_\varphi f(y_i; \theta, A_\varphi)\|^2
        + \mu \|\theta - \theta_0\|^2 + \mu_A \|\varphi - \varphi_0\|^2,

    The minimisation starts from :math:`\theta_0`, that is from the trained model with
    the operator replaced. :math:`\varphi` are unknown parameters of the operator. By
    default there are none, and :math:`A_\varphi = A_1`. The data term is a mean over
    the :math:`B` samples and the :math:`m` entries of a measurement, so that
    :math:`\mu` does not depend on the number and size of the images. (With a sum over
    the entries, the equivalent weight is :math:`m \mu`.) :math:`\theta` are the weights
    as the model stores them; step sizes of :mod:`deepinv_equilibrium.optim` are stored
    as logarithms.

    All samples of ``y`` share the adapted weights. To adapt to each measurement
    separately, call the function once for each. ``model`` and ``physics`` are not
    changed. Their copies keep the mode (train or eval), and frozen weights stay frozen.
    Buffers, such as the statistics of a batch normalisation in train mode, have the
    values with which the returned weights were evaluated.

    A model with many weights can fit noise. If the noise level :math:`\sigma` is known,
    the adaptation stops by the discrepancy principle
    :footcite:p:`engl1996regularization` as soon as the mean square residual is at most
    :math:`(\tau \sigma)^2`. Otherwise it stops at the minimiser, which depends on
    :math:`\mu`, or after ``max_steps``.

    :param deepinv.models.Reconstructor model: the trained model, differentiable in its
        weights.
    :param torch.Tensor y: measurements of :math:`A_1`, of shape :math:`(B, ...)`.
    :param deepinv.physics.Physics physics: :math:`A_1`, or its nominal value.
    :param float weight: :math:`\mu \geq 0`.
    :param list, tuple physics_parameters: names of the tensors :math:`\varphi` of the
        physics, such as ``["filter"]``. A tensor must be a parameter of the module, or
        an argument of ``physics.update_parameters``.
    :param float physics_weight: :math:`\mu_A \geq 0`.
    :param float, torch.Tensor noise_level: standard deviation :math:`\sigma` of the
        noise in ``y``, one number for all samples or one for each. Default: ``None``,
        the level of ``physics.noise_model`` if it is Gaussian, and unknown otherwise.
        0 switches the discrepancy principle off.
    :param float tau: :math:`\tau > 0` of the discrepancy principle. The theory requires
        :math:`\tau > 1`.
    :param float lr: learning rate of Adam for :math:`\theta`.
    :param float physics_lr: learning rate of Adam for :math:`\varphi`, in the unit of
        :math:`\varphi`.
    :param int max_steps: largest number of steps, each of which computes one
        reconstruction and its gradient.
    :param float rtol: the adaptation has converged if the norms of the gradients in
        :math:`\theta` and in :math:`\varphi` are at most this fraction of their initial
        values. With 0 all ``max_steps`` are made.
    :param bool show_progress_bar: whether to show a progress bar.
    :return: (deepinv_equilibrium.models.Adaptation) the adapted model, the physics and
        a report. A :class:`~deepinv_equilibrium.ConvergenceWarning` is issued if the
        adaptation failed.
    :raises TypeError: if an argument is of another type.
    :raises ValueError: if an argument is out of its range, ``y`` is not a finite
        measurement of ``physics``, no weight requires a gradient, or the reconstruction
        is not differentiable in the weights or in a parameter.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> network = dinv.models.DnCNN(1, 1, depth=3, nf=8, pretrained=None)
    >>> model = dinv.models.ArtifactRemoval(network)
    >>> physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    >>> y = physics(torch.ones(2, 1, 16, 16))
    >>> adapted = deq.adapt(model, y, physics, weight=1e-3, lr=1e-2)
    >>> adapted.status.name
    'NOISE_LEVEL'
    >>> adapted.model(y, adapted.physics).shape
    torch.Size([2, 1, 16, 16])
    """
    _check(model, y, physics)
    for name, number in (("tau", tau), ("lr", lr), ("physics_lr", physics_lr)):
        require_in_range(name, number)
    for name, number in (
        ("weight", weight),
        ("physics_weight", physics_weight),
        ("rtol", rtol),
    ):
        require_in_range(name, number, zero=True)
    require_count("max_steps", max_steps, 1)
    target = _target(y, physics, noise_level, tau)
    record: list[tuple[float, float, float]] = []
    values: list[float] = []
    first: tuple[float, float] | None = None
    kept, status = 0, None
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        tqdm(total=max_steps, desc="adapt", disable=not show_progress_bar) as bar,
    ):
        # Tensors that were created in inference mode have no gradients; copies do.
        objective = AdaptationObjective(
            copy_module(model),
            y.clone().detach(),
            copy_module(physics),
            physics_parameters,
        )
        optimizer = torch.optim.Adam(
            [
                {"params": objective.weights, "lr": lr},
                {"params": list(objective.operator.values()), "lr": physics_lr},
            ]
        )
        while status is None:
            discrepancy = objective.discrepancy()
            row = (discrepancy.item(), *objective.penalties())
            record.append(row)
            values.append(row[0] + weight * row[1] + physics_weight * row[2])
            bar.set_postfix(discrepancy=f"{row[0]:.2e}", refresh=False)
            if not math.isfinite(values[-1]):
                status = AdaptationStatus.NONFINITE
                break
            norms = objective.backward(discrepancy, weight, physics_weight)
            first = norms if first is None else first
            if target is not None and row[0] <= target:
                status = AdaptationStatus.NOISE_LEVEL
            elif rtol > 0 and all(
                norm <= rtol * start for norm, start in zip(norms, first, strict=True)
            ):
                status = AdaptationStatus.CONVERGED
            elif len(values) > max_steps:
                spent = rtol == 0 and target is None
                status = (
                    AdaptationStatus.COMPLETED if spent else AdaptationStatus.MAX_STEPS
                )
            if status is AdaptationStatus.NOISE_LEVEL or values[-1] < values[kept]:
                kept = len(values) - 1
                objective.keep()
            if status is None:
                optimizer.step()
                bar.update()
        adapted, operator = objective.finish()
    history = torch.tensor(record, dtype=torch.float64).unbind(1)
    if status.failed:
        message = f"The adaptation: {status.name}. {status.sentence}"
        warnings.warn(message, ConvergenceWarning, stacklevel=2)
    return Adaptation(
        adapted, operator, status, history[0], history[1], history[2], kept, target
    )


def _check(model: Reconstructor, y: Tensor, physics: Physics) -> None:
    if not isinstance(model, Reconstructor):
        raise TypeError(
            "model must be a deepinv Reconstructor, called as model(y, physics), got "
            f"{type(model).__name__}."
        )
    require_physics(physics, y)
    require_measurement(y)
    if not bool(torch.isfinite(y).all()):
        raise ValueError("y has NaN or infinite values; leave those samples out.")
    if isinstance(physics, LinearPhysics):
        with torch.no_grad():
            measured_image(y, physics)


def _target(
    y: Tensor, physics: Physics, noise_level: float | Tensor | None, tau: float
) -> float | None:
    """Return the mean square of the noise times tau squared, or ``None`` if the noise
    level is unknown or 0."""
    if noise_level is None:
        noise_model = physics.noise_model
        if not isinstance(noise_model, GaussianNoise):
            return None
        noise_level = noise_model.sigma
    sigma = torch.as_tensor(noise_level, dtype=torch.float64)
    if sigma.numel() not in (1, len(y)):
        raise ValueError(
            f"noise_level must be one number, or one for each of the {len(y)} samples, "
            f"got {sigma.numel()}."
        )
    if not bool((torch.isfinite(sigma) & (sigma >= 0)).all()):
        raise ValueError(
            f"noise_level must be nonnegative and finite, got {noise_level!r}; 0 "
            "switches the discrepancy principle off."
        )
    return float(sigma.square().mean()) * tau**2 or None
