"""deepinv's losses that call the model again, or adapt it, on equilibrium models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.loss.adversarial import SupAdversarialGeneratorLoss
from deepinv.physics.generator import BernoulliSplittingMaskGenerator
from torch import Tensor, nn

import deepinv_equilibrium as deq

F64 = torch.float64
SIZE = (1, 8, 8)


class Smoother(dinv.models.Denoiser):
    """A contraction with weights."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        kernel = torch.rand(1, 1, 3, 3, generator=generator, dtype=F64) / 9
        self.kernel = nn.Parameter(kernel)

    def forward(self, x: Tensor, sigma: Any = None) -> Tensor:
        return torch.tanh(nn.functional.conv2d(x, self.kernel, padding=1))


class Discriminator(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.square().mean(dim=(1, 2, 3))


def build(config: deq.Equilibrium) -> deq.optim.PGD:
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(Smoother()),
        stepsize=0.5,
        sigma_denoiser=0.1,
        DEQ=config,
    )


def masks() -> BernoulliSplittingMaskGenerator:
    return BernoulliSplittingMaskGenerator(
        SIZE, split_ratio=0.6, rng=torch.Generator().manual_seed(0)
    )


LOSSES: dict[str, Callable[[], Any]] = {
    "supervised": lambda: dinv.loss.SupLoss(),
    "SURE": lambda: dinv.loss.SureGaussianLoss(
        sigma=0.1, rng=torch.Generator().manual_seed(0)
    ),
    "R2R": lambda: dinv.loss.R2RLoss(noise_model=dinv.physics.GaussianNoise(0.1)),
    "splitting": lambda: dinv.loss.SplittingLoss(mask_generator=masks()),
    "equivariant": lambda: dinv.loss.EILoss(
        dinv.transform.Shift(rng=torch.Generator().manual_seed(0))
    ),
    "equivariant splitting": lambda: dinv.loss.EquivariantSplittingLoss(
        mask_generator=masks(),
        transform=dinv.transform.Reflect(
            n_trans=1, dim=[-1], rng=torch.Generator().manual_seed(0)
        ),
    ),
    "adversarial": lambda: SupAdversarialGeneratorLoss(D=Discriminator()),
}
CONFIGURATIONS = {
    "implicit": deq.Equilibrium(
        deq.Anderson(rtol=1e-10), deq.Implicit(deq.GMRES(rtol=1e-10))
    ),
    "ReTune": deq.ReTune(layers=2, restarts=30),
    "unrolled": deq.Equilibrium(deq.Picard(rtol=1e-10), deq.Unrolled()),
}


def gradient(name: str, config: deq.Equilibrium) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient in the weights, with fixed random numbers."""
    torch.manual_seed(0)
    physics = dinv.physics.Inpainting(SIZE, mask=torch.ones(SIZE, dtype=F64))
    physics.noise_model = dinv.physics.GaussianNoise(0.1)
    x = torch.rand(2, *SIZE, dtype=F64)
    y, model, loss = physics(x), build(config), LOSSES[name]()
    kernel = model.prior[0].denoiser.kernel
    adapted = loss.adapt_model(model).train()
    x_net = adapted(y, physics, update_parameters=True)
    value = loss(x=x, x_net=x_net, y=y, physics=physics, model=adapted).mean()
    return value.detach(), torch.autograd.grad(value, kernel)[0]


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_of_a_loss_equals_that_of_the_unrolled_model(name: str) -> None:
    expected, right = gradient(name, CONFIGURATIONS["unrolled"])
    for config in ("implicit", "ReTune"):
        value, found = gradient(name, CONFIGURATIONS[config])
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9)
        if config == "implicit":
            torch.testing.assert_close(found, right, rtol=1e-6, atol=1e-9)
        else:  # the gradient of the last block only
            cosine = torch.cosine_similarity(found.flatten(), right.flatten(), dim=0)
            assert float(cosine) > 0.9


def test_loss_of_stacked_physics_calls_the_model_with_one_measurement_replaced() -> (
    None
):
    physics = dinv.physics.stack(dinv.physics.Denoising(), dinv.physics.Denoising())
    loss = dinv.loss.StackedPhysicsLoss(
        [dinv.loss.MCLoss(), dinv.loss.SureGaussianLoss(sigma=0.1)]
    )
    model = build(CONFIGURATIONS["implicit"])
    y = physics(torch.rand(2, *SIZE, dtype=F64))
    value = loss(x=None, x_net=model(y, physics), y=y, physics=physics, model=model)
    value.backward()
    assert model.prior[0].denoiser.kernel.grad.abs().sum() > 0


@pytest.mark.parametrize("flag", [True, False])
def test_update_parameters_is_accepted_and_other_arguments_are_not(flag: bool) -> None:
    physics = dinv.physics.Denoising()
    y = torch.rand(1, *SIZE, dtype=F64)
    model = build(CONFIGURATIONS["implicit"])
    assert torch.equal(model(y, physics, update_parameters=flag), model(y, physics))
    with pytest.raises(TypeError, match="update_parameter"):
        model(y, physics, update_parameter=flag)
