"""The change of a model's step that makes its reconstruction an exact fixed point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from deepinv.physics import Physics
from torch import Tensor

from ..certificates.gradients.step_jacobians import sample_norms
from ..fixed_points import StateLayout, fixed_point
from ..fixed_points.argument_checks import require_in_range
from .fixed_point_models import fixed_point_problem


@dataclass(frozen=True)
class BackwardError:
    r"""
    The change :math:`e` of a step :math:`T` that makes :math:`\tilde x` an exact fixed
    point.

    For every map :math:`T` and every :math:`\tilde x`, with
    :math:`e = \tilde x - T(\tilde x)`,

    .. math::

        \tilde x = (T + e)(\tilde x).

    This identity is proved and needs neither a contraction nor a derivative, so it
    holds for a DRUNet. The size of :math:`e` is observed, in the precision of the
    model. The identity does not say how far :math:`\tilde x` is from a fixed point of
    :math:`T`, nor whether :math:`T` has a fixed point.

    :param torch.Tensor absolute: :math:`\|e\|` of each sample, of shape :math:`(B,)`.
    :param torch.Tensor relative: :math:`\|e\| / \|\tilde x\|`, of shape
        :math:`(B,)`.
    :param torch.Tensor per_entry: :math:`\|e\| / \sqrt n`, the root mean square of
        the :math:`n` entries of :math:`e`, of shape :math:`(B,)`; in units of the image
        if the state is the image.
    :param float noise_level: standard deviation of the measurement noise, for
        comparison; ``None`` if unknown.
    """

    absolute: Tensor
    relative: Tensor
    per_entry: Tensor
    noise_level: float | None = None

    @property
    def over_noise(self) -> Tensor:
        """``per_entry`` over ``noise_level``; NaN if the noise level is unknown."""
        return self.per_entry / (
            math.nan if self.noise_level is None else self.noise_level
        )

    def __str__(self) -> str:
        lines = [
            "Proved: each x is an exact fixed point of T + e with e = x - T(x).",
            "Observed: the size of e.",
            "sample  |e|       |e|/|x|   rms(e)    rms(e)/noise",
        ]
        for i, row in enumerate(
            zip(
                self.absolute.tolist(),
                self.relative.tolist(),
                self.per_entry.tolist(),
                self.over_noise.tolist(),
                strict=True,
            )
        ):
            numbers = "  ".join(
                "unknown" if math.isnan(number) else f"{number:.2e}" for number in row
            )
            lines.append(f"{i:<6d}  {numbers}")
        return "\n".join(lines)


@torch.no_grad()
def backward_error(
    model: Any,
    y: Tensor,
    physics: Physics,
    noise_level: float | None = None,
) -> BackwardError:
    r"""
    Return the backward error of a model's reconstruction. It is the statement about
    convergence that is true for any denoiser.

    The fixed-point problem of the model is solved with the solver of the model. The
    step is then evaluated once more, at the state that the solver returned.

    :param model: a model of this package with ``DEQ``, or another one with
        ``fixed_point_problem(y, physics)`` and ``DEQ``.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param float noise_level: standard deviation of the noise, in units of the image.
        Default: ``None``, ``physics.noise_model.sigma`` if this is one positive number,
        else unknown.
    :return: (BackwardError) the sizes of :math:`e`, one for each sample.
    :raises TypeError: if the model solves no fixed-point problem.
    :raises ValueError: if the model was built without ``DEQ``, or ``noise_level`` is
        not positive and finite.

    :Example:

    >>> import deepinv as dinv, torch
    >>> import deepinv_equilibrium as deq
    >>> model = deq.optim.PGD(
    ...     data_fidelity=dinv.optim.L2(),
    ...     prior=dinv.optim.PnP(dinv.models.MedianFilter()),
    ...     stepsize=0.5, sigma_denoiser=0.1, DEQ=deq.ReTune(1, 40),
    ... )
    >>> physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    >>> error = deq.diagnostics.backward_error(model, torch.ones(1, 1, 8, 8), physics)
    >>> print(error)  # doctest: +ELLIPSIS
    Proved: each x is an exact fixed point of T + e with e = x - T(x).
    Observed: the size of e.
    ...
    """
    if noise_level is not None:
        require_in_range("noise_level", noise_level)
    step, x0 = fixed_point_problem(model, y, physics)
    config = model.DEQ
    solution = fixed_point(step, x0, config.solver, config.adjoint, config.on_failure)
    layout = StateLayout.of(solution.x)
    x, value = layout.pack(solution.x), layout.pack(step(solution.x))
    absolute = sample_norms(x - value)
    if noise_level is None:
        sigma = getattr(getattr(physics, "noise_model", None), "sigma", None)
        if isinstance(sigma, Tensor) and sigma.numel() == 1 and float(sigma) > 0:
            noise_level = float(sigma)
    return BackwardError(
        absolute,
        torch.where(absolute > 0, absolute / sample_norms(x), 0.0),
        absolute / math.sqrt(x.shape[1]),
        noise_level,
    )
