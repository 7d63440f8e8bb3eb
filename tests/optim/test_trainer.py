"""Equilibrium models in deepinv's Trainer: training, checkpoints, evaluation."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq

# A model with an untrained network need not contract.
CONFIGURATIONS: dict[str, Callable[[], deq.Equilibrium]] = {
    "ReTune": lambda: deq.ReTune(layers=2, restarts=2),
    "implicit": lambda: deq.Equilibrium(deq.Anderson(max_iter=8), on_failure="ignore"),
    "Jacobian-free": lambda: deq.Equilibrium(
        deq.Anderson(max_iter=8), deq.JacobianFree(), on_failure="ignore"
    ),
}


PHYSICS = dinv.physics.Blur(filter=torch.full((1, 1, 3, 3), 1 / 9), padding="circular")


def make_data() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 1, 16, 16, generator=generator)
    return [{"x": image, "y": PHYSICS.A(image[None])[0]} for image in x]


def make_model(config: deq.Equilibrium) -> deq.optim.PGD:
    torch.manual_seed(0)
    network = dinv.models.DRUNet(
        in_channels=1, out_channels=1, nc=(4, 8, 8, 8), nb=1, pretrained=None
    )
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(network),
        stepsize=0.5,
        sigma_denoiser=0.05,
        trainable_params=["stepsize", "g_param"],
        DEQ=config,
    )


def make_trainer(model: Any, folder: Path | None, **options: Any) -> dinv.Trainer:
    data = make_data()
    return dinv.Trainer(
        model=model,
        physics=PHYSICS,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        train_dataloader=DataLoader(data, batch_size=2),
        eval_dataloader=DataLoader(data, batch_size=2),
        losses=dinv.loss.SupLoss(),
        metrics=dinv.metric.PSNR(),
        device="cpu",
        save_path=None if folder is None else str(folder),
        verbose=False,
        show_progress_bar=False,
        **{"epochs": 1, "ckp_interval": 1, "eval_interval": 1, **options},
    )


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_trainer_trains_saves_resumes_and_evaluates_a_model(
    name: str, tmp_path: Path
) -> None:
    model = make_model(CONFIGURATIONS[name]())
    before = weights_of(model)
    trainer = make_trainer(model, tmp_path)
    trained = trainer.train()
    assert math.isfinite(trainer.logs_total_loss_train.avg)
    after = weights_of(trained)
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    assert any(key.startswith("prior.0.denoiser") for key in changed)
    assert "params_algo.stepsize.0" in changed

    (checkpoint,) = tmp_path.rglob("ckp_0.pth.tar")
    fresh = make_model(CONFIGURATIONS[name]())
    resumed = make_trainer(fresh, None, epochs=2)
    resumed.load_model(str(checkpoint))
    assert resumed.epoch_start == 1
    for key, value in weights_of(fresh).items():
        torch.testing.assert_close(value, after[key], rtol=1e-6, atol=0)

    data = make_data()
    results = trainer.test(DataLoader(data, batch_size=2))
    assert math.isfinite(results["PSNR"])
    twin = copy.deepcopy(trained).eval()
    y = data[0]["y"][None]
    with torch.no_grad():
        x, metrics = twin(y, PHYSICS, x_gt=y, compute_metrics=True)
        assert torch.equal(x, trained.eval()(y, PHYSICS))
    assert len(metrics["psnr"]) == 1
    assert all(math.isfinite(value) for value in metrics["psnr"][0])


def test_resumed_training_equals_uninterrupted_training(tmp_path: Path) -> None:
    config = CONFIGURATIONS["ReTune"]
    straight = make_model(config())
    make_trainer(straight, None, epochs=2).train()
    make_trainer(make_model(config()), tmp_path, epochs=1).train()
    (checkpoint,) = tmp_path.rglob("ckp_0.pth.tar")
    resumed = make_model(config())
    make_trainer(resumed, None, epochs=2, ckpt_pretrained=str(checkpoint)).train()
    for key, value in straight.state_dict().items():
        torch.testing.assert_close(
            resumed.state_dict()[key], value, rtol=1e-4, atol=1e-6
        )
