"""Parameters learned as logarithms: values, gradients and checkpoints."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.optim.trained_parameters import TrainedParameters

from ..one_test import in_one_test
from .problems import plain_optimiser

PARTS = {"data_fidelity": dinv.optim.L2(), "prior": dinv.optim.Tikhonov()}


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=4), st.booleans())
def test_indexing_returns_the_given_values(values: list[float], momentum: bool) -> None:
    lower = 2.0 if momentum else 0.0
    natural = [torch.tensor(lower + v, dtype=torch.float64) for v in values]
    natural = [v for v in natural if v > lower]
    trained = TrainedParameters("a" if momentum else "stepsize", natural)
    assert len(trained) == len(natural) == len(list(trained))
    for found, value in zip(trained, natural, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-12, atol=0)
    copy = TrainedParameters(trained.name, [v + 1 for v in natural])
    copy.load_state_dict(trained.state_dict())
    for found, value in zip(copy, trained, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["stepsize", "a"])
@given(value=st.floats(1e-3, 1e3), step=st.floats(-150, 50))
def test_values_stay_in_the_domain_after_any_step_and_can_be_saved(
    name: str, dtype: torch.dtype, value: float, step: float
) -> None:
    trained = TrainedParameters(name, [torch.tensor(2 + value, dtype=dtype)])
    with torch.no_grad():
        trained.get_parameter("0").add_(step)
        assert trained.lower < float(trained[0]) < math.inf
        again = TrainedParameters(name, [torch.tensor(3.0, dtype=dtype)])
        again.load_state_dict(trained.state_dict())
        torch.testing.assert_close(again[0], trained[0])


def test_gradients_are_chained_through_the_logarithm() -> None:
    trained = TrainedParameters("a", [torch.tensor(3.5, dtype=torch.float64)])
    (trained[0] ** 2).backward()
    # a = 2 + 1.5 e^p, d a^2 / dp = 2 a (a - 2)
    assert float(trained.get_parameter("0").grad) == pytest.approx(2 * 3.5 * 1.5)


def test_numbers_become_float32_and_tensors_keep_their_dtype() -> None:
    dtypes = [
        TrainedParameters("stepsize", [value])[0].dtype
        for value in (1, 0.5, torch.tensor(2), torch.tensor(2.0, dtype=torch.float64))
    ]
    assert dtypes == [torch.float32] * 3 + [torch.float64]


def test_indexing_follows_the_rules_of_a_list() -> None:
    trained = TrainedParameters("stepsize", [1.0, 2.0])
    assert float(trained[-1].detach()) == pytest.approx(2.0)
    for index in (2, -3):
        with pytest.raises(IndexError, match="stepsize has 2 values"):
            trained[index]
    assert "1.0" in repr(trained)


@pytest.mark.parametrize("name", ["stepsize", "a"])
def test_first_value_is_exactly_the_given_one(name: str) -> None:
    values = torch.rand(5, generator=torch.Generator().manual_seed(0)) + 2.1
    for value in values:
        assert torch.equal(TrainedParameters(name, [value]).value(0), value)


@pytest.mark.parametrize("name", ["stepsize", "a"])
@pytest.mark.parametrize("change", ["set", "load"])
def test_weight_decay_pulls_to_the_value_of_the_constructor(
    name: str, change: str
) -> None:
    start, later = (torch.tensor(v, dtype=torch.float64) for v in (2.05, 2.5))
    trained = TrainedParameters(name, [start])
    if change == "set":
        trained[0] = later
    else:
        trained.load_state_dict({"0": later})
    torch.testing.assert_close(trained.value(0), later)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=0.1, weight_decay=1.0)
    previous = float(later)
    for _ in range(200):
        trained.get_parameter("0").grad = torch.zeros_like(start)
        optimizer.step()
        assert float(start) < trained.value(0).item() < previous
        previous = trained.value(0).item()
    torch.testing.assert_close(trained.value(0), start, rtol=1e-8, atol=0)


def test_training_resumes_from_a_checkpoint_as_if_it_had_not_stopped() -> None:
    def build() -> tuple[TrainedParameters, torch.optim.Optimizer]:
        start = torch.tensor([0.5, 2.0], dtype=torch.float64)
        trained = TrainedParameters("stepsize", [start])
        return trained, torch.optim.AdamW(trained.parameters(), 0.1, weight_decay=0.3)

    def train(trained: TrainedParameters, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            (trained.value(0) - 3).square().sum().backward()
            optimizer.step()

    trained, optimizer = build()
    train(trained, optimizer)
    again, resumed = build()
    again.load_state_dict(trained.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(trained, optimizer)
    train(again, resumed)
    torch.testing.assert_close(again.value(0), trained.value(0), rtol=1e-12, atol=0)


def test_values_can_be_set_and_clamped() -> None:
    trained = TrainedParameters("stepsize", [torch.tensor([0.5, 4.0]), 2.0])
    trained[-1] = 3
    assert trained.value(1).item() == pytest.approx(3.0)
    assert trained.clamp_(min=1.0, max=3.5) is trained
    assert trained.value(0).tolist() == pytest.approx([1.0, 3.5])
    assert trained.value(1).item() == pytest.approx(3.0)
    trained[0] = trained[0] / 2
    assert trained.value(0).tolist() == pytest.approx([0.5, 1.75])
    with pytest.raises(ValueError, match=r"stepsize\[1\] = 0.0 must be greater than 0"):
        trained[1] = 0.0
    with pytest.raises(ValueError, match="must be greater than 2"):
        TrainedParameters("a", [3.0]).clamp_(max=2.0)


def edit_in_place() -> dict[str, Callable[[Any], Any]]:
    def multiply(value: torch.Tensor) -> None:
        value *= 2

    def assign(value: torch.Tensor) -> None:
        value.data = torch.ones(())

    return {
        "clamp": lambda value: value.clamp_(max=1),
        "data": lambda value: value.data.clamp_(max=1),
        "detach": lambda value: value.detach().fill_(1),
        "function": lambda value: torch.clamp_(value, max=1),
        "foreach": lambda value: torch._foreach_mul_([value], 2.0),
        "item": lambda value: value.__setitem__((), 1.0),
        "multiply": multiply,
        "assign": assign,
    }


@in_one_test("edit", edit_in_place())
def test_in_place_edit_of_a_trained_value_raises_and_names_the_setter(
    edit: str,
) -> None:
    value = deq.optim.PGD(**PARTS, DEQ=True).params_algo["stepsize"][0]
    with pytest.raises(RuntimeError, match=r"cannot edit .*\['stepsize'\]\.clamp_\("):
        edit_in_place()[edit](value)


def test_optimiser_of_trained_values_raises_and_names_their_logarithms() -> None:
    stepsize = deq.optim.PGD(**PARTS, DEQ=True).params_algo["stepsize"]
    for use in (
        lambda: torch.optim.Adam(list(stepsize)),
        lambda: torch.optim.Adam([{"params": stepsize}]),
        lambda: stepsize[0].grad,
    ):
        with pytest.raises(RuntimeError, match=r"optimisers take .*\.parameters\(\)"):
            use()
    torch.optim.Adam(stepsize.parameters())


def test_trained_value_computes_as_a_plain_tensor() -> None:
    value = TrainedParameters("stepsize", [0.5])[0]
    assert type(2 * value) is torch.Tensor
    assert f"{value:.2f}" == "0.50"
    model = deq.optim.PGD(**PARTS, DEQ=True)
    assert type(model.update_params_fn(0)["stepsize"]) is torch.Tensor


def test_backward_works_after_buffers_were_written_between_two_calls() -> None:
    # DistributedDataParallel does so at each call of a model.
    trained = TrainedParameters("stepsize", [0.5])
    first = trained.value(0) ** 2
    for buffer in trained.buffers():
        buffer.copy_(buffer)
    (first + trained.value(0)).backward()
    gradient = trained.get_parameter("0").grad
    assert gradient is not None
    assert gradient.item() == pytest.approx(0.5 * (2 * 0.5 + 1))


@in_one_test("layers", [1, 3])
def test_state_dict_has_the_keys_of_the_unfolded_model(
    layers: int, algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm, layers)
    arguments = deepinv_arguments(problem)
    theirs = plain_optimiser(algorithm)(unfold=True, max_iter=layers, **arguments)
    ours = getattr(deq.optim, algorithm)(DEQ=deq.ReTune(layers, 2), **arguments)
    before = theirs.state_dict()
    after = ours.state_dict()
    assert after.keys() == before.keys()
    for key, value in before.items():
        assert after[key].dtype == value.dtype
        torch.testing.assert_close(after[key], value, rtol=1e-6, atol=0)


@pytest.mark.parametrize("layers", [1, 3])
def test_checkpoints_load_in_both_directions(
    layers: int, algorithm: str, make_problem: Callable[..., Any], tmp_path: Any
) -> None:
    problem = make_problem(algorithm, layers)
    other = make_problem(algorithm, layers)
    arguments, elsewhere = deepinv_arguments(problem), deepinv_arguments(other)
    for name in ("stepsize", "lambda_reg", "g_param"):
        elsewhere[name] = [1.25 * value for value in elsewhere[name]]
    with torch.no_grad():
        for denoiser in other.denoisers:
            denoiser.weight.mul_(0.5)
    theirs = plain_optimiser(algorithm)(unfold=True, max_iter=layers, **arguments)
    config = deq.Equilibrium(deq.Picard(max_iter=1, rtol=0.0), layers=layers)
    ours = getattr(deq.optim, algorithm)(DEQ=config, **elsewhere)
    expected = theirs(problem.y, problem.physics())
    assert not torch.allclose(ours(problem.y, problem.physics()), expected, rtol=1e-3)

    path = tmp_path / "checkpoint.pt"
    torch.save(theirs.state_dict(), path)
    ours.load_state_dict(torch.load(path, weights_only=True))
    found = ours(problem.y, problem.physics())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)  # float32 logs

    # deepinv multiplies numbers of an algorithm in their own precision.
    ours.double()
    theirs.double()
    with torch.no_grad():
        for parameter in ours.params_algo.parameters():
            parameter.add_(0.1)
    torch.save(ours.state_dict(), path)
    theirs.load_state_dict(torch.load(path, weights_only=True))
    torch.testing.assert_close(
        theirs(problem.y, problem.physics()),
        ours(problem.y, problem.physics()),
        rtol=1e-12,
        atol=1e-12,
    )


def deepinv_arguments(problem: Any) -> dict[str, Any]:
    """Return the arguments of the problem for deepinv, as lists of numbers."""
    model = problem.model(max_iter=problem.layers)
    return {
        "data_fidelity": list(model.data_fidelity),
        "prior": list(model.prior),
        **{name: [float(v) for v in vs] for name, vs in problem.parameters().items()},
        **problem.arguments,
    }


def test_checkpoint_of_a_list_of_equal_values_loads_in_both_directions() -> None:
    arguments = {**PARTS, "stepsize": [0.5] * 4, "max_iter": 4}
    arguments["trainable_params"] = ["stepsize"]
    theirs = dinv.optim.PGD(unfold=True, DEQ=True, **arguments)
    ours = deq.optim.PGD(DEQ=True, **arguments)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert len(list(ours.parameters())) == 1
    ours.params_algo["stepsize"][0] = 0.75
    theirs.load_state_dict(ours.state_dict())
    assert [v.item() for v in theirs.params_algo["stepsize"]] == pytest.approx(
        [0.75] * 4
    )
    again = deq.optim.PGD(DEQ=True, **arguments)
    again.load_state_dict(theirs.state_dict())
    assert again.params_algo["stepsize"][0].item() == pytest.approx(0.75)
    unequal = theirs.state_dict()
    unequal["params_algo.stepsize.3"] = torch.tensor(0.25)
    with pytest.raises(RuntimeError, match=r"stepsize\.3 differs .* one stepsize"):
        again.load_state_dict(unequal)


@pytest.mark.parametrize("value", [0.0, -0.5, float("nan")])
def test_loading_refuses_a_value_outside_the_domain(value: float) -> None:
    model = deq.optim.PGD(**PARTS, DEQ=deq.Equilibrium())
    state = model.state_dict()
    state["params_algo.stepsize.0"] = torch.tensor(value)
    with pytest.raises(
        RuntimeError, match=r"params_algo\.stepsize\.0 = .*greater than 0"
    ):
        model.load_state_dict(state)


def test_strict_loading_refuses_missing_and_unexpected_keys() -> None:
    model = deq.optim.PGD(**PARTS, DEQ=deq.Equilibrium())
    state = model.state_dict()
    unexpected = {**state, "params_algo.stepsize.1": torch.tensor(1.0)}
    with pytest.raises(RuntimeError, match=r"Unexpected key.*params_algo\.stepsize\.1"):
        model.load_state_dict(unexpected)
    shape = {**state, "params_algo.stepsize.0": torch.ones(2)}
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict(shape)
    missing = dict(state)
    del missing["params_algo.stepsize.0"]
    with pytest.raises(RuntimeError, match=r"Missing key.*params_algo\.stepsize\.0"):
        model.load_state_dict(missing)
    keys = model.load_state_dict(missing, strict=False)
    assert keys.missing_keys == ["params_algo.stepsize.0"]
    assert not keys.unexpected_keys


def test_model_converts_to_another_dtype() -> None:
    model = deq.optim.PGD(**PARTS, stepsize=0.3, DEQ=deq.Equilibrium()).double()
    (stepsize,) = model.params_algo["stepsize"]
    assert stepsize.dtype == torch.float64
    assert float(stepsize.detach()) == pytest.approx(0.3, rel=1e-6)


def test_functional_call_uses_its_parameters_and_leaves_the_model_unchanged() -> None:
    def build(stepsize: float) -> Any:
        return deq.optim.PGD(**PARTS, stepsize=stepsize, DEQ=deq.ReTune(1, 3))

    model, physics = build(0.5), dinv.physics.Denoising()
    y = torch.rand(1, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    given = dict(model.named_parameters())
    exponent = torch.tensor(math.log(0.7 / 0.5), requires_grad=True)
    given["params_algo.stepsize.0"] = exponent
    result = torch.func.functional_call(model, given, (y, physics))
    other = build(0.7)
    torch.testing.assert_close(result, other(y, physics))
    result.sum().backward()
    other(y, physics).sum().backward()
    expected = other.params_algo["stepsize"].get_parameter("0").grad
    torch.testing.assert_close(exponent.grad, expected)
    assert float(model.params_algo["stepsize"][0].detach()) == 0.5
    assert isinstance(model.params_algo["stepsize"].get_parameter("0"), nn.Parameter)


def test_init_params_algo_names_the_same_trained_parameters() -> None:
    model = deq.optim.PGD(**PARTS, stepsize=[0.5, 0.7], DEQ=deq.ReTune(2, 3))
    trained = model.params_algo["stepsize"]
    assert model.init_params_algo["stepsize"] is trained
    assert model.init_params_algo.copy()["stepsize"] is trained
    twin = copy.deepcopy(model)
    assert twin.init_params_algo["stepsize"] is twin.params_algo["stepsize"]
    registered = model.named_modules(remove_duplicate=False)
    assert sum(module is trained for _, module in registered) == 1
