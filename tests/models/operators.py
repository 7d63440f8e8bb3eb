"""Small models and operators whose adaptation is known in closed form."""

from __future__ import annotations

from typing import Any

import torch
from deepinv.models import Reconstructor
from deepinv.physics import BlurFFT, GaussianNoise, LinearPhysics, Physics
from torch import Tensor, nn

DOUBLE = torch.float64


class Gain(Reconstructor):
    """A gain for each channel times the adjoint of the measurement."""

    def __init__(self, *gains: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gains, dtype=DOUBLE)[:, None, None])

    def forward(self, y: Tensor, physics: Physics, **kwargs: Any) -> Tensor:
        return self.gain.to(y.dtype) * physics.A_adjoint(y)


class Scaling(LinearPhysics):
    """Multiply by a buffer, or by a parameter of the module."""

    def __init__(self, scale: float, learned: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        value = torch.tensor(scale, dtype=DOUBLE)
        if learned:
            self.scale = nn.Parameter(value)
        else:
            self.register_buffer("scale", value)
        self.register_buffer("unused", torch.ones((), dtype=DOUBLE))

    def A(self, x: Tensor, **_: Any) -> Tensor:
        return self.scale * x

    def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
        return self.scale * y


def gaussian_blur(
    img_size: tuple[int, int, int],
    sigma: float,
    noise_level: float = 0.0,
    dtype: torch.dtype = DOUBLE,
) -> BlurFFT:
    """A blur with 5 x 5 pixels."""
    r = torch.arange(-2, 3, dtype=dtype)
    line = torch.exp(-(r**2) / (2 * sigma**2))
    kernel = torch.outer(line, line)
    noise = GaussianNoise(noise_level, rng=torch.Generator().manual_seed(1))
    return BlurFFT(img_size, (kernel / kernel.sum())[None, None], noise_model=noise)
