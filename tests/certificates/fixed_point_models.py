"""One model of each kind that solves a fixed-point problem, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import deepinv as dinv
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import (
    ISTA,
    ConvexPotentialDenoiser,
    DenseFrame,
    EquilibriumRegularisation,
    ReuseAndRegularise,
    TVMapReconstructor,
    WaveletReconstructor,
)
from deepinv_equilibrium.models.tv_maps import ConstantTVMap
from deepinv_equilibrium.optim import WeightedWaveletPrior

from ..models.operators import Gain

SIZE = (1, 5, 4)


def inpainting() -> dinv.physics.LinearPhysics:
    """Return an invertible operator with a proximal operator in closed form."""
    mask = 0.7 + 0.3 * torch.rand(SIZE, dtype=torch.float64)
    return dinv.physics.Inpainting(SIZE, mask=mask)


def _optimiser(name: str, config: deq.Equilibrium) -> Any:
    return getattr(deq.optim, name)(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.L1Prior() if name == "PDCP" else dinv.optim.Tikhonov(),
        stepsize=0.5,
        lambda_reg=0.3,
        trainable_params=[],
        DEQ=config,
    )


def _regularisation(config: deq.Equilibrium) -> Any:
    denoiser = ConvexPotentialDenoiser(
        1, contraction=0.8, pretrained=None, layers=1, kernel_size=3
    )
    return EquilibriumRegularisation(denoiser, 0.5, DEQ=config)


def _wavelets(config: deq.Equilibrium) -> Any:
    prior = WeightedWaveletPrior(1, levels=2, initial_weight=0.1)
    return WaveletReconstructor(prior, config, 1.0)


def _ista(config: deq.Equilibrium) -> Any:
    atoms = torch.randn(25, 20, dtype=torch.float64)
    return ISTA(DenseFrame(atoms, SIZE), 0.05, DEQ=config)


def _tv_map(config: deq.Equilibrium) -> Any:
    return TVMapReconstructor(ConstantTVMap((0, 0)), DEQ=config)


def _reused(config: deq.Equilibrium) -> Any:
    nominal = dinv.physics.Denoising()
    return ReuseAndRegularise(Gain(0.8), nominal, 0.1, config)


OPTIMISERS = ("PGD", "GD", "HQS", "DRS", "ADMM", "PDCP", "FISTA")
MODELS: dict[str, Callable[[deq.Equilibrium], Any]] = {
    **{name: partial(_optimiser, name) for name in OPTIMISERS},
    "equilibrium regularisation": _regularisation,
    "wavelets": _wavelets,
    "ISTA": _ista,
    "TV map": _tv_map,
    "reuse and regularise": _reused,
}
