"""Of which map a reconstruction is an exact fixed point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from deepinv.physics import Physics
from torch import Tensor

from ..fixed_points import StateLayout, fixed_point
from .asked_model import fixed_point_problem


@dataclass(frozen=True)
class BackwardError:
    r"""
    How much a step :math:`T` would have to change for :math:`\tilde x` to be an exact
    fixed point of it.

    For every map and every :math:`\tilde x`, with :math:`e = \tilde x - T(\tilde x)`,

    .. math::

        \tilde x = (T + e)(\tilde x),

    an identity that needs no contraction and no differentiability: it holds for a
    DRUNet. It is proved; the size of :math:`e` is observed, in the precision of the
    model. It says nothing of how far :math:`\tilde x` is from a fixed point of
    :math:`T`, or whether there is one.

    :param torch.Tensor absolute: :math:`\|e\|` of each sample, of shape :math:`(B,)`.
    :param torch.Tensor relative: :math:`\|e\| / \|\tilde x\|`.
    :param torch.Tensor per_entry: :math:`\|e\| / \sqrt n`, the root mean square of its
        entries, in units of the image for a state that is one.
    :param float noise_level: standard deviation of the measurement noise, for
        comparison; ``None`` where none is known.
    """

    absolute: Tensor
    relative: Tensor
    per_entry: Tensor
    noise_level: float | None = None

    @property
    def over_noise(self) -> Tensor:
        """``per_entry`` over the noise level; NaN where that is not known."""
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
    The backward error of a model's reconstruction: the statement about convergence that
    is true of any denoiser.

    The model's fixed-point problem is solved with its own solver, and the step
    evaluated once more at the state that is returned.

    :param model: an optimiser of :mod:`deepinv_equilibrium.optim` with ``DEQ``, or
        another model with ``fixed_point_problem`` and ``equilibrium``.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param float noise_level: standard deviation of the noise, in units of the image.
        Default: ``None``, ``physics.noise_model.sigma`` where that is one number.
    :return: (BackwardError) the sizes, one a sample.
    :raises TypeError: if the model solves no fixed-point problem.
    :raises ValueError: if the noise level is not positive.

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
    step, x0 = fixed_point_problem(model, y, physics)
    config = model.equilibrium
    solution = fixed_point(step, x0, config.solver, config.adjoint, config.on_failure)
    layout = StateLayout.of(solution.x)
    x, value = layout.pack(solution.x), layout.pack(step(solution.x))
    absolute, size = (
        torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        for rows in (x - value, x)
    )
    if noise_level is None:
        sigma = getattr(getattr(physics, "noise_model", None), "sigma", None)
        if isinstance(sigma, Tensor) and sigma.numel() == 1 and float(sigma) > 0:
            noise_level = float(sigma)
    elif not (math.isfinite(noise_level) and noise_level > 0):
        raise ValueError(f"noise_level must be positive, got {noise_level!r}.")
    return BackwardError(
        absolute,
        torch.where(absolute > 0, absolute / size, 0.0),
        absolute / math.sqrt(x.shape[1]),
        noise_level,
    )
