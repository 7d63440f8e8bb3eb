"""deepinv's DEQ options: the solvers that they become, and refused options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.optim import AndersonAccelerationConfig, BacktrackingConfig, DEQConfig

import deepinv_equilibrium as deq

from ..one_test import in_one_test
from .problems import IMAGE

PARTS = {"data_fidelity": dinv.optim.L2(), "prior": dinv.optim.Tikhonov()}


def equilibrium(**arguments: Any) -> deq.Equilibrium:
    return deq.optim.PGD(**PARTS, **arguments).DEQ


@in_one_test(
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


@in_one_test("config", [deq.Equilibrium(), deq.ReTune(2, 3)])
@in_one_test(
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


@in_one_test("config", [True, DEQConfig(), deq.Equilibrium()])
@in_one_test("value", [True, BacktrackingConfig()])
def test_constructor_refuses_backtracking_with_DEQ(config: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=r"backtracking=.* no fixed step"):
        deq.optim.PGD(DEQ=config, backtracking=value)


@in_one_test(
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stepsize", 0.5),
        ("lambda_reg", 0.25),
        ("g_param", 0.01 * torch.ones(1, 1, *IMAGE[1:])),
        ("beta", 0.875),
    ],
)
@pytest.mark.parametrize("trainable", [None, []])
def test_list_of_equal_values_is_one_value_with_DEQ_True(
    name: str, value: Any, trainable: list[str] | None, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem("ADMM")

    def run(values: Any, priors: int) -> tuple[torch.Tensor, list[str]]:
        model = problem.model(
            data_fidelity=[dinv.optim.L2() for _ in range(priors)],
            prior=[problem.model().prior[0]] * priors,
            **{name: values},
            trainable_params=trainable,
            DEQ=True,
            max_iter=6,
        )
        return model(problem.y, problem.physics()), [
            k for k, _ in model.named_parameters()
        ]

    (one, keys), (several, same) = run([value], 1), run([value] * 6, 6)
    assert torch.equal(one, several)
    assert keys == same


def test_unequal_lists_are_refused_with_DEQ_True(
    make_problem: Callable[..., Any],
) -> None:
    def build(**arguments: Any) -> deq.optim.PGD:
        return deq.optim.PGD(**{**PARTS, "DEQ": True, "max_iter": 3, **arguments})

    denoisers = [make_problem("PGD").denoisers[0] for _ in range(3)]
    for name, values in {
        "stepsize": [0.5, 0.5, 0.4],
        "lambda_reg": torch.tensor([1.0, 1.0, 2.0]),
        "data_fidelity": [dinv.optim.L2(s) for s in (1.0, 1.0, 2.0)],
        # Equal weights of different objects would be trained apart.
        "prior": [dinv.optim.PnP(denoiser) for denoiser in denoisers],
    }.items():
        match = rf"{name.removesuffix('_reg')} has 3 values .*layers=1.*equal values"
        with pytest.raises(ValueError, match=match):
            build(**{name: values})
    assert len(build(prior=[dinv.optim.PnP(denoisers[0])] * 3).prior) == 1
    assert len(build(stepsize=[0.5] * 3).params_algo["stepsize"]) == 1


def test_merged_lists_fit_a_block_that_is_set_later() -> None:
    model = deq.optim.PGD(**PARTS, stepsize=[0.5] * 4, max_iter=4, DEQ=True)
    model.DEQ = deq.ReTune(layers=6, restarts=2)
    y = torch.rand(1, 1, 4, 4)
    assert bool(model(y, dinv.physics.Denoising()).isfinite().all())


@pytest.mark.parametrize("config", [True, deq.Equilibrium(), deq.ReTune(2, 3)])
def test_unfold_is_True_with_DEQ_as_in_deepinv(config: Any) -> None:
    assert deq.optim.PGD(**PARTS, DEQ=config).unfold


def test_has_converged_reports_the_last_call() -> None:
    model = deq.optim.PGD(**PARTS, DEQ=True, max_iter=50, early_stop=True)
    y = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert not model.has_converged
    model(y, dinv.physics.Denoising())
    assert model.has_converged
    model.DEQ = deq.Equilibrium(deq.Picard(max_iter=1), on_failure="ignore")
    model(y, dinv.physics.Denoising())
    assert not model.has_converged


@pytest.mark.parametrize("algorithm", ["GD", "MD"])
def test_g_first_is_refused_where_the_order_has_no_meaning(algorithm: str) -> None:
    with pytest.raises(TypeError, match=f"{algorithm} takes no argument 'g_first'"):
        getattr(deq.optim, algorithm)(**PARTS, g_first=True, DEQ=True)


@pytest.mark.parametrize("config", [True, deq.Equilibrium(), deq.ReTune(2, 3)])
def test_call_takes_the_keyword_of_self_supervised_losses(config: Any) -> None:
    model = deq.optim.PGD(**PARTS, DEQ=config)
    y = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    physics = dinv.physics.Denoising()
    x = model(y, physics, update_parameters=True)
    assert torch.equal(x, model(y, physics))
