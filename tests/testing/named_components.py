"""Small instances of everything that has a name in the registry."""

from __future__ import annotations

from typing import Any

import deepinv as dinv
import torch
from deepinv.models.GSPnP import GSPnP
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium import plugins
from deepinv_equilibrium.models import (
    ConvexPotentialDenoiser,
    ConvolutionalFrame,
    DenseFrame,
)

# Their weights are downloaded.
DOWNLOADED = ("drunet", "gsdrunet")

GREY, COLOUR = (1, 5, 5), (3, 5, 5)


def create(kind: str, name: str, arguments: dict[str, dict[str, Any]]) -> Any:
    """Create a component with the arguments that a table has for its name."""
    return plugins.create(kind, name, **arguments.get(name, {}))


def small_denoiser(
    channels: int = 1, contraction: float = 0.9
) -> ConvexPotentialDenoiser:
    """A contraction with random weights."""
    torch.manual_seed(0)
    return ConvexPotentialDenoiser(
        channels,
        contraction=contraction,
        pretrained=None,
        layers=2,
        generators=1,
        kernel_size=3,
    )


def softplus_network(channels: int = 1) -> torch.nn.Module:
    """A network whose sum is a smooth energy."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels, 4, 3, padding=1), torch.nn.Softplus()
    )


def blur(
    img_size: tuple[int, ...], noise_model: dinv.physics.NoiseModel | None = None
) -> dinv.physics.BlurFFT:
    """An asymmetric blur with circular borders."""
    kernel = torch.tensor([[0.1, 0.1, 0.0], [0.1, 0.5, 0.1], [0.0, 0.1, 0.0]])
    if noise_model is None:
        noise_model = dinv.physics.ZeroNoise()
    return dinv.physics.BlurFFT(
        img_size, filter=kernel[None, None], noise_model=noise_model
    )


class SmoothDenoiser(dinv.models.Denoiser):
    r""":math:`\tfrac12 x + \tfrac1{10} \tanh(w * x)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = torch.nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return x / 2 + torch.tanh(self.network(x)) / 10


def model_arguments(img_size: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """Arguments of the reconstructors that need some, or whose defaults are large."""
    channels = img_size[0]
    torch.manual_seed(0)
    small: dict[str, Any] = {
        "iterations": 2,
        "filters": 3,
        "in_channels": channels,
    }
    presets = "de-admm de-grad de-prox deq-admm deq-drs deq-gd deq-hqs deq-pdcp deq-pgd"
    # With a small rate a model converges in few iterations.
    denoising = {"denoiser": small_denoiser(channels, contraction=0.5)}
    pixels = torch.Size(img_size).numel()
    # No float32 result meets this tolerance.
    descent: dict[str, Any] = {
        "max_iter": 40,
        "rtol": 1e-10,
        "adjoint": deq.Implicit(deq.GMRES(rtol=1e-9)),
        "on_failure": "ignore",
    }
    frame = DenseFrame(torch.randn(pixels + 4, pixels), img_size)
    return {
        **dict.fromkeys(presets.split(), denoising),
        "certified-deq-pgd": denoising,
        "certified-ridge-gd": {"prior": deq.optim.SmoothedTVPrior(smoothing=0.5)},
        "equilibrium-regularisation": denoising,
        "retune-pgd": {**denoising, "layers": 2, "restarts": 3},
        "deq-md": {
            "prior": deq.optim.NetworkResidualPrior(SmoothDenoiser(channels)),
            "g_param": 0.1,
            "lambda_reg": 5.0,
            **descent,
        },
        "gradient-step-pgd": {
            "denoiser": GSPnP(SmoothDenoiser(channels), alpha=0.8),
            **descent,
        },
        "convolutional-lista": {
            "frame": ConvolutionalFrame(channels, 3),
            "weight": 0.05,
            "layers": 3,
        },
        "ista": {
            "frame": ConvolutionalFrame(channels, 3),
            "weight": 0.05,
            "max_iter": 5,
        },
        "lista": {
            "frame": frame,
            "physics": blur(img_size),
            "weight": 0.05,
            "layers": 3,
        },
        "reuse-and-regularise": {
            "model": plugins.create("reconstructors", "tikhonov-inverse"),
            "nominal_physics": blur(img_size),
        },
        "fbp-unet": {"in_channels": channels, "channels_per_scale": (3, 4)},
        "learned-gradient-descent": {**small, "memory": 2},
        "learned-pdhg": {**small, "data_channels": channels},
        "learned-primal-dual": {
            **small,
            "data_channels": channels,
            "primal_memory": 2,
            "dual_memory": 2,
        },
        "tv-map": {
            "in_channels": channels,
            "filters": 2,
            "depth": 2,
            "max_iter": 6,
            "input_iterations": 3,
        },
        "unrolled-smoothed-tv": {"layers": 2, "smoothing": 0.1},
        "wavelet": {"levels": 2, "wavelet": "db2"},
    }
