"""deepinv's DEQ options: the solvers that they become, and refused options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.optim import AndersonAccelerationConfig, BacktrackingConfig, DEQConfig

import deepinv_equilibrium as deq

PARTS = {"data_fidelity": dinv.optim.L2(), "prior": dinv.optim.Tikhonov()}


def equilibrium(**arguments: Any) -> deq.Equilibrium:
    return deq.optim.PGD(**PARTS, **arguments).DEQ


@pytest.mark.parametrize(
    ("arguments", "solver", "adjoint"),
    [
        (
            {"DEQ": True},
            deq.Picard(max_iter=100, rtol=0.0),
            deq.Implicit(deq.Picard(max_iter=50, rtol=1e-5)),
        ),
        (
            {"DEQ": DEQConfig(), "max_iter": 7, "early_stop": True, "thres_conv": 1e-3},
            deq.Picard(max_iter=7, rtol=1e-3),
            deq.Implicit(deq.Picard(max_iter=50, rtol=1e-3)),
        ),
        (
            {"DEQ": DEQConfig(jacobian_free=True), "early_stop": False},
            deq.Picard(max_iter=100, rtol=0.0),
            deq.JacobianFree(),
        ),
        (
            {"DEQ": DEQConfig(max_iter_backward=9)},
            deq.Picard(max_iter=100, rtol=0.0),
            deq.Implicit(deq.Picard(max_iter=9, rtol=1e-5)),
        ),
        (
            {
                "DEQ": DEQConfig(
                    anderson_acceleration_backward=True,
                    history_size_backward=4,
                    beta_backward=0.5,
                    max_iter_backward=8,
                )
            },
            deq.Picard(max_iter=100, rtol=0.0),
            deq.Implicit(deq.Anderson(max_iter=8, rtol=1e-5, history_size=4, beta=0.5)),
        ),
        (
            {"DEQ": True, "anderson_acceleration": True, "early_stop": True},
            deq.Anderson(max_iter=100, rtol=1e-5, history_size=10, beta=0.9),
            deq.Implicit(deq.Picard(max_iter=50, rtol=1e-5)),
        ),
        (
            {
                "DEQ": True,
                "anderson_acceleration": AndersonAccelerationConfig(3, 0.7),
                "max_iter": 20,
            },
            deq.Anderson(max_iter=20, rtol=0.0, history_size=3, beta=0.7),
            deq.Implicit(deq.Picard(max_iter=50, rtol=1e-5)),
        ),
        (
            {"DEQ": True, "anderson_acceleration": False, "backtracking": False},
            deq.Picard(max_iter=100, rtol=0.0),
            deq.Implicit(deq.Picard(max_iter=50, rtol=1e-5)),
        ),
    ],
)
def test_deepinv_options_become_solver_and_adjoint(
    arguments: dict[str, Any],
    solver: deq.fixed_points.FixedPointSolver,
    adjoint: deq.fixed_points.Adjoint,
) -> None:
    config = equilibrium(**arguments)
    assert (config.solver, config.adjoint, config.layers) == (solver, adjoint, 1)


def test_deepinv_options_are_accepted_by_every_algorithm(algorithm: str) -> None:
    model = getattr(deq.optim, algorithm)(DEQ=True, max_iter=5, **PARTS)
    assert model.DEQ.solver == deq.Picard(max_iter=5, rtol=0.0)
    assert getattr(deq.optim, algorithm)(DEQ=False).DEQ is None


@pytest.mark.parametrize("config", [deq.Equilibrium(), deq.ReTune(2, 3)])
@pytest.mark.parametrize(
    "option",
    [
        {"max_iter": 100},  # the default value, given explicitly
        {"early_stop": True},
        {"thres_conv": 1e-3},
        {"crit_conv": "residual"},
        {"anderson_acceleration": True},
    ],
)
def test_constructor_refuses_options_beside_a_configuration(
    option: dict[str, Any], config: deq.Equilibrium, algorithm: str
) -> None:
    (name,) = option
    with pytest.raises(
        ValueError, match=f"^{name}=.* beside DEQ={type(config).__name__}"
    ):
        getattr(deq.optim, algorithm)(DEQ=config, **option)


@pytest.mark.parametrize("config", [True, DEQConfig(), deq.Equilibrium()])
@pytest.mark.parametrize("value", [True, BacktrackingConfig()])
def test_constructor_refuses_backtracking_with_DEQ(config: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=r"backtracking=.* no fixed step"):
        deq.optim.PGD(DEQ=config, backtracking=value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crit_conv": "cost"}, "crit_conv='cost' is not available with DEQ"),
        (
            {"anderson_acceleration": AndersonAccelerationConfig(eps=1e-3)},
            r"anderson_acceleration\.eps=0.001: deepinv's absolute ridge",
        ),
        (
            {"anderson_acceleration": AndersonAccelerationConfig(full_backprop=True)},
            "full_backprop=True has no meaning",
        ),
        ({"DEQ": DEQConfig(eps_backward=1e-2)}, r"DEQConfig\.eps_backward=0.01"),
        ({"DEQ": DEQConfig(max_iter_backward=0)}, "max_iter must be an integer >= 1"),
        ({"max_iter": 0}, "max_iter must be an integer >= 1, got 0"),
        ({"early_stop": True, "thres_conv": -1.0}, "rtol must be in"),
    ],
)
def test_constructor_refuses_deepinv_options_without_meaning(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        deq.optim.PGD(**{"DEQ": True, **arguments})


def test_deepinv_configuration_gives_the_exact_gradient(
    algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm)
    weight = problem.denoisers[0].weight

    def gradient(**config: Any) -> torch.Tensor:
        x = problem.model(**config)(problem.y, problem.physics())
        return torch.autograd.grad(x.square().sum(), weight)[0]

    exact = gradient(
        DEQ=deq.Equilibrium(
            deq.Anderson(rtol=1e-12), deq.Implicit(deq.GMRES(rtol=1e-12))
        )
    )
    found = gradient(
        DEQ=DEQConfig(max_iter_backward=400),
        max_iter=400,
        early_stop=True,
        thres_conv=1e-11,
    )
    torch.testing.assert_close(found, exact, rtol=1e-8, atol=1e-9)
