"""Metrics that read the report of a model's last solve."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.loss import Converged, FinalResidual, ObservedRate

from ..one_test import in_one_test

F64 = torch.float64


def solved(step: Any, x0: torch.Tensor, **options: Any) -> SimpleNamespace:
    solver = deq.Picard(**options)
    return SimpleNamespace(
        solution=deq.fixed_point(step, x0, solver, on_failure="ignore")
    )


def test_observed_rate_equals_ratio_of_geometric_residuals() -> None:
    rates = torch.tensor([[0.5], [-0.9], [0.0]], dtype=F64)
    x0 = torch.full((3, 4), 3.0, dtype=F64)
    model = solved(lambda x: rates * x + 1, x0, rtol=1e-8, max_iter=400)
    # The samples stop after different numbers of iterations.
    assert len(set(model.solution.iterations.tolist())) == 3
    observed = ObservedRate()(x_net=x0, x=None, y=x0, physics=None, model=model)
    torch.testing.assert_close(observed, rates.abs()[:, 0], rtol=1e-6, atol=1e-12)


def test_observed_rate_ignores_first_half_of_solve() -> None:
    rates = torch.tensor([0.01, 0.9], dtype=F64)
    scale = torch.tensor([1e3, 1.0], dtype=F64)
    model = solved(
        lambda x: rates * x + scale, torch.zeros(1, 2, dtype=F64), rtol=0, max_iter=20
    )
    value = ObservedRate(reduction="mean")(torch.zeros(1, 2), model=model)
    assert float(value) == pytest.approx(0.9, rel=1e-6)


@in_one_test("max_iter", [2, 3, 4, 5])
def test_observed_rate_of_short_solve(max_iter: int) -> None:
    model = solved(
        lambda x: 0.5 * x + 1, torch.zeros(1, 1, dtype=F64), rtol=0, max_iter=max_iter
    )
    assert float(ObservedRate()(torch.zeros(1, 1), model=model)) == pytest.approx(0.5)


def test_observed_rate_is_nan_after_one_iteration_or_nonfinite_residuals() -> None:
    x0 = torch.tensor([[0.0], [1.0]], dtype=F64)
    once = solved(lambda x: 0.5 * x, x0, rtol=0, max_iter=1)
    assert bool(ObservedRate()(x0, model=once).isnan().all())
    spoiled = solved(lambda x: x / 2 + torch.log(1 - x0), x0, rtol=0, max_iter=9)
    assert ObservedRate()(x0, model=spoiled).isnan().tolist() == [True, True]


def test_final_residual_and_converged_read_the_report() -> None:
    rates = torch.tensor([[0.5], [0.99]], dtype=F64)
    x0 = torch.zeros(2, 3, dtype=F64)
    model = solved(lambda x: rates * x + 1, x0, rtol=1e-3, max_iter=30)
    assert torch.equal(FinalResidual()(x0, model=model), model.solution.residual)
    assert Converged()(x0, model=model).tolist() == [1.0, 0.0]
    assert float(Converged(reduction="mean")(x0, model=model)) == 0.5
    assert FinalResidual().lower_better
    assert not Converged().lower_better


@pytest.mark.parametrize("metric", [ObservedRate, FinalResidual, Converged])
def test_metrics_are_nan_for_model_without_solution(metric: Any) -> None:
    x = torch.zeros(2, 3)
    assert metric()(x, model=torch.nn.Identity()).isnan().tolist() == [True, True]


def test_trainer_prints_metrics_and_nan_for_no_learning() -> None:
    physics = dinv.physics.Denoising()
    model = deq.optim.PGD(
        dinv.optim.L2(),
        dinv.optim.PnP(dinv.models.MedianFilter()),
        stepsize=0.5,
        sigma_denoiser=0.1,
        DEQ=deq.Equilibrium(deq.Picard(rtol=1e-2, max_iter=50)),
    )
    data = [{"x": image, "y": image} for image in torch.rand(2, 1, 8, 8)]
    trainer = dinv.Trainer(
        model=model,
        physics=physics,
        optimizer=None,
        train_dataloader=None,
        metrics=[ObservedRate(), FinalResidual(), Converged()],
        device="cpu",
        save_path=None,
        verbose=False,
        show_progress_bar=False,
        compare_no_learning=True,
    )
    results = trainer.test(torch.utils.data.DataLoader(data, batch_size=2))
    assert 0 < results["ObservedRate"] < 1
    assert 0 < results["FinalResidual"] <= 1e-2
    assert results["Converged"] == 1
    for name in ("ObservedRate", "FinalResidual", "Converged"):
        assert math.isnan(results[f"{name} no learning"])
