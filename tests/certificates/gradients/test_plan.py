from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound, Kind
from deepinv_equilibrium.certificates.gradients.planning import (
    BACKWARD_COST,
    Plan,
    cheapest,
    plan,
)
from deepinv_equilibrium.certificates.gradients.smooth_loss import SquaredError

from ...one_test import in_one_test
from ..known_equilibria import KnownModel, Rated


def make(model: KnownModel, loss: Any, tol: float, **kwargs: Any) -> Plan:
    kwargs = {"constants": model.block_constants, **kwargs}
    return plan(model.certificate, model, model.y, None, loss, tol, **kwargs)


def retune_error(model: KnownModel, loss: Any, planned: Plan) -> float:
    """Return the error of ReTune's gradient with the planned layers and restarts."""
    layers, restarts = planned
    model.DEQ = deq.ReTune(layers, restarts)
    step, x0 = model.fixed_point_problem(model.y)
    config = model.DEQ
    x = deq.fixed_point(step, x0, config.solver, config.adjoint).x
    (gradient,) = torch.autograd.grad(loss(x), model.theta)
    return float((gradient - model.exact_gradient(loss)).norm())


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("tol", [0.3, 1e-2, 1e-5])
def test_certified_plans_meet_the_tolerance(tol: float, affine: bool) -> None:
    for seed in range(12):
        # The step of every second model is a block of two layers.
        model = KnownModel(seed, deq.Equilibrium(layers=1 + seed % 2), affine=affine)
        loss = SquaredError(model.target)
        planned = make(model, loss, tol)
        assert planned.kind is Kind.CERTIFIED
        assert planned.layers % (1 + seed % 2) == 0
        assert planned.error.value <= planned.tolerance
        assert retune_error(model, loss, planned) <= planned.error.value


def test_plan_unpacks_and_prints_its_kind() -> None:
    model = KnownModel(0, deq.Equilibrium())
    loss = SquaredError(model.target)
    planned = make(model, loss, 1e-2)
    layers, restarts = planned
    assert (layers, restarts) == (planned.layers, planned.restarts)
    assert "certified" in str(planned)
    with torch.no_grad():
        assert make(model, loss, 1e-2) == planned
    estimated = make(model, loss, 1e-2, constants=None)
    assert estimated.kind is Kind.ESTIMATED
    assert "estimated" in str(estimated)
    assert "certified" not in str(estimated)
    estimated = make(model, lambda x: loss(x), 1e-2)
    assert estimated.kind is Kind.ESTIMATED


def test_plan_prints_the_scale_of_its_tolerance() -> None:
    said = set()
    for seed in range(6):
        for tol in (0.9, 1e-3):
            model = KnownModel(seed, deq.Equilibrium())
            loss = SquaredError(model.target)
            planned = make(model, loss, tol)
            exact = float(model.exact_gradient(loss).norm())
            assert planned.gradient_norm == pytest.approx(exact, abs=planned.tolerance)
            assert planned.gradient_norm <= planned.scale
            assert planned.tolerance == tol * planned.scale
            text = str(planned)
            assert f"= {tol:g} a\n" in text
            assert f"a = beta ||grad l|| / (1 - rho) = {planned.scale:.3e}" in text
            assert f"norm of the gradient {planned.gradient_norm:.3e}" in text
            vain = planned.error.value > planned.gradient_norm
            assert ("larger than the gradient itself" in text) == vain
            said.add(vain)
    assert said == {True, False}


def test_plan_raises_for_a_loss_of_two_arguments() -> None:
    with pytest.raises(TypeError, match="the reconstruction only"):
        make(KnownModel(0, deq.Equilibrium()), torch.nn.MSELoss(), 1e-2)


def test_plan_does_not_depend_on_the_scale_of_the_loss() -> None:
    model = KnownModel(0, deq.Equilibrium())
    plans = {
        tuple(make(model, SquaredError(model.target, weight), 1e-3))
        for weight in (1e-6, 1.0, 1e6)
    }
    assert len(plans) == 1


@pytest.mark.parametrize("tol", [0.1, 1e-2, 1e-3, 1e-6])
def test_plan_with_fewer_layers_or_restarts_misses_the_tolerance(tol: float) -> None:
    """All parts of the error have one sign in this one-dimensional problem. The loss is
    near its minimum, so that the fixed point determines the error, not the layers."""
    model = KnownModel(0, deq.Equilibrium(), affine=True)
    one = torch.ones(1, 1, dtype=torch.float64)
    model.W1, model.W2, model.u, model.y = 0.8 * one, one, 0 * one[0], one
    model.target = -30 * one
    with torch.no_grad():
        model.theta.copy_(torch.tensor([0.0, 0.0, 1.0]))
    loss = SquaredError(model.target)
    planned = make(model, loss, tol)
    assert retune_error(model, loss, planned) <= planned.tolerance
    for layers, restarts in (
        (planned.layers, planned.restarts - 1),
        (planned.layers - 1, planned.restarts),
    ):
        if layers and restarts:
            less = replace(planned, layers=layers, restarts=restarts)
            assert retune_error(model, loss, less) > planned.tolerance


@in_one_test("rate", [0.0, 0.3, 0.9, 0.99])
def test_cheapest_is_at_most_as_expensive_as_exhaustive_search(rate: float) -> None:
    def error(layers: int, restarts: int) -> float:
        return rate**layers + 50 * layers * rate ** (layers * restarts - 1)

    def cost(layers: int, restarts: int) -> float:
        return layers * (restarts + BACKWARD_COST)

    for tolerance in (0.5, 1e-2):
        found = cheapest(error, tolerance)
        assert error(*found) <= tolerance
        others = [
            cost(layers, restarts)
            for layers in range(1, 100)
            for restarts in range(1, int(cost(*found) / layers) + 2)
            if error(layers, restarts) <= tolerance
        ]
        assert cost(*found) <= min(others, default=math.inf)


def test_plan_raises_for_bad_rates_tolerances_and_losses() -> None:
    model = KnownModel(0, deq.Equilibrium())
    loss = SquaredError(model.target)
    arguments = (model, model.y, None)
    with pytest.raises(ValueError, match="a rate below 1"):
        plan(Rated(Bound(1.0)), *arguments, loss, 1e-2)
    for tol in (0.0, 1e-16, 1.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="tol must be between"):
            make(model, loss, tol)
    with pytest.raises(TypeError, match="tol must be a number"):
        make(model, loss, "1e-2")
    with pytest.raises(ValueError, match="Nothing can be planned"):
        make(model, lambda x: 0 * x.sum(), 1e-2)
    with pytest.raises(ValueError, match="ask for a larger tol"):
        cheapest(lambda layers, restarts: 1.0, 0.5)


def test_plan_with_a_poor_rate_adds_few_layers() -> None:
    """Computed products at the fixed point replace bounds by the rate."""
    model = KnownModel(0, deq.Equilibrium())
    loss = SquaredError(model.target)
    tight = make(model, loss, 1e-3)
    poor = plan(Rated(Bound(0.999)), model, model.y, None, loss, 1e-3, model.constants)
    assert poor.kind is Kind.CERTIFIED
    # A bound by the rate alone would need thousands of layers.
    assert poor.layers <= tight.layers + 30
    assert retune_error(model, loss, poor) <= poor.error.value


def test_plan_raises_for_a_tolerance_below_the_rounding_of_float32() -> None:
    model = KnownModel(0, deq.Equilibrium())
    for name in ("W1", "W2", "u", "y", "target"):
        setattr(model, name, getattr(model, name).float())
    model.float()
    loss = SquaredError(model.target)
    with pytest.raises(ValueError, match="float32"):
        plan(Rated(Bound(0.9)), model, model.y, None, loss, 1e-6)
    planned = plan(Rated(Bound(0.9)), model, model.y, None, loss, 1e-2, model.constants)
    assert planned.kind is Kind.ESTIMATED
