"""Small perturbations of a measurement that change the image the most."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from deepinv.physics import Physics
from torch import Tensor

from ..certificates import Bound, Kind
from ..fixed_points.argument_checks import require_count, require_number


@dataclass(frozen=True, repr=False)
class WorstCase:
    r"""
    A perturbation of each sample, the worst that was found.

    :param torch.Tensor perturbation: :math:`e`, of the shape of the measurement.
    :param torch.Tensor image: :math:`f(y + e)`.
    :param torch.Tensor change: :math:`\|f(y + e) - f(y)\|`, of shape :math:`(B,)`.
    :param torch.Tensor gain: :math:`\|f(y + e) - f(y)\| / \|e\|`, of shape
        :math:`(B,)`; infinite where a perturbation made the image NaN or infinite, as
        the image then has no bound, and NaN where :math:`f(y)` was no image before.
    """

    perturbation: Tensor
    image: Tensor
    change: Tensor
    gain: Tensor

    @property
    def stability(self) -> Bound:
        """The Lipschitz constant of the model in the measurement, bounded from below by
        the largest gain: observed, in the precision of the model. A certified stability
        is never below it."""
        value = float(self.gain.nan_to_num(nan=math.inf, posinf=math.inf).max())
        source = "the worst perturbation that was found"
        if value == math.inf:
            source += ", for which the model returns NaN or infinite values"
        return Bound(value, Kind.OBSERVED, source, is_lower=True)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines = ["sample  change    gain"]
        for i, (change, gain) in enumerate(
            zip(self.change.tolist(), self.gain.tolist(), strict=True)
        ):
            lines.append(f"{i:<6d}  {change:.2e}  {gain:.3g}")
        return "\n".join([*lines, f"stability {self.stability}"])


def worst_case(
    model: Callable[[Tensor, Physics], Tensor],
    y: Tensor,
    physics: Physics,
    norm: float,
    steps: int = 30,
    generator: torch.Generator | None = None,
) -> WorstCase:
    r"""
    Search the perturbation of a given norm that changes a reconstruction the most,

    .. math::

        \max_{\|e\| = \delta} \|f(y + e) - f(y)\|,

    for each sample, by the power iteration :math:`e \leftarrow \delta g / \|g\|` with
    the gradient :math:`g` of :math:`\tfrac12 \|f(y + e) - f(y)\|^2`; for small
    :math:`\delta` this is the power method for the Jacobian of :math:`f`. The best of
    the iterates is kept. It needs a model that can be differentiated in the measurement
    and right gradients: an equilibrium model needs the
    :class:`~deepinv_equilibrium.Implicit` adjoint for the worst to be found.

    Networks that were trained to invert an ill-posed operator can be unstable in this
    sense while their images are excellent :footcite:p:`antun2020instabilities`.

    :param Callable model: :math:`f`, called as ``model(y, physics)``; it must keep
        samples apart.
    :param torch.Tensor y: the measurement, real or complex.
    :param deepinv.physics.Physics physics: its physics.
    :param float norm: :math:`\delta > 0`, of the whole measurement of a sample; for
        noise of standard deviation :math:`\sigma` on :math:`m` numbers it is about
        :math:`\sigma \sqrt m`.
    :param int steps: evaluations of the model and its gradient.
    :param torch.Generator generator: draws the first :math:`e`. Default: one with the
        seed 0.
    :return: (WorstCase) what was found; the maximum may be larger.
    :raises TypeError: if ``norm`` is no number.
    :raises ValueError: if an argument is out of its range, or the image does not depend
        on the measurement through differentiable operations.
    """
    require_count("steps", steps, 1)
    require_number("norm", norm)
    if not 0 < norm < math.inf:
        raise ValueError(f"norm must be in (0, inf), got {norm!r}.")
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    y = y.detach()
    with torch.no_grad():
        image = model(y, physics)
    e = torch.randn(y.shape, generator=generator, device=generator.device).to(y)
    e = _scaled(e, norm)
    best, worst, change = e, image, torch.full_like(_norms(image), -math.inf)
    for _ in range(steps):
        with torch.enable_grad():
            moved = e.detach().requires_grad_()
            found = model(y + moved, physics)
            if not found.requires_grad:
                raise ValueError(
                    "model must be differentiable in the measurement; its image has no "
                    "gradient."
                )
            values = _norms(found - image)
            (g,) = torch.autograd.grad(values.square().sum() / 2, moved)
        size = values.detach()
        size = torch.where(torch.isfinite(size), size, math.inf)
        better = size > change
        change = torch.where(better, size, change)
        best = torch.where(_column(better, y), e, best)
        worst = torch.where(_column(better, found), found.detach(), worst)
        slope = _norms(g)
        usable = torch.isfinite(slope) & (slope > 0)
        e = torch.where(_column(usable, y), _scaled(g, norm), e)
    broken = ~torch.isfinite(image).flatten(1).all(dim=1)
    change = torch.where(broken, torch.nan, change)
    return WorstCase(best, worst, change, change / norm)


def _norms(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _scaled(x: Tensor, norm: float) -> Tensor:
    size = _norms(x).clamp(min=torch.finfo(x.real.dtype).tiny)
    return x * _column(norm / size, x)
