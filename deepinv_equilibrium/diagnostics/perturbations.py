"""Search for the perturbation of a measurement that changes the image the most."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from deepinv.physics import Physics
from torch import Tensor

from ..certificates import Bound, Kind
from ..fixed_points.argument_checks import require_count, require_in_range


@dataclass(frozen=True, repr=False)
class WorstCase:
    r"""
    The worst perturbation found for each sample.

    :param torch.Tensor perturbation: :math:`e`, of the shape of the measurement.
    :param torch.Tensor image: :math:`f(y + e)`.
    :param torch.Tensor change: :math:`\|f(y + e) - f(y)\|`, of shape :math:`(B,)`.
    :param torch.Tensor gain: :math:`\|f(y + e) - f(y)\| / \|e\|`, of shape
        :math:`(B,)`. It is infinite if :math:`f(y + e)` contains NaN or infinite
        values, and NaN if :math:`f(y)` does.
    """

    perturbation: Tensor
    image: Tensor
    change: Tensor
    gain: Tensor

    @property
    def stability(self) -> Bound:
        """Lower bound of the model's Lipschitz constant in the measurement: the largest
        gain, observed in the precision of the model. A certified stability is never
        smaller."""
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
    Search for the perturbation of a given norm that changes a reconstruction the most,

    .. math::

        \max_{\|e\| = \delta} \|f(y + e) - f(y)\|,

    for each sample. The power iteration :math:`e \leftarrow \delta g / \|g\|` uses the
    gradient :math:`g` of :math:`\tfrac12 \|f(y + e) - f(y)\|^2`. For small
    :math:`\delta` it is the power method for the Jacobian of :math:`f`. The best
    :math:`e` of all iterations is returned.

    The search needs the right gradient in the measurement: an equilibrium model needs
    the :class:`~deepinv_equilibrium.Implicit` adjoint.

    Networks that were trained to invert an ill-posed operator can be unstable in this
    sense although their images are excellent :footcite:p:`antun2020instabilities`.

    :param Callable model: :math:`f`, called as ``model(y, physics)``. It must not mix
        samples, but need not solve a fixed-point problem.
    :param torch.Tensor y: the measurement, real or complex.
    :param deepinv.physics.Physics physics: its physics.
    :param float norm: :math:`\delta > 0`, the norm of the perturbation of one sample.
        Noise of standard deviation :math:`\sigma` on :math:`m` numbers has a norm of
        about :math:`\sigma \sqrt m`.
    :param int steps: number of iterations, each of one forward and one backward pass of
        the model.
    :param torch.Generator generator: draws the first :math:`e`. Default: ``None``, a
        new one with seed 0.
    :return: (WorstCase) the worst perturbations found; the maximum may be larger.
    :raises TypeError: if ``norm`` is not a number.
    :raises ValueError: if an argument is out of its range, or the image has no gradient
        in the measurement.
    """
    require_count("steps", steps, 1)
    require_in_range("norm", norm)
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
                    "model must be differentiable in the measurement, but its image "
                    "has no gradient."
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
    """The norm of each sample, real or complex, with its gradient."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    """One value for each sample, in a shape that broadcasts with ``like``."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _scaled(x: Tensor, norm: float) -> Tensor:
    """Scale each sample to a norm."""
    size = _norms(x).clamp(min=torch.finfo(x.real.dtype).tiny)
    return x * _column(norm / size, x)
