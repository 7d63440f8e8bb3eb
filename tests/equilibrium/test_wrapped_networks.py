"""Denoisers with checkpoints, and compiled denoisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import deepinv_equilibrium as deq

F64 = torch.float64
TIGHT = {"rtol": 1e-10, "max_iter": 200}
SETTINGS: dict[str, deq.Equilibrium] = {
    "implicit": deq.Equilibrium(
        deq.Anderson(**TIGHT), deq.Implicit(deq.GMRES(**TIGHT))
    ),
    "CGNR": deq.Equilibrium(deq.Anderson(**TIGHT), deq.Implicit(deq.CGNR(**TIGHT))),
    "ReTune": deq.ReTune(2, 3),
    "unrolled": deq.Equilibrium(deq.Picard(max_iter=5, rtol=0.0), deq.Unrolled()),
}


class Network(dinv.models.Denoiser):
    """A small network, within a function that wraps it."""

    def __init__(self, wrapper: Callable[..., Tensor] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 3, 3, padding=1).double()
        self.last = nn.Conv2d(3, 1, 3, padding=1).double()
        self.wrapper = wrapper

    def body(self, x: Tensor) -> Tensor:
        return 0.5 * x + 0.1 * self.last(torch.tanh(self.first(x)))

    def forward(self, x: Tensor, sigma: Any = None, **kwargs: Any) -> Tensor:
        return self.body(x) if self.wrapper is None else self.wrapper(self.body, x)


def image_and_gradient(network: Network, setting: str) -> tuple[Tensor, Tensor]:
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(network),
        stepsize=0.5,
        sigma_denoiser=0.1,
        trainable_params=["stepsize"],
        DEQ=SETTINGS[setting],
    ).double()
    y = torch.linspace(0, 1, 32, dtype=F64).reshape(2, 1, 4, 4)
    x = model(y, dinv.physics.Denoising())
    x.square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) == 5
    return x.detach(), torch.cat([gradient.flatten() for gradient in gradients])


def checkpointed(reentrant: bool) -> Network:
    return Network(lambda body, x: checkpoint(body, x, use_reentrant=reentrant))


@pytest.mark.parametrize("setting", SETTINGS)
def test_gradient_of_a_checkpointed_network_is_that_of_the_network(
    setting: str,
) -> None:
    x, gradient = image_and_gradient(checkpointed(False), setting)
    expected = image_and_gradient(Network(), setting)
    torch.testing.assert_close((x, gradient), expected)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("setting", SETTINGS)
def test_reentrant_checkpoint_is_right_or_raises(setting: str) -> None:
    if setting in ("implicit", "CGNR"):
        with pytest.raises(RuntimeError, match="set use_reentrant=False"):
            image_and_gradient(checkpointed(True), setting)
        return
    x, gradient = image_and_gradient(checkpointed(True), setting)
    expected = image_and_gradient(Network(), setting)
    torch.testing.assert_close((x, gradient), expected)


# torch's tracer reads this attribute.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("setting", SETTINGS)
def test_gradient_of_a_compiled_network_is_that_of_the_network(setting: str) -> None:
    network = Network()
    network.compile(backend="eager")
    found = image_and_gradient(network, setting)
    torch.testing.assert_close(found, image_and_gradient(Network(), setting))
