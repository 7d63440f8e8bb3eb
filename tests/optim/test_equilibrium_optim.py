"""Calls of a model at equilibrium: init, reports, copies and refused input."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq

from ..one_test import in_one_test

COMPONENTS = {"ADMM": 2, "DRS": 2, "PDCP": 3, "FISTA": 2, "CondatVu": 2}


def starts(x: Tensor, components: int) -> dict[str, Any]:
    full = tuple(x for _ in range(components))
    return {
        "tensor": x,
        "tuple": full,
        "list": list(full),
        "short tuple": (x,),
        "dict": {"est": full},
        "callable": lambda y, physics: full,
        "callable tensor": lambda y, physics: x,
    }


def test_fixed_point_does_not_depend_on_init(
    algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm)
    physics = problem.physics()
    config = deq.Equilibrium(deq.Anderson(rtol=1e-11))
    expected = problem.model(DEQ=config)(problem.y, physics)
    x0 = torch.rand_like(problem.y)
    for kind, start in starts(x0, COMPONENTS.get(algorithm, 2)).items():
        kept = copy.copy(start)
        found = problem.model(DEQ=config)(problem.y, physics, init=start)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8, msg=kind)
        if not callable(start) and not isinstance(start, Tensor):
            assert start == kept, kind
        if callable(start):
            custom = problem.model(DEQ=config, custom_init=start)
        else:
            custom = problem.model(DEQ=config, custom_init=lambda *_, x=start: x)
        assert torch.equal(custom(problem.y, physics), found), kind


def test_get_output_that_is_set_later_gives_the_image(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("PGD")
    model = problem.model(DEQ=deq.ReTune(1, 3))
    x = model(problem.y, problem.physics())
    model.get_output = lambda X: 5 * X["est"][0]
    assert torch.equal(model(problem.y, problem.physics()), 5 * x)


def test_solve_starts_at_init(make_problem: Callable[..., Any]) -> None:
    problem = make_problem("PGD")
    model = problem.model(DEQ=deq.Equilibrium(deq.Picard(max_iter=1, rtol=0.0)))
    x0 = torch.rand_like(problem.y)
    found = model(problem.y, problem.physics(), init=x0)
    gap = problem.physics().A_adjoint(problem.physics().A(x0) - problem.y)
    expected = problem.denoisers[0](x0 - 0.5 * gap, 0.25) / (1 + 0.5 * 0.25)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@in_one_test("start", [3.0, {"x": 1}, (), {"est": None}, ("a",), "y"])
def test_forward_raises_for_an_invalid_init(
    start: Any, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem("PGD")
    model = problem.model(DEQ=deq.Equilibrium())
    with pytest.raises(TypeError, match="init must be a tensor"):
        model(problem.y, problem.physics(), init=start)


def test_expansive_model_warns_with_a_remedy(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("PGD")
    problem.denoisers[0].weight.data *= 400
    model = problem.model(
        g_param=torch.tensor(-0.9),
        trainable_params=[],
        DEQ=deq.Equilibrium(deq.Picard()),
    )
    with pytest.warns(deq.ConvergenceWarning, match="samples failed") as record:
        model(problem.y, problem.physics())
    assert "Reduce the step size" in str(record[0].message)
    strict = problem.model(
        g_param=torch.tensor(-0.9),
        trainable_params=[],
        DEQ=deq.Equilibrium(deq.Picard(), on_failure="raise"),
    )
    with pytest.raises(deq.ConvergenceError) as caught:
        strict(problem.y, problem.physics())
    assert caught.value.solution.failed_count == 2


def test_solution_is_detached_and_model_can_be_copied(
    algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm)
    physics = problem.physics()
    model = problem.model(DEQ=deq.Equilibrium(deq.Anderson(rtol=1e-9)))
    assert model.solution is None
    x = model(problem.y, physics)
    state = model.solution.x
    for component in state if isinstance(state, tuple) else (state,):
        assert not component.requires_grad
    assert model.solution.backward is None
    x.sum().backward()
    assert bool(model.solution.backward.converged.all())
    twin = copy.deepcopy(model)
    assert torch.equal(twin(problem.y, physics), x)
    for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
        assert ours is not theirs
        assert torch.equal(ours, theirs)
    # The copy uses its own parameters.
    with torch.no_grad():
        for parameter in twin.params_algo.parameters():
            parameter.add_(-1.0)
    assert not torch.equal(twin(problem.y, physics), x)
    assert torch.equal(model(problem.y, physics), x)


def test_two_forwards_before_one_backward_give_both_gradients(
    algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm)
    problem.filter.requires_grad_()
    model = problem.model(DEQ=deq.Equilibrium(deq.Anderson(rtol=1e-10)))
    leaves = [problem.filter, problem.denoisers[0].weight]
    halves = [
        torch.autograd.grad(model(y, problem.physics()).sum(), leaves)
        for y in (problem.y, 2 * problem.y)
    ]
    physics = problem.physics()
    both = model(problem.y, physics).sum() + model(2 * problem.y, physics).sum()
    for found, one, two in zip(torch.autograd.grad(both, leaves), *halves, strict=True):
        torch.testing.assert_close(found, one + two, rtol=1e-12, atol=1e-12)


def test_output_is_equal_with_and_without_gradients(
    algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm)
    for config in (deq.Equilibrium(deq.Anderson(rtol=1e-6)), deq.ReTune(2, 3)):
        model = problem.model(DEQ=config)
        tracked = model(problem.y, problem.physics())
        with torch.no_grad():
            untracked = model(problem.y, problem.physics())
        assert tracked.requires_grad
        assert not untracked.requires_grad
        assert torch.equal(tracked.detach(), untracked)
        assert torch.equal(model.eval()(problem.y, problem.physics()), untracked)


def test_show_progress_bar_shows_a_progress_bar(
    make_problem: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    problem = make_problem("PGD")
    config = deq.Equilibrium(deq.Anderson(max_iter=40))
    problem.model(DEQ=config)(problem.y, problem.physics())
    assert capfd.readouterr() == ("", "")
    shown = problem.model(DEQ=config, show_progress_bar=True)
    shown(problem.y, problem.physics())
    out, err = capfd.readouterr()
    assert out == ""
    assert "PGD" in err
    assert f"{int(shown.solution.iterations.max())}/40" in err


def test_verbose_prints_the_report(
    make_problem: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    problem = make_problem("PGD")
    model = problem.model(DEQ=deq.Equilibrium(), verbose=True)
    model(problem.y, problem.physics())
    assert "2 CONVERGED (of 2 samples)" in capsys.readouterr().out


def test_forward_refuses_unknown_arguments(make_problem: Callable[..., Any]) -> None:
    problem = make_problem("PGD")
    model = problem.model(DEQ=deq.Equilibrium())
    with pytest.raises(TypeError, match=r"with DEQ takes no argument 'x_true'.*'x_gt'"):
        model(problem.y, problem.physics(), x_true=problem.y)


@pytest.mark.parametrize(
    "name", ["BatchNorm2d", "SyncBatchNorm", "Dropout", "Dropout2d"]
)
def test_forward_refuses_modules_that_couple_samples(
    name: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem("PGD")
    module = getattr(torch.nn, name)
    problem.denoisers[0].bad = module(2) if "Norm" in name else module(0.5)
    model = problem.model(DEQ=deq.Equilibrium())
    with pytest.raises(ValueError, match=rf"denoiser\.bad \({name}\)"):
        model(problem.y, problem.physics())
    model.eval()(problem.y, problem.physics())


def test_forward_refuses_batch_statistics_in_eval_mode(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("PGD")
    problem.denoisers[0].bad = torch.nn.BatchNorm2d(2, track_running_stats=False)
    with pytest.raises(ValueError, match="uses batch statistics"):
        problem.model(DEQ=deq.Equilibrium()).eval()(problem.y, problem.physics())


def test_forward_needs_init_for_a_physics_without_adjoint(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("PGD")
    physics = dinv.physics.Physics(A=lambda x, **kwargs: x + 0.1 * torch.sin(x))
    model = problem.model(DEQ=deq.Equilibrium(deq.Anderson(rtol=1e-10)))
    with pytest.raises(ValueError, match=r"Physics has no A_adjoint.*give init="):
        model(problem.y, physics)
    x = model(problem.y, physics, init=problem.y)
    assert bool(model.solution.converged.all())
    slope = 1 + 0.1 * torch.cos(x)
    gap = x - 0.5 * slope * (x + 0.1 * torch.sin(x) - problem.y)
    again = problem.denoisers[0](gap, 0.25) / (1 + 0.5 * 0.25)
    torch.testing.assert_close(x, again, rtol=1e-8, atol=1e-8)
