"""The function that a proximal operator minimises, and images to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..random_problems import normal

Energy = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ProximalObjective:
    r"""
    :math:`F(u) = \gamma g(u) + \tfrac12 \|u - x\|^2`, one number a sample.

    :param Callable energy: :math:`g`, from images to numbers of shape :math:`(B,)`.
    :param torch.Tensor x: images, of shape :math:`(B, ...)`.
    :param float gamma: :math:`\gamma > 0`.
    """

    energy: Energy
    x: Tensor
    gamma: float

    def __call__(self, u: Tensor) -> Tensor:
        """The values, of shape (B,)."""
        distance = (u - self.x).flatten(1).square().sum(dim=1)
        return self.gamma * self.energy(u).reshape(len(u)) + distance / 2

    def rivals(self, z: Tensor) -> Iterator[tuple[str, Tensor]]:
        r"""
        Yield images that may have a lower value than a claimed minimiser.

        :param torch.Tensor z: the claimed minimiser.
        :return: descriptions and images.
        """
        yield "the image itself", self.x
        yield "zero", torch.zeros_like(z)
        yield "the mean", torch.zeros_like(z) + self.x.mean(
            dim=tuple(range(1, z.ndim)), keepdim=True
        )
        for t in (-0.1, -0.01, 0.01, 0.1):
            yield f"a point {t:g} of the way back to the image", z + t * (self.x - z)
            yield f"{1 + t:g} times the value", (1 + t) * z
        size = (z - self.x).flatten(1).norm(dim=1).clamp_min(1e-3)
        for seed in range(4):
            noise = normal(*z.shape, seed=30 + seed).to(z)
            noise = noise / noise.flatten(1).norm(dim=1).reshape(
                -1, *[1] * (z.ndim - 1)
            )
            for t in (0.3, 0.03):
                shift = (t * size).reshape(-1, *[1] * (z.ndim - 1)) * noise
                yield "a random perturbation", z + shift
        yield "the result of a numerical minimisation", self.minimise(z)

    def minimise(self, start: Tensor, iterations: int = 40) -> Tensor:
        r"""
        Descend from a point along subgradients, by automatic differentiation, with the
        longest of some steps that goes down in each sample.

        :param torch.Tensor start: where to start.
        :param int iterations: number of steps.
        :return: (:class:`torch.Tensor`) the best point found.
        """
        best = start.detach()
        with torch.no_grad():
            least = self(best)
        length = torch.ones_like(least)
        for _ in range(iterations):
            u = best.clone().requires_grad_()
            with torch.enable_grad():
                value = self(u)
            finite = value[value.isfinite()].sum()
            if not finite.requires_grad:
                break
            (gradient,) = torch.autograd.grad(finite, u)
            if not bool(gradient.isfinite().all()):
                break
            with torch.no_grad():
                shift = length.reshape(-1, *[1] * (u.ndim - 1)) * gradient
                trial = best - shift
                value = self(trial)
                lower = value < least
                where = lower.reshape(-1, *[1] * (u.ndim - 1))
                best = torch.where(where, trial, best)
                least = torch.where(lower, value, least)
                length = torch.where(lower, 2 * length, length / 4)
        return best
