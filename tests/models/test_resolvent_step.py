"""The step of equilibrium regularisation."""

from __future__ import annotations

import deepinv as dinv
import torch
from deepinv.models import Denoiser
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.models.equilibrium_regularisation import ResolventStep


class Half(Denoiser):
    def forward(self, x: Tensor, sigma: float) -> Tensor:
        return x / 2 + sigma


def test_step_applies_denoiser_and_resolvent_once_per_layer() -> None:
    mask = torch.tensor([[[1.0, 0.0, 0.5]]], dtype=torch.float64)
    physics = dinv.physics.Inpainting((1, 1, 3), mask=mask)
    x, y = torch.rand(2, 2, 1, 1, 3, dtype=torch.float64)
    alpha = 0.3
    log_alpha = torch.tensor(alpha, dtype=torch.float64).log()
    expected = x
    for layers in (1, 2):
        config = deq.Equilibrium(layers=layers)
        step = ResolventStep(Half(), 0.1, log_alpha, y, physics, config)
        right = mask * y + alpha * (expected / 2 + 0.1)
        expected = right / (mask**2 + alpha)
        torch.testing.assert_close(step(x), expected)


def test_step_records_inverses_that_did_not_converge() -> None:
    kernel = dinv.physics.functional.gaussian_blur(sigma=(1.0, 1.0)).double()
    physics = dinv.physics.Blur(
        kernel,
        padding="reflect",
        tol=1e-12,
        max_iter=1,
        implicit_backward_solver=False,  # deepinv would warn that max_iter is small
    )
    y = torch.rand(1, 1, 9, 9, dtype=torch.float64)
    log_alpha = torch.tensor(-12.0, dtype=torch.float64)
    config = deq.Equilibrium(on_failure="ignore")
    step = ResolventStep(Half(), 0.1, log_alpha, y, physics, config)
    with torch.no_grad():
        step(y)
    assert len(step.measured.unfinished) == 1
