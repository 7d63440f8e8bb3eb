"""Small problems for models with TV maps, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import deepinv as dinv
import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates.spectra.double_precision import double_copy
from deepinv_equilibrium.models import TVMapReconstructor, UNetTVMap
from deepinv_equilibrium.optim.total_variation import TVNorm

DOUBLE = torch.float64
MINIMISER = deq.Equilibrium(
    deq.Anderson(max_iter=5000, rtol=1e-12), deq.Implicit(deq.CG(rtol=1e-11))
)


def complex_modulation(factor: Tensor) -> LinearPhysics:
    """Multiply complex images and their neighbours by a complex factor."""

    def adjoint(y: Tensor, **_: object) -> Tensor:
        z = factor.conj() * y
        return z + 0.2 * z.roll(-1, -1)

    return LinearPhysics(
        A=lambda x, **_: factor * (x + 0.2 * x.roll(1, -1)), A_adjoint=adjoint
    )


@dataclass
class Problem:
    physics: LinearPhysics
    y: Tensor
    model: TVMapReconstructor
    parameter: Tensor | None = None
    """Parameter of the physics that has a gradient."""

    def gradients(self) -> tuple[Tensor, list[Tensor]]:
        """Return the image, and the gradients in y, the map and the parameter."""
        y = self.y.clone().requires_grad_()
        inputs = [y, *self.model.tv_map.parameters()]
        if self.parameter is not None:
            inputs.append(self.parameter)
        x = self.model(y, self.physics)
        weight = torch.linspace(-1, 2, x.numel(), dtype=DOUBLE).reshape(x.shape)
        loss = (weight * (x * x.conj()).real).sum()
        return x.detach(), list(torch.autograd.grad(loss, inputs))


def unet_model(
    in_channels: int,
    directions: tuple[int, ...],
    norm: TVNorm = "isotropic",
    initial_weight: float = 0.05,
    stepsize: float = 1.0,
) -> TVMapReconstructor:
    tv_map = UNetTVMap(
        in_channels,
        directions,
        filters=2,
        depth=2,
        initial_weight=initial_weight,
        padding=1,
    )
    return TVMapReconstructor(
        tv_map, DEQ=MINIMISER, norm=norm, input_iterations=2, stepsize=stepsize
    ).double()


def noisy(physics: LinearPhysics, x: Tensor) -> Tensor:
    y = physics.A(x)
    return y + 0.1 * torch.randn_like(y)


def denoising() -> Problem:
    physics = dinv.physics.Denoising()
    y = torch.rand(2, 3, 4, 5, dtype=DOUBLE)
    return Problem(physics, y, unet_model(3, (0, 0)))


def deblurring() -> Problem:
    kernel = torch.tensor([[0.0, 0.1, 0.02], [0.05, 0.7, 0.1], [0.0, 0.03, 0.0]])
    physics = dinv.physics.Blur(filter=kernel[None, None].double(), padding="circular")
    physics.filter.requires_grad_()
    y = noisy(physics, torch.rand(2, 1, 5, 4, dtype=DOUBLE)).detach()
    model = unet_model(1, (0, 1), norm="componentwise")
    return Problem(physics, y, model, physics.filter)


def inpainting() -> Problem:
    mask = 0.5 + torch.rand(1, 1, 4, 5, dtype=DOUBLE)
    mask[..., 1, 2] = 0.0
    physics = dinv.physics.Inpainting((1, 4, 5), mask=mask[0])
    physics.mask.requires_grad_()
    y = noisy(physics, torch.rand(2, 1, 4, 5, dtype=DOUBLE)).detach()
    model = unet_model(1, (0, 1), norm="componentwise")
    return Problem(physics, y, model, physics.mask)


def dynamic_mri() -> Problem:
    physics = double_copy(
        deq.physics.dynamic_mri((2, 3, 4, 4), coils=4, acceleration=2)
    )
    y = noisy(physics, torch.rand(1, 2, 3, 4, 4, dtype=DOUBLE))
    return Problem(physics, y, unet_model(2, (0, 1, 1), initial_weight=0.02))


def complex_images() -> Problem:
    factor = 1 + 0.3 * torch.randn(4, 5, dtype=torch.complex128)
    physics = complex_modulation(factor.requires_grad_())
    x = torch.randn(2, 1, 4, 5, dtype=torch.complex128)
    y = noisy(physics, x).detach()
    return Problem(physics, y, unet_model(2, (0, 1)), factor)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "denoising": denoising,
    "deblurring": deblurring,
    "inpainting": inpainting,
    "dynamic MRI": dynamic_mri,
    "complex images": complex_images,
}
