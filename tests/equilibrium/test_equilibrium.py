"""Configurations: what is refused, and what ReTune computes and differentiates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.optim import DEQConfig
from torch import Tensor

import deepinv_equilibrium as deq


def test_a_configuration_is_one_of_deepinvs() -> None:
    config = deq.Equilibrium()
    assert isinstance(config, DEQConfig)
    assert (config.solver, config.adjoint) == (deq.Anderson(), deq.Implicit())
    assert (config.layers, config.on_failure) == (1, "warn")
    positional = deq.Equilibrium(deq.Picard(), deq.JacobianFree())
    assert (positional.solver, positional.adjoint) == (deq.Picard(), deq.JacobianFree())
    assert "jacobian_free" not in repr(config)
    assert repr(deq.ReTune(2, 3)) == (
        "ReTune(layers=2, restarts=3, rtol=None, on_failure='warn')"
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"solver": deq.GMRES()}, TypeError, "solver must be a FixedPointSolver"),
        ({"solver": "anderson"}, TypeError, "got 'anderson'"),
        ({"adjoint": deq.GMRES()}, TypeError, "adjoint must be an Adjoint"),
        ({"adjoint": deq.Implicit}, TypeError, "adjoint must be an Adjoint"),
        ({"adjoint": deq.SHINE()}, ValueError, r"solver=Broyden\(\)"),
        ({"adjoint": deq.Unrolled()}, ValueError, r"solver=Picard\("),
        ({"layers": 0}, ValueError, "layers must be an integer >= 1, got 0"),
        ({"layers": 1.0}, ValueError, "layers must be an integer >= 1, got 1.0"),
        ({"layers": True}, ValueError, "layers must be an integer >= 1, got True"),
        ({"on_failure": "print"}, ValueError, "on_failure must be one of"),
    ],
)
def test_bad_configurations_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        deq.Equilibrium(**arguments)


def test_fields_of_deepinv_mean_nothing_and_are_refused() -> None:
    with pytest.raises(TypeError, match="jacobian_free"):
        deq.Equilibrium(jacobian_free=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": 0, "restarts": 1}, "layers"),
        ({"layers": 1, "restarts": 0}, "restarts must be an integer >= 1, got 0"),
        ({"layers": 1, "restarts": 2.5}, "restarts must be an integer >= 1, got 2.5"),
        ({"layers": 1, "restarts": 1, "rtol": -1.0}, "rtol"),
        ({"layers": 1, "restarts": 1, "rtol": 1.0}, "rtol"),
        ({"layers": 1, "restarts": 1, "on_failure": "no"}, "on_failure"),
    ],
)
def test_bad_restarts_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deq.ReTune(**arguments)


LAYERS, RESTARTS = 3, 4


def hand_written(problem: Any, values: dict[str, list[Tensor]]) -> Tensor:
    """T - 1 untracked blocks and a tracked one, with deepinv's own iterator."""
    theirs = getattr(dinv.optim, problem.algorithm)()
    iterator = theirs.fixed_point.iterator
    iterator.has_cost = False
    priors = problem.model(DEQ=deq.ReTune(LAYERS, 1)).prior
    names = {"lambda_reg": "lambda"}
    physics = problem.physics()
    with torch.no_grad():
        x = physics.A_adjoint(problem.y)
    est = (x, x, problem.y.detach()) if problem.algorithm == "PDCP" else (x, x)
    for restart in range(RESTARTS):
        with torch.set_grad_enabled(restart == RESTARTS - 1):
            X: dict[str, Any] = {"est": est}  # FISTA counts from 0
            for k in range(LAYERS):
                parameters = {names.get(key, key): v[k] for key, v in values.items()}
                parameters = {"beta": 1.0, **parameters}
                X = iterator(
                    X, dinv.optim.L2(), priors[k], parameters, problem.y, physics
                )
            est = X["est"]
    return est[0]


def test_retune_is_a_hand_written_loop(
    algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm, layers=LAYERS)
    weights = [denoiser.weight for denoiser in problem.denoisers]
    values = problem.parameters()
    leaves = [problem.y, problem.filter, *(v for vs in values.values() for v in vs)]
    for leaf in leaves:
        leaf.requires_grad_()
    expected = hand_written(problem, values)
    exact = torch.autograd.grad(
        expected.square().sum(), [*weights, *leaves], materialize_grads=True
    )

    model = problem.model(DEQ=deq.ReTune(LAYERS, RESTARTS))
    x = model(problem.y, problem.physics())
    torch.testing.assert_close(x, expected, rtol=1e-12, atol=1e-12)
    keys = ["lambda" if name == "lambda_reg" else name for name in values]
    trained = [
        model.params_algo[key].get_parameter(str(k))
        for key in keys
        for k in range(LAYERS)
    ]
    ours = torch.autograd.grad(
        x.square().sum(), [*weights, problem.y, problem.filter, *trained]
    )
    # Learned as logarithms: the derivative of the value is the value.
    scales = [
        (model.params_algo[key][k] - model.params_algo[key].lower).detach()
        for key in keys
        for k in range(LAYERS)
    ]
    ones = [torch.ones((), dtype=x.dtype)] * (len(ours) - len(scales))
    for found, right, scale in zip(ours, exact, [*ones, *scales], strict=True):
        torch.testing.assert_close(found, right * scale, rtol=1e-12, atol=1e-12)


def test_the_gradient_error_falls_with_restarts_then_floors_and_falls_with_layers(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("GD")  # the slowest

    def gradient(config: deq.Equilibrium) -> Tensor:
        start = torch.zeros_like(problem.y)
        x = problem.model(DEQ=config)(problem.y, problem.physics(), init=start)
        (grad,) = torch.autograd.grad(x.square().sum(), problem.denoisers[0].weight)
        return grad

    exact = gradient(
        deq.Equilibrium(deq.Anderson(rtol=1e-13), deq.Implicit(deq.GMRES(rtol=1e-13)))
    )
    errors = {
        layers: [
            float((gradient(deq.ReTune(layers, restarts)) - exact).norm())
            for restarts in (1, 2, 4, 60, 80)
        ]
        for layers in (2, 6, 18)
    }
    for one, two, four, floor, again in errors.values():
        assert one > two > four >= floor * (1 - 1e-9)
        assert again == pytest.approx(floor, rel=1e-3)
    for fewer, more in ((2, 6), (6, 18)):
        pairs = zip(errors[fewer], errors[more], strict=True)
        assert all(error > 3 * smaller for error, smaller in pairs)


def test_a_tolerance_stops_restarting_each_sample_by_itself(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("PGD")
    problem.y[0] = 0  # starts at its fixed point
    model = problem.model(DEQ=deq.ReTune(layers=2, restarts=50, rtol=1e-6))
    model(problem.y, problem.physics()).sum().backward()
    assert model.solution.converged.tolist() == [True, True]
    few, many = model.solution.iterations.tolist()
    assert few == 1 < many < 50
    assert problem.denoisers[0].evaluations <= 2 * (many + 1)


def test_a_budget_that_is_spent_is_no_failure(make_problem: Callable[..., Any]) -> None:
    problem = make_problem("PGD")
    for rtol in (None, 1e-10):
        model = problem.model(DEQ=deq.ReTune(layers=2, restarts=3, rtol=rtol))
        model(problem.y, problem.physics())  # a warning would be an error
        assert [status.name for status in model.solution.status] == ["COMPLETED"] * 2
        assert model.solution.iterations.tolist() == [3, 3]


def test_restarts_cost_layers_times_restarts_evaluations(
    algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm)
    model = problem.model(DEQ=deq.ReTune(layers=LAYERS, restarts=RESTARTS))
    model(problem.y, problem.physics()).sum().backward()
    assert problem.denoisers[0].evaluations == LAYERS * RESTARTS
    with torch.no_grad():
        model(problem.y, problem.physics())
    assert problem.denoisers[0].evaluations == 2 * LAYERS * RESTARTS
