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
from deepinv_equilibrium.loss import Converged, FinalResidual

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
    defaults = {
        "physics": PHYSICS,
        "optimizer": torch.optim.Adam(model.parameters(), lr=1e-3),
        "train_dataloader": DataLoader(data, batch_size=2),
        "eval_dataloader": DataLoader(data, batch_size=2),
        "metrics": dinv.metric.PSNR(),
        "epochs": 1,
        "ckp_interval": 1,
        "eval_interval": 1,
    }
    return dinv.Trainer(
        model=model,
        losses=dinv.loss.SupLoss(),
        device="cpu",
        save_path=None if folder is None else str(folder),
        verbose=False,
        show_progress_bar=False,
        **{**defaults, **options},
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


BLURS = [
    dinv.physics.Blur(filter=torch.full((1, 1, n, n), 1 / n**2), padding="circular")
    for n in (3, 5)
]


@pytest.mark.parametrize("name", ["ReTune", "implicit"])
def test_trainer_takes_lists_of_physics(name: str) -> None:
    loaders = [DataLoader(make_data(), batch_size=2) for _ in BLURS]
    model = make_model(CONFIGURATIONS[name]())
    before = weights_of(model)
    trainer = make_trainer(
        model,
        None,
        physics=BLURS,
        train_dataloader=loaders,
        eval_dataloader=loaders,
        compute_train_metrics=True,
        metrics=[dinv.metric.PSNR(), FinalResidual(), Converged()],
    )
    after = weights_of(trainer.train())
    assert not torch.equal(
        before["params_algo.stepsize.0"], after["params_algo.stepsize.0"]
    )
    for meters in (trainer.logs_metrics_train, trainer.logs_metrics_eval):
        psnr, residual, converged = (meter.avg for meter in meters)
        assert math.isfinite(psnr)
        assert 0 < residual < 1
        assert 0 <= converged <= 1


@pytest.mark.parametrize("name", ["ReTune", "implicit"])
def test_trainer_draws_physics_for_every_batch(name: str) -> None:
    size = (1, 16, 16)
    model = make_model(CONFIGURATIONS[name]())
    images = [{"x": data["x"]} for data in make_data()]
    seen: list[torch.Tensor] = []
    forward = model.forward

    def remember(y: Any, physics: Any, **options: Any) -> Any:
        seen.append(physics.mask.clone())
        return forward(y, physics, **options)

    model.forward = remember
    trainer = make_trainer(
        model,
        None,
        physics=dinv.physics.Inpainting(size, mask=0.5),
        physics_generator=dinv.physics.generator.BernoulliSplittingMaskGenerator(
            size, split_ratio=0.7
        ),
        train_dataloader=DataLoader(images, batch_size=2),
        eval_dataloader=None,
        online_measurements=True,
    )
    trainer.train()
    assert math.isfinite(trainer.logs_total_loss_train.avg)
    assert len(seen) == 2
    assert not torch.equal(*seen)


def test_trainer_plots_images_of_an_equilibrium_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    shown: list[int] = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(len(pyplot.gcf().axes)))
    model = make_model(CONFIGURATIONS["ReTune"]())
    make_trainer(model, None, plot_images=True, plot_interval=1).train()
    pyplot.close("all")
    assert shown
    assert min(shown) > 0


@pytest.mark.filterwarnings(
    "ignore:Trainer running with AMP", "ignore:.*below the noise"
)
@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("ReTune", "bfloat16"),
        ("Jacobian-free", "bfloat16"),
        ("implicit", "bfloat16"),
        ("implicit", "float16"),
    ],
)
def test_mixed_precision_trains_as_single_precision(name: str, precision: str) -> None:
    """After one update of gradient descent, the weights have moved to almost the same
    place. A GradScaler that found inf would have skipped the update."""
    moves = []
    for option in (False, precision):
        model = make_model(CONFIGURATIONS[name]())
        before = weights_of(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        loader = DataLoader(make_data(), batch_size=4)
        options = {"train_dataloader": loader, "eval_dataloader": None}
        make_trainer(
            model, None, optimizer=optimizer, mixed_precision=option, **options
        ).train()
        after = weights_of(model)
        moves.append(torch.cat([(after[k] - before[k]).flatten() for k in before]))
    single, mixed = moves
    assert bool((mixed - single).norm() < 0.1 * single.norm())


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
