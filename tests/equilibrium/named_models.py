"""A small instance of every equilibrium model that has a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deepinv as dinv
import torch
from torch import Tensor

import deepinv_equilibrium as deq

IMAGE = (1, 6, 8)


class Shrinkage(dinv.models.Denoiser):
    """The contractive denoiser D(x) = a x with a trained a = 1/2."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return self.a * x

    def lipschitz_bound(self, img_size: Any) -> deq.certificates.Bound:
        return deq.certificates.Bound(0.5, source="shrinkage")


class Half(dinv.models.Reconstructor):
    """The reconstructor y -> a y with a trained a = 1/2."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, y: Tensor, physics: Any, **kwargs: Any) -> Tensor:
        return self.a * y


def physics() -> dinv.physics.LinearPhysics:
    return dinv.physics.Inpainting(IMAGE, mask=torch.full(IMAGE, 0.9))


PLUG_AND_PLAY = (
    *("retune-pgd", "deq-pgd", "deq-gd", "deq-hqs", "deq-admm", "deq-drs", "deq-pdcp"),
    *("de-grad", "de-prox", "de-admm", "certified-deq-pgd"),
    "equilibrium-regularisation",
)
ARGUMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    **dict.fromkeys(PLUG_AND_PLAY, lambda: {"denoiser": Shrinkage()}),
    "certified-ridge-gd": lambda: {
        "prior": deq.optim.SmoothedTVPrior(smoothing=0.5),
        "noise_level": 0.1,
    },
    "tv-map": lambda: {"constant": True},
    "wavelet": lambda: {"levels": 1, "wavelet": "haar"},
    "ista": lambda: {
        "frame": deq.models.DenseFrame(torch.eye(48), IMAGE),
        "weight": 0.1,
        "max_iter": 3,
    },
    "projected-gradient": dict,
    "unrolled-smoothed-tv": lambda: {"layers": 1},
    "reuse-and-regularise": lambda: {
        "model": Half(),
        "nominal_physics": dinv.physics.Denoising(),
    },
}
# Names of reconstructors that are not equilibrium models: learned iterations, networks,
# and descents that change their step size.
OTHERS = {
    *("gradient-step-pgd", "deq-md", "lista", "convolutional-lista"),
    *("learned-gradient-descent", "learned-primal-dual", "learned-pdhg"),
    *("fbp-unet", "tikhonov-inverse"),
}


def build(name: str) -> Any:
    return deq.plugins.create("reconstructors", name, **ARGUMENTS[name]())
