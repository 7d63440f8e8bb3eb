"""Gradients of data-parallel training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import deepinv_equilibrium as deq

RANKS = 2
CONFIGURATIONS = {
    "implicit": deq.Equilibrium(deq.Anderson(rtol=1e-6)),
    "ReTune": deq.ReTune(layers=2, restarts=3),
}


class Averaging(dinv.models.Denoiser):
    """Half a 3 x 3 convolution with nonnegative weights."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.rand(1, 1, 3, 3, generator=generator) / 12)

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return torch.conv2d(x, self.weight, padding=1) / (1 + sigma)


def gradients(config: deq.Equilibrium, y: Tensor, wrap: Any) -> dict[str, Tensor]:
    """Compute gradients of the mean loss over the samples of one process, twice."""
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(Averaging()),
        stepsize=0.5,
        sigma_denoiser=0.1,
        trainable_params=["stepsize", "g_param"],
        DEQ=config,
    )
    wrapped = wrap(model)
    for _ in range(2):  # the reducer must be ready for a second pass
        wrapped.zero_grad()
        wrapped(y, dinv.physics.Denoising()).square().mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def measurements() -> Tensor:
    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS
    )
    try:
        share = measurements().chunk(RANKS)[rank]
        for name, config in CONFIGURATIONS.items():
            found = gradients(config, share, nn.parallel.DistributedDataParallel)
            torch.save(found, f"{folder}/{name}-{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_distributed_gradient_is_that_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The processes import this file by its name. The path comes last, so that they
    # import the installed package.
    root = Path(__file__).parents[2]
    monkeypatch.setattr(sys, "path", [*sys.path, str(root)])
    torch.multiprocessing.spawn(work, args=(str(tmp_path),), nprocs=RANKS)
    for name, config in CONFIGURATIONS.items():
        expected = gradients(config, measurements(), lambda model: model)
        assert expected.keys() == {
            "params_algo.stepsize.0",
            "params_algo.g_param.0",
            "prior.0.denoiser.weight",
        }
        for rank in range(RANKS):
            found = torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True)
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                assert bool(value.any())
                torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)
