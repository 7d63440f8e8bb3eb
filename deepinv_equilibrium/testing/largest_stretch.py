"""A search for two images that refute a Lipschitz constant."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .contracts import require
from .random_problems import normal

DENSE = 64  # entries of an image up to which Jacobians are dense
POWER_STEPS = 6
DISTANCES = (1e-3, 0.1, 1.0)  # of two images, relative to the norm of one


@dataclass(frozen=True)
class StretchSearch:
    r"""
    A search for two images that a map :math:`a F + b I` moves too far apart.

    It tries random pairs at several distances, and for each image a pair along the
    direction that the Jacobian stretches most. This direction is computed by a singular
    value decomposition for small images and by a power iteration for others. Every
    violation consists of two images and their values, so that a wrong derivative cannot
    cause a false alarm.

    :param Callable function: :math:`F`, which treats the images of a batch alike.
    :param torch.Tensor images: images in float64, of shape :math:`(B, ...)`.
    :param float rtol: accuracy of the values of :math:`F` relative to their norm, if it
        is computed by an iteration.
    """

    function: Callable[[Tensor], Tensor]
    images: Tensor
    rtol: float = 0.0

    def require_lipschitz(
        self,
        what: str,
        bound: float,
        source: str,
        scale: float = 1.0,
        identity: float = 0.0,
    ) -> None:
        r"""
        Raise an error if a pair of images refutes a Lipschitz constant.

        :param str what: the map, for the message.
        :param float bound: the constant.
        :param str source: where the constant comes from, for the message.
        :param float scale: :math:`a`.
        :param float identity: :math:`b`.
        :raises AssertionError: if a pair refutes it.
        """
        if bound == math.inf:
            return
        pairs = self._random_pairs
        steepest = self._steepest(scale, identity)
        if steepest is not None:
            pairs = [*pairs, self._pair(DISTANCES[0], steepest)]
        for images, values, error in pairs:
            apart = _norms(images)
            moved = _norms(scale * values + identity * images)
            factors = (moved - abs(scale) * error) / apart
            i = int(factors.argmax())
            require(
                factors[i] <= bound * (1 + 1e-9) + 1e-12,
                f"{what} moves two images at the distance {float(apart[i]):.3g} apart "
                f"by the factor {float(factors[i]):.8g}, more than {bound:.8g}"
                + (f" ({source})" if source else ""),
            )

    def require_strong_monotonicity(
        self, what: str, modulus: float, source: str
    ) -> None:
        r"""
        Raise an error if a random pair of images refutes
        :math:`\langle F(u) - F(v), u - v \rangle \geq m \|u - v\|^2`.

        :param str what: the map, for the message.
        :param float modulus: :math:`m`.
        :param str source: where it comes from, for the message.
        :raises AssertionError: if a pair refutes it.
        """
        for images, values, error in self._random_pairs:
            apart = _norms(images)
            products = (images * values).flatten(1).sum(1)
            moduli = (products + error * apart) / apart**2
            i = int(moduli.argmin())
            require(
                moduli[i] >= modulus - 1e-9 * abs(modulus) - 1e-12,
                f"{what} brings two images at the distance {float(apart[i]):.3g} "
                f"together: the modulus of monotonicity is {float(moduli[i]):.8g}, "
                f"less than {modulus:.8g}" + (f" ({source})" if source else ""),
            )

    # All maps a F + b I need the same values of F.
    @cached_property
    def _random_pairs(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        direction = normal(*self.images.shape, seed=21)
        return [self._pair(t, direction) for t in DISTANCES]

    @torch.no_grad()
    def _pair(self, t: float, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the differences of the pairs on both sides of the images along a
        direction, the differences of their values, and possible errors of these."""
        direction = direction.to(self.images)
        length = 0.5 * t * _norms(self.images).clamp_min(1e-3)
        shift = _rows(length / _norms(direction).clamp_min(1e-300), direction)
        ends = (self.images + shift, self.images - shift)
        values = [self.function(end) for end in ends]
        error = (1e-14 + self.rtol) * (_norms(values[0]) + _norms(values[1]))
        return ends[0] - ends[1], values[0] - values[1], error

    def _steepest(self, scale: float, identity: float) -> Tensor | None:
        """Return the direction that the Jacobian stretches most, for each image, or
        ``None`` if the map has no derivative."""
        if not self._recorded[1].requires_grad:
            return None
        if self.images[0].numel() > DENSE:
            return self._power_iteration(scale, identity)
        if self._jacobians is None:
            return None
        eye = torch.eye(self._jacobians.shape[-1]).to(self.images)
        first = torch.linalg.svd(scale * self._jacobians + identity * eye).Vh[:, 0]
        return first.reshape(self.images.shape)

    @cached_property
    def _recorded(self) -> tuple[Tensor, Tensor]:
        x = self.images.detach().requires_grad_()
        with torch.enable_grad():
            return x, self.function(x)

    @cached_property
    def _jacobians(self) -> Tensor | None:
        """Dense Jacobians, of shape (B, n, n), by a batch of copies of each image."""
        size = self.images[0].numel()
        identity = torch.eye(size).to(self.images).reshape(size, *self.images.shape[1:])
        jacobians = []
        for image in self.images:
            copies = image.expand(size, *image.shape).clone().requires_grad_()
            with torch.enable_grad():
                value = self.function(copies)
            if value.shape != copies.shape:
                return None
            (rows,) = torch.autograd.grad(value, copies, identity)
            jacobians.append(rows.reshape(size, size))
        return torch.stack(jacobians)

    def _power_iteration(self, scale: float, identity: float) -> Tensor:
        """Return leading right singular vectors. Products with the transposed Jacobian
        are derivatives, and those with the Jacobian are differences."""
        x, value = self._recorded
        v = normal(*self.images.shape, seed=22).to(self.images)
        for _ in range(POWER_STEPS):
            v = _rows(1 / _norms(v).clamp_min(1e-300), v)
            with torch.no_grad():
                ends = [self.function(self.images + sign * v) for sign in (1e-3, -1e-3)]
            pushed = scale * (ends[0] - ends[1]) / 2e-3 + identity * v
            (pulled,) = torch.autograd.grad(value, x, pushed, retain_graph=True)
            v = scale * pulled + identity * pushed
        return v


def _norms(x: Tensor) -> Tensor:
    """Return the norm of each sample."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def _rows(factors: Tensor, x: Tensor) -> Tensor:
    """Multiply each sample by its factor."""
    return factors.reshape(-1, *[1] * (x.ndim - 1)) * x
