from __future__ import annotations

import deepinv as dinv
import pytest
import torch

from deepinv_equilibrium.certificates import Bound, SmoothLoss, SquaredError
from deepinv_equilibrium.certificates.gradients.smooth_loss import (
    loss_gradient,
    require_loss,
)

from ...one_test import in_one_test


@in_one_test("weight", [0.5, 1.0, 1e-6, 1e6])
def test_smoothness_of_the_squared_error_is_the_norm_of_its_hessian(
    weight: float,
) -> None:
    target = torch.randn(2, 3, dtype=torch.float64)
    loss = SquaredError(target, weight)
    hessian = torch.autograd.functional.hessian(loss, torch.randn_like(target))
    norm = float(torch.linalg.matrix_norm(hessian.reshape(6, 6), 2))
    assert loss.smoothness.is_certified
    assert norm <= loss.smoothness.value <= norm * (1 + 1e-9)


def test_squared_error_with_mean_weight_is_the_mean_squared_error() -> None:
    x, target = torch.randn(2, 2, 1, 4, 4, dtype=torch.float64)
    loss = SquaredError(target, weight=1 / target.numel())
    torch.testing.assert_close(loss(x), torch.nn.functional.mse_loss(x, target))


def test_loss_gradient_returns_no_graph() -> None:
    x = torch.randn(3, dtype=torch.float64)
    with torch.no_grad():
        gradient = loss_gradient(lambda z: (z**3).sum(), x)
    torch.testing.assert_close(gradient, 3 * x**2)
    assert not gradient.requires_grad
    assert not x.requires_grad


def test_losses_raise_for_bad_weights_and_values() -> None:
    with pytest.raises(ValueError, match="weight must be positive"):
        SquaredError(torch.zeros(1), weight=0.0)
    with pytest.raises(ValueError, match="an upper bound"):
        SmoothLoss(torch.sum, Bound(1.0, is_lower=True))
    with pytest.raises(ValueError, match=r"scalar tensor.*\(2,\)"):
        loss_gradient(lambda z: z, torch.zeros(2))
    with pytest.raises(ValueError, match=r"scalar tensor.*1\.0"):
        loss_gradient(lambda z: 1.0, torch.zeros(2))
    with pytest.raises(ValueError, match="does not depend"):
        loss_gradient(lambda z: torch.ones(()), torch.zeros(2))


class OneArgument(torch.nn.Module):
    def forward(self, x: torch.Tensor, weight: float = 1.0) -> torch.Tensor:
        return weight * x.sum()


def test_require_loss_accepts_losses_of_one_argument() -> None:
    for loss in (OneArgument(), torch.sum, SquaredError(torch.zeros(1)), torch.norm):
        require_loss(loss)


@in_one_test(
    "loss",
    [dinv.loss.SupLoss(), torch.nn.MSELoss(), torch.nn.functional.mse_loss, 3.0, None],
)
def test_require_loss_raises_for_losses_of_two_arguments(loss: object) -> None:
    match = r"loss must take the reconstruction only and return a scalar.*SquaredError"
    with pytest.raises(TypeError, match=match):
        require_loss(loss)
    with pytest.raises(TypeError, match=match):
        SmoothLoss(loss, Bound(1.0))
