"""Gradients of a model with a compiled denoiser."""

from __future__ import annotations

import os
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq

# Dynamo reads the attribute ``grad`` of every tensor that it receives.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)

ADJOINTS = [
    deq.Implicit(deq.GMRES(rtol=1e-6)),
    deq.Neumann(order=4),
    deq.JacobianFree(steps=2),
]


class Smooth(dinv.models.Denoiser):
    """A small network with a Lipschitz constant below 1."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(1, 4, 3, padding=1)
        self.outer = nn.Conv2d(4, 1, 3, padding=1)
        with torch.no_grad():
            for layer in (self.inner, self.outer):
                layer.weight.div_(layer.weight.abs().sum())

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return 0.5 * x + self.outer(torch.tanh(self.inner(x))) / (4 + sigma)


def gradients(
    adjoint: deq.fixed_points.Adjoint, backend: str | None
) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(Smooth()),
        stepsize=0.5,
        sigma_denoiser=0.1,
        trainable_params=["stepsize", "g_param"],
        DEQ=deq.Equilibrium(deq.Anderson(rtol=1e-6), adjoint),
    )
    if backend is not None:
        model.prior[0].denoiser.compile(backend=backend)
    y = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for _ in range(2):  # the second training step reuses the compiled graph
        model.zero_grad()
        model(y, dinv.physics.Denoising()).square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Any:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(
    "adjoint", ADJOINTS, ids=lambda adjoint: type(adjoint).__name__
)
@pytest.mark.parametrize(
    "backend",
    [
        "aot_eager",
        pytest.param(
            "inductor",
            marks=pytest.mark.skipif(
                "TEST_INDUCTOR" not in os.environ,
                reason="needs a C++ compiler and half a minute: set TEST_INDUCTOR=1",
            ),
        ),
    ],
)
def test_compiled_denoiser_has_the_gradient_of_the_eager_one(
    backend: str, adjoint: deq.fixed_points.Adjoint
) -> None:
    expected = gradients(adjoint, None)
    found = gradients(adjoint, backend)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)
