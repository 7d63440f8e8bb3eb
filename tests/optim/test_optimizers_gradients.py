"""Implicit gradients of the optimisers compared with central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq

from .problems import ALGORITHMS, PROXIMAL_OPERATORS

# Parameters that do not move the fixed point of a single layer.
WITHOUT_EFFECT = dict.fromkeys(ALGORITHMS, ("beta.", "a."))
WITHOUT_EFFECT["CondatVu"] = ("beta.", "stepsize_dual.")
ENTROPIC = ("MD-Burg", "MD-NegEntropy", "PMD-Burg", "PMD-NegEntropy")
PROXIMAL = ("HQS", "ADMM", "DRS", "PDCP")
TIGHT = {"rtol": 1e-13, "max_iter": 2000}
SOLVERS = (deq.Picard(**TIGHT), deq.Anderson(**TIGHT), deq.Broyden(**TIGHT))
EXACT = deq.Implicit(deq.GMRES(rtol=1e-12))


def loss_of(x: Tensor) -> Tensor:
    weights = torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view_as(x)
    return (weights * x + 0.5 * x.square()).sum()


def leaves_of(problem: Any, parameters: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    """Return every tensor that the fixed point depends on, by name."""
    leaves = {"y": problem.y, "filter": problem.filter}
    for k, denoiser in enumerate(problem.denoisers):
        leaves[f"weight.{k}"] = denoiser.weight
    for name, values in parameters.items():
        for k, value in enumerate(values):
            leaves[f"{name}.{k}"] = value
    return leaves


def directions(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        name: (
            torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
            * leaf.detach().abs().mean()
            if leaf.ndim
            else torch.ones_like(leaf)
        )
        for name, leaf in leaves.items()
    }


def differences(problem: Any, together: bool = False) -> dict[str, float]:
    """Return central differences of the loss of a converged solve: one for each tensor,
    or one for all tensors that change at once, which needs fewer solves."""
    parameters = problem.parameters()
    leaves = leaves_of(problem, parameters)
    config = deq.Equilibrium(deq.Anderson(**TIGHT), layers=problem.layers)
    start = None

    @torch.no_grad()
    def loss() -> float:
        nonlocal start
        model = problem.model(**parameters, trainable_params=[], DEQ=config)
        x = model(problem.y, problem.physics(), init=start)
        assert bool(model.solution.converged.all())
        state = model.solution.x
        if start is None:  # later solutions are close
            full = state if isinstance(state, tuple) else (state, state)
            start = {"est": full}
        return float(loss_of(x))

    loss()
    step = 1e-4
    derivatives = {}
    changes = directions(leaves)
    groups = {"together": list(changes)} if together else {n: [n] for n in changes}
    for group, names in groups.items():
        ends = []
        for sign in (1, -1):
            for name in names:
                leaves[name].data += sign * step * changes[name]
            ends.append(loss())
            for name in names:
                leaves[name].data -= sign * step * changes[name]
        derivatives[group] = (ends[0] - ends[1]) / (2 * step)
    return derivatives


def gradients(problem: Any, config: deq.Equilibrium) -> dict[str, float]:
    """Return the derivatives in these directions by the backward."""
    natural = problem.parameters()
    model = problem.model(**natural, DEQ=config)
    for leaf in (problem.y, problem.filter):
        leaf.requires_grad_()
    loss_of(model(problem.y, problem.physics())).backward()
    leaves = leaves_of(problem, natural)
    found = {}
    for name, direction in directions(leaves).items():
        key, _, k = name.partition(".")
        if key in natural:
            trained = model.params_algo[{"lambda_reg": "lambda"}.get(key, key)]
            # The logarithm of the distance to the lower end of the domain is learned.
            value = trained[int(k)].detach()
            grad = trained.get_parameter(k).grad / (value - trained.lower)
        else:
            grad = leaves[name].grad
        found[name] = float((grad * direction).sum())
    return found


def assert_gradients_right(
    problem: Any, solver: deq.fixed_points.FixedPointSolver, expected: dict[str, float]
) -> dict[str, float]:
    config = deq.Equilibrium(solver, EXACT, layers=problem.layers, on_failure="raise")
    found = gradients(problem, config)
    if "together" in expected:
        assert sum(found.values()) == pytest.approx(expected["together"], rel=1e-6)
        return found
    assert found.keys() == expected.keys()
    scale = max(map(abs, expected.values()))
    for leaf, value in expected.items():
        assert found[leaf] == pytest.approx(value, rel=1e-6, abs=1e-8 * scale), leaf
    return found


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_implicit_gradients_agree_with_finite_differences(
    name: str, layers: int, make_problem: Callable[..., Any]
) -> None:
    # The derivatives in single tensors are compared with one layer.
    expected = differences(make_problem(name, layers), together=layers > 1)
    for solver in SOLVERS:
        found = assert_gradients_right(make_problem(name, layers), solver, expected)
        for leaf, value in found.items():
            if layers == 1 and leaf.startswith(WITHOUT_EFFECT[name]):
                assert abs(value) < 1e-9
            else:
                assert value != 0, leaf


@pytest.mark.parametrize(
    "name", [name for name in ALGORITHMS if name not in ("GD", "MD", "CondatVu")]
)
def test_implicit_gradients_with_the_prior_first(
    name: str, make_problem: Callable[..., Any]
) -> None:
    def problem() -> Any:
        made = make_problem(name)
        made.arguments["g_first"] = True
        return made

    assert_gradients_right(problem(), SOLVERS[1], differences(problem(), together=True))


@pytest.mark.parametrize("name", ENTROPIC)
def test_implicit_gradients_with_entropies_and_poisson_data(
    name: str, make_problem: Callable[..., Any]
) -> None:
    expected = differences(make_problem(name), together=True)
    for solver in SOLVERS:
        assert_gradients_right(make_problem(name), solver, expected)


@pytest.mark.parametrize("name", PROXIMAL)
def test_implicit_gradients_through_the_iterative_proximal_operator(
    name: str, make_problem: Callable[..., Any]
) -> None:
    expected = differences(make_problem(name, closed_form=False), together=True)
    problem = make_problem(name, closed_form=False)
    assert_gradients_right(problem, SOLVERS[1], expected)


@pytest.mark.parametrize(("algorithm", "closed_form"), PROXIMAL_OPERATORS)
def test_backward_leaves_the_physics_unchanged(
    closed_form: bool, algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm, closed_form=closed_form)
    problem.filter.requires_grad_()
    physics = problem.physics()
    names = set(vars(physics))
    model = problem.model(DEQ=deq.Equilibrium(adjoint=EXACT))
    weight = problem.denoisers[0].weight
    (grad,) = torch.autograd.grad(loss_of(model(problem.y, physics)), weight)
    assert bool(grad.isfinite().all())
    assert problem.filter.grad is None
    assert set(vars(physics)) == names


@pytest.mark.parametrize("steps", [1, 4])
def test_jacobian_free_gradient_is_a_truncated_neumann_series(
    steps: int, algorithm: str, make_problem: Callable[..., Any]
) -> None:
    phantom, series = (
        gradients(
            make_problem(algorithm),
            deq.Equilibrium(deq.Anderson(rtol=1e-14), adjoint, on_failure="ignore"),
        )
        for adjoint in (deq.JacobianFree(steps), deq.Neumann(steps - 1))
    )
    scale = max(map(abs, series.values()))
    for leaf, value in series.items():
        assert phantom[leaf] == pytest.approx(value, abs=1e-10 * scale), leaf
