from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.certificates.gradients import StateJacobian


class DetachedCube(torch.autograd.Function):
    """A cube whose backward pass has a silently vanishing derivative."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return (3 * x**2 * cotangent).detach()

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * tangent


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_product_detects_a_wrong_second_derivative_in_high_dimension(
    seed: int, share: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, v = torch.randn(2, 1, 200_000, generator=generator, dtype=torch.float64)
    split = int(share * x.numel())

    def step(state: Any) -> Tensor:
        cubes = DetachedCube.apply(state[:, split:])
        return torch.cat([state[:, :split].sin(), cubes], dim=1)

    product = StateJacobian(step, x).product(v)
    expected = torch.cat([x[:, :split].cos(), 3 * x[:, split:] ** 2], dim=1) * v
    torch.testing.assert_close(product, expected)


def test_product_of_a_constant_step_is_0() -> None:
    x = torch.ones(2, 3)
    jacobian = StateJacobian(torch.ones_like, x)
    assert not jacobian.product(x).any()
    assert not jacobian.adjoint(x).any()
