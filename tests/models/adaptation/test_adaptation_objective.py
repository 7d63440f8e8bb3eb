"""The objective of an adaptation: gradients and parameters of the physics."""

from __future__ import annotations

from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.models.adaptation.adaptation_objective import (
    AdaptationObjective,
    copy_module,
)

from ..operators import DOUBLE, gaussian_blur


def test_gradient_for_an_equilibrium_agrees_with_finite_differences() -> None:
    """The operator is used by the model and by the data term."""
    denoiser = deq.models.ConvexPotentialDenoiser(
        in_channels=1,
        pretrained=None,
        layers=1,
        generators=1,
        kernel_size=3,
        contraction=0.9,
    )
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=1.0,
        sigma_denoiser=0.2,
        trainable_params=["stepsize"],
        DEQ=deq.Equilibrium(
            deq.Anderson(rtol=1e-12), deq.Implicit(deq.GMRES(rtol=1e-12))
        ),
    ).double()
    physics = gaussian_blur((1, 6, 6), 0.8)
    y = physics(torch.rand(2, 1, 6, 6, dtype=DOUBLE))
    objective = AdaptationObjective(
        copy_module(model), y, copy_module(physics), ["filter"]
    )
    leaves = [*objective.weights, *objective.operator.values()]
    # At other values than the initial ones, the penalties have a gradient.
    with torch.no_grad():
        for leaf in leaves:
            leaf += 0.01 * torch.randn_like(leaf)

    def value() -> float:
        theta, phi = objective.penalties()
        return objective.discrepancy().item() + 0.1 * theta + 0.3 * phi

    norms = objective.backward(objective.discrepancy(), 0.1, 0.3)
    gradients = [leaf.grad for leaf in leaves]
    assert norms[1] == pytest.approx(gradients[-1].norm().item())
    for leaf, gradient in zip(leaves, gradients, strict=True):
        direction, values = torch.randn_like(leaf), []
        for sign in (1, -1):
            with torch.no_grad():
                leaf += sign * 1e-5 * direction
                values.append(value())
                leaf -= sign * 1e-5 * direction
        slope = (values[0] - values[1]) / 2e-5
        expected = float((gradient * direction).sum())
        assert slope == pytest.approx(expected, rel=1e-4, abs=1e-9)
        assert expected != 0


def test_discrepancy_does_not_change_noise_parameters_of_the_same_name() -> None:
    class Blur(dinv.physics.LinearPhysics):
        def __init__(self) -> None:
            noise = dinv.physics.GaussianNoise(0.1)
            super().__init__(noise_model=noise.double())
            self.register_buffer("sigma", torch.ones((), dtype=DOUBLE))

        def A(self, x: Tensor, **_: Any) -> Tensor:
            return self.sigma * x

        A_adjoint = A

    model = dinv.models.ArtifactRemoval(
        dinv.models.DnCNN(1, 1, depth=2, nf=2, pretrained=None)
    ).double()
    physics, y = Blur(), torch.ones(1, 1, 4, 4, dtype=DOUBLE)
    adapted = deq.adapt(
        model, y, physics, 0.0, physics_parameters=["sigma"], max_steps=3, rtol=0,
        noise_level=0,
    )  # fmt: skip
    assert adapted.physics.sigma.item() != 1.0
    assert adapted.physics.noise_model.sigma.item() == pytest.approx(0.1)
