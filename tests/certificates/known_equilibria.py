"""Equilibrium models with known constants and known exact gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound
from deepinv_equilibrium.certificates.gradients.step_constants import StepConstants

CURVATURE = 4 / (3 * math.sqrt(3))
"""Largest modulus of the second derivative of tanh."""

UP = 1 + 1e-13

FIXED_POINTS: dict[tuple[bool | bytes, ...], Tensor] = {}
"""The fixed points that are known, by the arrays of their models: many tests build the
same models."""


@dataclass(frozen=True)
class Rated:
    """An object with a rate, in the place of a certificate."""

    rate: Bound


class KnownModel(nn.Module):
    r"""
    :math:`f(x) = e^{\theta_0} W_2 \varphi(W_1 x + e^{\theta_1} u) + \theta_2 y`, with
    :math:`\varphi` tanh or the identity, a block of ``DEQ.layers`` of it.
    """

    def __init__(self, seed: int, DEQ: deq.Equilibrium, affine: bool = False) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)
        n, hidden, batch = (int(self.uniform(1, 5)) for _ in range(3))
        self.DEQ = DEQ
        self.affine = affine
        self.W1, self.W2 = self.normal(hidden, n), self.normal(n, hidden)
        self.W2 *= self.uniform(0.05, 0.9) / (matrix_norm(self.W1) * self.W2.norm())
        scales = [10 ** self.uniform(-1, 1) for _ in range(3)]
        self.u = self.normal(hidden) * scales[0]
        self.y = self.normal(batch, n) * scales[1]
        self.target = self.normal(batch, n) * scales[2]
        self.theta = nn.Parameter(0.1 * self.normal(3))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def fixed_point_problem(self, y: Tensor, physics: Any = None) -> tuple[Any, Tensor]:
        def step(x: Any) -> Any:
            for _ in range(self.DEQ.layers):
                x = self.iteration(x, y)
            return x

        return step, torch.zeros_like(y)

    def iteration(self, x: Tensor, y: Tensor) -> Tensor:
        z = x @ self.W1.T + self.theta[1].exp() * self.u
        z = z if self.affine else z.tanh()
        return self.theta[0].exp() * z @ self.W2.T + self.theta[2] * y

    # Constants of one iteration.

    @property
    def rate(self) -> Bound:
        factor = matrix_norm(self.W1) * matrix_norm(self.W2)
        return Bound(float(self.theta[0].detach().exp()) * factor * UP)

    @property
    def constants(self) -> StepConstants:
        rate = self.rate.value
        curvature = 0.0 if self.affine else CURVATURE
        L_J = rate * matrix_norm(self.W1) * curvature
        drive = float((self.theta[1].detach().exp() * self.u).abs().max())
        return StepConstants(
            Bound(L_J * UP), Bound(rate * math.hypot(1, curvature * drive) * UP)
        )

    # Constants of the block.

    @property
    def certificate(self) -> Rated:
        return Rated(Bound(self.rate.value**self.DEQ.layers * UP))

    @property
    def block_constants(self) -> StepConstants:
        norms = [matrix_norm(B) for B in self.parameter_jacobians]
        beta = Bound(max(norms) * UP)
        return self.constants.of_block(self.DEQ.layers, self.rate, beta)

    # Exact values from dense matrices.

    @cached_property
    @torch.no_grad()
    def fixed_point(self) -> Tensor:
        tensors = (self.W1, self.W2, self.u, self.y, self.theta)
        key = (self.affine, *(part.detach().numpy().tobytes() for part in tensors))
        if key not in FIXED_POINTS:
            x = torch.zeros_like(self.y)
            for _ in range(2000):
                previous, x = x, self.iteration(x, self.y)
                if torch.equal(x, previous):
                    break
            FIXED_POINTS[key] = x
        return FIXED_POINTS[key].clone()

    @cached_property
    def parameter_jacobians(self) -> list[Tensor]:
        """Jacobians of one iteration at the fixed point, one for each sample."""
        x = self.fixed_point
        theta = self.theta

        def value(parameters: Tensor) -> Tensor:
            self.__dict__["_parameters"]["theta"] = parameters
            try:
                return self.iteration(x, self.y)
            finally:
                self.__dict__["_parameters"]["theta"] = theta

        return list(torch.autograd.functional.jacobian(value, theta.detach()))

    def exact_gradient(self, loss: Any) -> Tensor:
        x = self.fixed_point.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(x), x)
        gradient = torch.zeros(3, dtype=torch.float64)
        for b, B in enumerate(self.parameter_jacobians):
            J = torch.autograd.functional.jacobian(
                lambda row, b=b: self.iteration(row[None], self.y[b : b + 1])[0],
                x[b].detach(),
            )
            system = torch.eye(len(J), dtype=torch.float64) - J.T
            gradient += B.T @ torch.linalg.solve(system, slope[b])
        return gradient.detach()


def matrix_norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2)) * UP
