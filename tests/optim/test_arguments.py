"""Arguments that deepinv ignores or mutates are refused or copied."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.optim import PnP

import deepinv_equilibrium as deq

from ..one_test import in_one_test
from .problems import plain_optimiser

EQUILIBRIUM = deq.Equilibrium()
TWO_LAYERS = deq.Equilibrium(layers=2)


def make_pgd(**arguments: Any) -> deq.optim.PGD:
    """Return PGD, with a default data fidelity and a default prior."""
    parts = {"data_fidelity": dinv.optim.L2(), "prior": dinv.optim.Tikhonov()}
    return deq.optim.PGD(**{**parts, **arguments})


@in_one_test("config", [None, EQUILIBRIUM, deq.ReTune(1, 2), True])
def test_constructor_refuses_an_unknown_argument_with_a_hint(
    config: Any, algorithm: str
) -> None:
    optimiser = getattr(deq.optim, algorithm)
    with pytest.raises(TypeError, match=rf"^{algorithm} takes no argument 'stepsze'"):
        optimiser(stepsze=1.0, DEQ=config)
    with pytest.raises(TypeError, match="did you mean 'max_iter'"):
        optimiser(max_iters=7, DEQ=config)
    with pytest.raises(TypeError, match="It has: "):
        optimiser(zzz=7, DEQ=config)


def test_signature_has_every_argument_of_deepinv(algorithm: str) -> None:
    theirs = inspect.signature(plain_optimiser(algorithm)).parameters
    ours = inspect.signature(getattr(deq.optim, algorithm)).parameters
    assert {*theirs} - {"kwargs"} <= {*ours}
    assert {"DEQ", "anderson_acceleration", "verbose", "show_progress_bar"} <= {*ours}
    assert "kwargs" not in ours


def test_positional_arguments_are_bound_in_the_order_of_deepinv(
    make_denoiser: Callable[..., Any],
) -> None:
    fidelity, prior = dinv.optim.L2(), PnP(make_denoiser())
    model = deq.optim.PGD(fidelity, prior, 2.0, 0.5, DEQ=EQUILIBRIUM)
    assert model.data_fidelity[0] is fidelity
    assert model.prior[0] is prior
    values = model.state_dict()
    assert float(values["params_algo.lambda.0"]) == pytest.approx(2.0)
    assert float(values["params_algo.stepsize.0"]) == pytest.approx(0.5)
    with pytest.raises(TypeError, match="multiple values"):
        deq.optim.PGD(fidelity, data_fidelity=fidelity)


@pytest.mark.parametrize("config", [None, EQUILIBRIUM])
def test_trainable_params_raises_for_a_misspelt_name(config: Any) -> None:
    arguments = {"DEQ": config} if config else {"unfold": True}
    with pytest.raises(ValueError, match=r"'stepsiz'.*did you mean 'stepsize'"):
        make_pgd(trainable_params=["stepsiz"], **arguments)
    with pytest.raises(ValueError, match=r"'K_adj'.*no parameter of this algorithm"):
        make_pgd(trainable_params=["K_adj"], **arguments)


@pytest.mark.parametrize("alias", ["sigma_denoiser", "g_param"])
def test_trainable_params_accepts_the_aliases_of_deepinv(alias: str) -> None:
    names = ["lambda_reg", alias]
    model = make_pgd(trainable_params=names, DEQ=EQUILIBRIUM, **{alias: 0.1})
    trained = {key.split(".")[1] for key, _ in model.named_parameters()}
    assert trained == {"lambda", "g_param"}
    assert names == ["lambda_reg", alias]


@pytest.mark.parametrize("arguments", [{"DEQ": TWO_LAYERS}, {"max_iter": 2}])
def test_constructor_does_not_mutate_its_arguments(
    arguments: dict[str, Any], make_denoiser: Callable[..., Any]
) -> None:
    given = {
        "params_algo": {
            "stepsize": [0.5, 0.25],
            "lambda_reg": torch.tensor([1.0, 2.0]),
            "sigma_denoiser": 0.1,
        },
        "trainable_params": ["lambda_reg", "sigma_denoiser"],
        "prior": [PnP(make_denoiser()), PnP(make_denoiser())],
        "data_fidelity": [dinv.optim.L2(), dinv.optim.L2()],
    }
    kept = {name: copy.copy(value) for name, value in given.items()}
    make_pgd(**given, **arguments)
    make_pgd(**given, **arguments)
    for name, value in kept.items():
        assert type(given[name]) is type(value)
        assert list(given[name]) == list(value)
    assert given["params_algo"]["stepsize"] == [0.5, 0.25]
    assert given["params_algo"]["lambda_reg"].tolist() == [1.0, 2.0]


def test_training_does_not_change_given_tensors() -> None:
    stepsize = torch.tensor(0.5)
    model = make_pgd(stepsize=stepsize, DEQ=EQUILIBRIUM)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert float(stepsize) == 0.5
    assert float(model.state_dict()["params_algo.stepsize.0"]) > 1


@in_one_test(
    ("arguments", "name"),
    [
        ({"stepsize": [1.0, 2.0, 3.0]}, "stepsize"),
        ({"stepsize": torch.ones(3)}, "stepsize"),
        ({"lambda_reg": [1.0, 1.0, 1.0]}, "lambda"),
        ({"sigma_denoiser": (0.1, 0.1, 0.1)}, "g_param"),
        ({"prior": [dinv.optim.Tikhonov() for _ in range(3)]}, "prior"),
        ({"data_fidelity": [dinv.optim.L2() for _ in range(3)]}, "data_fidelity"),
        ({"params_algo": {"stepsize": [1.0] * 3}}, "stepsize"),
    ],
)
def test_constructor_refuses_lists_of_another_length_than_the_block(
    arguments: dict[str, Any], name: str
) -> None:
    with pytest.raises(ValueError, match=rf"{name} has 3 values .* layers=2"):
        make_pgd(**arguments, DEQ=TWO_LAYERS)
    with pytest.raises(ValueError, match=r"Equilibrium\(layers=K\) and ReTune"):
        make_pgd(**arguments, DEQ=EQUILIBRIUM)


def test_constructor_refuses_lists_shorter_than_the_block() -> None:
    for arguments in (
        {"stepsize": [1.0, 2.0]},
        {"prior": [dinv.optim.Tikhonov(), dinv.optim.Tikhonov()]},
    ):
        with pytest.raises(ValueError, match=r"stepsize|prior"):
            make_pgd(**arguments, DEQ=deq.ReTune(layers=3, restarts=2))


def test_parameters_may_be_tensors_of_any_shape(
    make_problem: Callable[..., Any],
) -> None:
    """Tensors without axes, with one value a sample, and with one value a layer."""
    problem = make_problem("PGD")
    physics = problem.physics()

    def run(stepsize: Any, layers: int = 1, **arguments: Any) -> torch.Tensor:
        model = problem.model(
            stepsize=stepsize,
            prior=problem.model().prior[0],
            data_fidelity=dinv.optim.L2(),
            trainable_params=[],
            DEQ=deq.ReTune(layers, restarts=2),
            **arguments,
        )
        return model(problem.y, physics).detach()

    half, quarter = run(0.5), run(0.25)
    assert torch.equal(run(torch.tensor(0.5)), half)
    assert torch.equal(run([0.5]), half)
    params = {"stepsize": torch.tensor(0.5), "lambda": 0.25, "g_param": 0.25}
    assert torch.equal(run(1.0, params_algo=params), half)
    assert torch.equal(run(torch.tensor([0.5])), half)
    per_sample = run(torch.tensor([0.5, 0.25]).view(2, 1, 1, 1))
    torch.testing.assert_close(per_sample[0], half[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(per_sample[1], quarter[1], rtol=1e-12, atol=1e-12)
    layered = [0.5, 0.25]
    assert torch.equal(run(torch.tensor(layered), 2), run(layered, 2))
    assert not torch.equal(run(layered, 2), run(layered[::-1], 2))


@pytest.mark.parametrize("shape", [(), (1,), (2, 1, 1, 1)])
def test_only_trainable_params_are_trained(shape: tuple[int, ...]) -> None:
    stepsize = torch.full(shape, 0.5)
    model = make_pgd(
        stepsize=stepsize, lambda_reg=0.5, trainable_params=["lambda"], DEQ=EQUILIBRIUM
    )
    assert [key for key, _ in model.named_parameters()] == ["params_algo.lambda.0"]
    trained = make_pgd(
        stepsize=stepsize, trainable_params=["stepsize"], DEQ=EQUILIBRIUM
    )
    (parameter,) = trained.parameters()
    assert parameter.numel() == stepsize.numel()


def test_parameter_without_value_is_not_trained() -> None:
    model = make_pgd(DEQ=EQUILIBRIUM)
    trained = {key.split(".")[1] for key, _ in model.named_parameters()}
    assert trained == {"stepsize", "lambda", "beta"}
    with pytest.raises(ValueError, match=r"'g_param', whose value is None"):
        make_pgd(trainable_params=["g_param"], DEQ=EQUILIBRIUM)
    for name in ("K", "K_adjoint"):
        with pytest.raises(ValueError, match=f"'{name}', whose value is"):
            deq.optim.PDCP(trainable_params=[name], DEQ=EQUILIBRIUM)


@in_one_test(
    ("algorithm", "arguments", "refused"),
    [
        ("GD", {}, True),
        ("MD", {}, True),
        ("PGD", {"g_first": True}, True),
        ("PMD", {"g_first": True}, True),
        ("FISTA", {"g_first": True}, True),
        ("PGD", {}, False),
        ("HQS", {"g_first": True}, False),
        ("ADMM", {"g_first": True}, False),
        ("DRS", {"g_first": True}, False),
    ],
)
def test_constructor_refuses_pnp_where_the_prior_needs_a_gradient(
    algorithm: str,
    arguments: dict[str, Any],
    refused: bool,
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem(algorithm)
    arguments = {**arguments, "prior": PnP(problem.denoisers[0]), "DEQ": EQUILIBRIUM}
    if refused:
        with pytest.raises(ValueError, match=rf"^{algorithm} takes gradient .*RED\("):
            problem.model(**arguments)
    else:
        x = problem.model(**arguments)(problem.y, problem.physics())
        assert bool(x.isfinite().all())


@in_one_test("name", ["stepsize", "lambda_reg", "g_param"])
@in_one_test("value", [0.0, -1.0, float("nan"), [0.5, 0.0]])
def test_constructor_refuses_a_trained_parameter_outside_its_domain(
    name: str, value: Any
) -> None:
    config = deq.Equilibrium(layers=2)
    with pytest.raises(ValueError, match=r"cannot be trained: .* greater than 0"):
        make_pgd(**{name: value}, DEQ=config)


@in_one_test("name", ["stepsize", "lambda_reg", "g_param"])
@in_one_test("value", [0.0, [0.5, 0.0]])
def test_constructor_accepts_zero_for_a_fixed_parameter(name: str, value: Any) -> None:
    config = deq.Equilibrium(layers=2)
    untrained = make_pgd(**{name: value}, trainable_params=[], DEQ=config)
    assert not list(untrained.parameters())


def test_fista_refuses_to_train_a_momentum_of_two() -> None:
    with pytest.raises(ValueError, match=r"a=2 cannot be trained: .* greater than 2"):
        deq.optim.FISTA(a=2, DEQ=EQUILIBRIUM)


@in_one_test("config", ["equilibrium", 3, deq.Anderson(), deq.Equilibrium])
def test_constructor_refuses_another_type_of_DEQ(config: Any) -> None:
    with pytest.raises(TypeError, match=r"DEQ must be Equilibrium\(\.\.\.\)"):
        make_pgd(DEQ=config)


@in_one_test(
    ("values", "error", "message"),
    [
        ({"sigma_denoiser": -0.03}, ValueError, "sigma_denoiser"),
        ({"sigma_denoiser": float("nan")}, ValueError, "finite"),
        ({"sigma_denoiser": "0.03"}, TypeError, "the string '0.03'"),
        ({"stepsize": -1.0}, ValueError, "stepsize must be finite and nonnegative"),
        ({"stepsize": -torch.ones(1, 1, 1, 1)}, ValueError, "stepsize"),
        ({"lambda_reg": float("inf")}, ValueError, "lambda must be finite"),
    ],
)
def test_constructor_refuses_fixed_values_outside_their_domain(
    values: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_pgd(
            data_fidelity=dinv.optim.L2(),
            prior=dinv.optim.Tikhonov(),
            trainable_params=[],
            DEQ=deq.Equilibrium(),
            **values,
        )


def test_forward_raises_for_swapped_measurement_and_physics() -> None:
    model = make_pgd(
        data_fidelity=dinv.optim.L2(), prior=dinv.optim.Tikhonov(), DEQ=True
    )
    with pytest.raises(TypeError, match=r"model\(y, physics\)"):
        model(dinv.physics.Denoising(), torch.ones(1, 1, 2, 2))
