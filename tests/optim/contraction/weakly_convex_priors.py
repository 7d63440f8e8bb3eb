"""Weakly convex priors with known curvature and exact proximal operators."""

from __future__ import annotations

import math
from typing import Any

import deepinv as dinv
import torch
from torch import Tensor, nn

from deepinv_equilibrium.certificates import Bound, Interval

IMAGE, SIZE = (1, 3, 4), 12


class QuadraticPrior(dinv.optim.Prior):
    """The function <x, Q x> / 2 of a symmetric matrix Q."""

    def __init__(self, Q: Tensor, ends: tuple[float, float]) -> None:
        super().__init__()
        self.explicit_prior = True
        self.Q, self.ends = nn.Parameter(Q, requires_grad=False), ends

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return (x.flatten(1) * self._product(x)).sum(1) / 2

    def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self._product(x).reshape(x.shape)

    def prox(
        self, x: Tensor, *args: Any, gamma: float | Tensor = 1.0, **kwargs: Any
    ) -> Tensor:
        matrix = torch.eye(SIZE, dtype=self.Q.dtype) + gamma * self.Q
        return torch.linalg.solve(matrix, x.flatten(1).T).T.reshape(x.shape)

    def gradient_bounds(self, img_size: Any = None) -> Interval:
        m, L = self.ends
        slack = 1e-12 * (abs(m) + abs(L)) if m < 0 or m != 0 else 0.0
        return Interval(
            Bound(m - slack, source="dense", is_lower=True),
            Bound(L + 1e-12 * abs(L), source="dense"),
        )

    def _product(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.Q


class RidgePrior(dinv.optim.Prior):
    r"""
    The sum of :math:`\psi(\langle w_i, x \rangle)` over the rows of a matrix of norm 1,
    with :math:`\psi'(t) = \mu \tanh t - \rho \sin t / 2 - \rho \tanh(t) / 2`, whose
    derivative is between :math:`-\rho` and :math:`\mu + \rho / 2`.
    """

    def __init__(self, rho: float, mu: float = 1.0) -> None:
        super().__init__()
        self.explicit_prior = True
        generator = torch.Generator().manual_seed(0)
        W = torch.randn(8, SIZE, dtype=torch.float64, generator=generator)
        self.W = nn.Parameter(W / torch.linalg.matrix_norm(W, 2), requires_grad=False)
        self.rho, self.mu = rho, mu

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        t = x.flatten(1) @ self.W.T
        log_cosh = t.abs() + torch.log1p((-2 * t.abs()).exp()) - math.log(2)
        value = (self.mu - self.rho / 2) * log_cosh - self.rho / 2 * (1 - t.cos())
        return value.sum(1)

    def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        t = x.flatten(1) @ self.W.T
        slope = (self.mu - self.rho / 2) * t.tanh() - self.rho / 2 * t.sin()
        return (slope @ self.W).reshape(x.shape)

    def prox(
        self, x: Tensor, *args: Any, gamma: float | Tensor = 1.0, **kwargs: Any
    ) -> Tensor:
        """Gradient descent to ten digits, for gamma rho up to 0.6."""
        z, step = x, 1 / (1 + gamma * (self.mu + self.rho))
        for _ in range(60):
            z = z - step * (z - x + gamma * self.grad(z))
        return z

    def gradient_bounds(self, img_size: Any = None) -> Interval:
        return Interval(
            Bound(-self.rho * (1 + 1e-12), source="ridge", is_lower=True),
            Bound((self.mu + self.rho / 2) * (1 + 1e-12), source="ridge"),
        )


def random_quadratic(m: float, L: float, frame: Tensor | None = None) -> QuadraticPrior:
    """Return a quadratic whose curvatures contain m and L, in the given eigenvectors,
    or in random ones."""
    values = m + (L - m) * torch.rand(SIZE, dtype=torch.float64)
    values[0], values[1] = m, L
    if frame is None:
        frame = torch.linalg.qr(torch.randn(SIZE, SIZE, dtype=torch.float64))[0]
    return QuadraticPrior(frame @ torch.diag(values) @ frame.T, (m, L))


def diagonal_physics(mu: float, L: float) -> dinv.physics.Inpainting:
    """Return a mask whose squares contain mu and L, mu in the first pixel and L in the
    second one."""
    squares = mu + (L - mu) * torch.rand(SIZE, dtype=torch.float64)
    squares[0], squares[1] = mu, L
    return dinv.physics.Inpainting(IMAGE, mask=squares.sqrt().reshape(IMAGE))
