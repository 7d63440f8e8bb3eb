"""Count the evaluations of a training, with and without warm starts across epochs."""

from __future__ import annotations

import copy

import deepinv as dinv
import torch
from torch.utils.data import DataLoader, TensorDataset

import deepinv_equilibrium as deq
from deepinv_equilibrium.datasets import IndexedDataset, Photos
from deepinv_equilibrium.equilibrium import FixedPointCache

from .problem import NOISE, STEPSIZE, Problem

CROPS, SIZE, BATCH, EPOCHS = 8, 32, 4, 3
RATES = (2e-5, 5e-5, 1e-4)  # of a denoiser that is fine-tuned


def images_by_epoch(problem: Problem, warm: bool, rate: float = RATES[0]) -> list[int]:
    """Return the images that are denoised in each epoch of an implicit training."""
    generator = torch.Generator().manual_seed(0)
    crops = Photos("train", img_size=SIZE, crops=CROPS, seed=0)
    truth = torch.stack([crops[i]["x"] for i in range(CROPS)])
    physics = copy.deepcopy(problem.physics)
    y = physics.A(truth)
    y = y + NOISE * torch.randn(y.shape, generator=generator)
    denoiser = copy.deepcopy(problem.denoiser)
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=STEPSIZE,
        trainable_params=[],
        DEQ=deq.Equilibrium(deq.Anderson(rtol=1e-4), on_failure="ignore"),
    )
    if warm:
        model.warm_starts = FixedPointCache()
        FixedPointCache.follow(physics)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    loader = DataLoader(IndexedDataset(TensorDataset(truth, y)), batch_size=BATCH)
    images = []
    for _ in range(EPOCHS):
        with denoiser.counting() as count:
            for batch in loader:
                physics.update(**batch["params"])
                loss = (model(batch["y"], physics) - batch["x"]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        images.append(count.images)
    return images
