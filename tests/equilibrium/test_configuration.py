"""Equilibrium and ReTune: arguments, iterations and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.optim import DEQConfig
from torch import Tensor

import deepinv_equilibrium as deq

from ..one_test import in_one_test
from ..optim.problems import plain_optimiser


def test_equilibrium_is_a_deepinv_DEQConfig_with_defaults() -> None:
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


@in_one_test(
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
def test_equilibrium_raises_for_wrong_arguments(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        deq.Equilibrium(**arguments)


def test_equilibrium_raises_for_fields_of_deepinv() -> None:
    with pytest.raises(TypeError, match="jacobian_free"):
        deq.Equilibrium(jacobian_free=True)


@in_one_test(
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
def test_retune_raises_for_wrong_arguments(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        deq.ReTune(**arguments)


LAYERS, RESTARTS = 3, 4


def restarted_blocks(problem: Any, values: dict[str, list[Tensor]]) -> Tensor:
    """Return T blocks of deepinv's iterations, of which autograd records the last."""
    plain = plain_optimiser(problem.algorithm)(**problem.arguments)
    iterator = plain.fixed_point.iterator
    iterator.has_cost = False
    priors = problem.model(DEQ=deq.ReTune(LAYERS, 1)).prior
    names = {"lambda_reg": "lambda"}
    physics = problem.physics()
    with torch.no_grad():
        est = plain.init_iterate_fn(problem.y.detach(), physics)["est"]
    for restart in range(RESTARTS):
        with torch.set_grad_enabled(restart == RESTARTS - 1):
            X: dict[str, Any] = {"est": est}  # FISTA starts counting at 0 in a block
            for k in range(LAYERS):
                parameters = {names.get(key, key): v[k] for key, v in values.items()}
                parameters = {**plain.update_params_fn(0), **parameters}
                X = iterator(
                    X, dinv.optim.L2(), priors[k], parameters, problem.y, physics
                )
            est = X["est"]
    return est[0]


def test_retune_agrees_with_an_explicit_loop_in_value_and_gradient(
    algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm, layers=LAYERS)
    weights = [denoiser.weight for denoiser in problem.denoisers]
    values = problem.parameters()
    leaves = [problem.y, problem.filter, *(v for vs in values.values() for v in vs)]
    for leaf in leaves:
        leaf.requires_grad_()
    expected = restarted_blocks(problem, values)
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
    # Parameters are learned as logarithms: d exp(s) / ds = exp(s).
    scales = [
        (model.params_algo[key][k] - model.params_algo[key].lower).detach()
        for key in keys
        for k in range(LAYERS)
    ]
    ones = [torch.ones((), dtype=x.dtype)] * (len(ours) - len(scales))
    for found, right, scale in zip(ours, exact, [*ones, *scales], strict=True):
        torch.testing.assert_close(found, right * scale, rtol=1e-12, atol=1e-12)


def test_gradient_error_of_retune_decreases_to_a_limit_that_decreases_with_layers(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("GD")  # the slowest algorithm

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


def test_retune_with_rtol_stops_each_sample_separately(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("PGD")
    problem.y[0] = 0  # the initial image is the fixed point
    model = problem.model(DEQ=deq.ReTune(layers=2, restarts=50, rtol=1e-6))
    model(problem.y, problem.physics()).sum().backward()
    assert model.solution.converged.tolist() == [True, True]
    few, many = model.solution.iterations.tolist()
    assert few == 1 < many < 50
    # The second sample goes on alone, after a comparison.
    assert problem.denoisers[0].evaluations <= 2 * (many + 2)


def test_retune_without_convergence_is_completed_without_a_warning(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("PGD")
    for rtol in (None, 1e-10):
        model = problem.model(DEQ=deq.ReTune(layers=2, restarts=3, rtol=rtol))
        model(problem.y, problem.physics())  # a warning would be an error
        assert [status.name for status in model.solution.status] == ["COMPLETED"] * 2
        assert model.solution.iterations.tolist() == [3, 3]


def test_retune_makes_layers_times_restarts_evaluations(
    algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm)
    model = problem.model(DEQ=deq.ReTune(layers=LAYERS, restarts=RESTARTS))
    model(problem.y, problem.physics()).sum().backward()
    assert problem.denoisers[0].evaluations == LAYERS * RESTARTS
    with torch.no_grad():
        model(problem.y, problem.physics())
    assert problem.denoisers[0].evaluations == 2 * LAYERS * RESTARTS
