"""The rate of geometric residuals, and where there is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.loss import ObservedRate

F64 = torch.float64


def solved(step: Any, x0: torch.Tensor, **options: Any) -> SimpleNamespace:
    solver = deq.Picard(**options)
    return SimpleNamespace(
        solution=deq.fixed_point(step, x0, solver, on_failure="ignore")
    )


def test_geometric_residuals_have_their_rate() -> None:
    """Samples that stop at different times."""
    rates = torch.tensor([[0.5], [-0.9], [0.0]], dtype=F64)
    x0 = torch.full((3, 4), 3.0, dtype=F64)
    model = solved(lambda x: rates * x + 1, x0, rtol=1e-8, max_iter=400)
    assert len(set(model.solution.iterations.tolist())) == 3
    observed = ObservedRate()(x_net=x0, x=None, y=x0, physics=None, model=model)
    torch.testing.assert_close(observed, rates.abs()[:, 0], rtol=1e-6, atol=1e-12)


def test_the_second_half_is_what_counts() -> None:
    """A fast start does not hide a slow end."""
    rates = torch.tensor([0.01, 0.9], dtype=F64)
    scale = torch.tensor([1e3, 1.0], dtype=F64)
    model = solved(
        lambda x: rates * x + scale, torch.zeros(1, 2, dtype=F64), rtol=0, max_iter=20
    )
    value = ObservedRate(reduction="mean")(torch.zeros(1, 2), model=model)
    assert float(value) == pytest.approx(0.9, rel=1e-6)


@pytest.mark.parametrize("max_iter", [2, 3, 4, 5])
def test_short_runs(max_iter: int) -> None:
    model = solved(
        lambda x: 0.5 * x + 1, torch.zeros(1, 1, dtype=F64), rtol=0, max_iter=max_iter
    )
    assert float(ObservedRate()(torch.zeros(1, 1), model=model)) == pytest.approx(0.5)


def test_nan_where_there_is_nothing_to_see() -> None:
    x0 = torch.tensor([[0.0], [1.0]], dtype=F64)
    once = solved(lambda x: 0.5 * x, x0, rtol=0, max_iter=1)
    assert bool(ObservedRate()(x0, model=once).isnan().all())
    spoiled = solved(lambda x: x / 2 + torch.log(1 - x0), x0, rtol=0, max_iter=9)
    assert ObservedRate()(x0, model=spoiled).isnan().tolist() == [True, True]
    unsolved = torch.nn.Identity()
    assert ObservedRate()(x0, model=unsolved).isnan().tolist() == [True, True]


def test_in_the_trainers_test_with_a_model_that_learns_nothing() -> None:
    physics = dinv.physics.Denoising()
    denoiser = dinv.models.MedianFilter()
    model = deq.optim.PGD(
        dinv.optim.L2(),
        dinv.optim.PnP(denoiser),
        stepsize=0.5,
        sigma_denoiser=0.1,
        DEQ=deq.ReTune(1, 4),
    )
    x = torch.rand(2, 1, 8, 8)
    data = [{"x": image, "y": image} for image in x]
    trainer = dinv.Trainer(
        model=model,
        physics=physics,
        optimizer=None,
        train_dataloader=None,
        metrics=ObservedRate(),
        device="cpu",
        save_path=None,
        verbose=False,
        show_progress_bar=False,
        compare_no_learning=True,
    )
    results = trainer.test(torch.utils.data.DataLoader(data, batch_size=2))
    assert 0 < results["ObservedRate"] < 1.5
    assert results["ObservedRate no learning"] != results["ObservedRate no learning"]
