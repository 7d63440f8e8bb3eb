"""Outputs of the optimisers compared with deepinv's, and domains of parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq

from ..one_test import in_one_test
from .problems import PROXIMAL_OPERATORS, plain_optimiser


def deepinv_arguments(problem: Any) -> dict[str, Any]:
    """Return the arguments of the problem for deepinv, as numbers."""
    numbers = {name: float(values[0]) for name, values in problem.parameters().items()}
    prior = type(problem.model().prior[0])(problem.denoisers[0])
    parts = {"data_fidelity": dinv.optim.L2(), "prior": prior}
    return {**parts, **numbers, **problem.arguments}


@pytest.mark.parametrize(("algorithm", "closed_form"), PROXIMAL_OPERATORS)
def test_fixed_budget_gives_the_output_of_deepinv(
    closed_form: bool, algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm, closed_form=closed_form)
    arguments = deepinv_arguments(problem)
    # deepinv's conjugate gradients do not reach the given tolerance.
    reference = make_problem(algorithm).physics()
    n = 7
    theirs = plain_optimiser(algorithm)(max_iter=n, **arguments)
    if algorithm == "FISTA":  # the counter increases within one block
        config = deq.Equilibrium(deq.Picard(max_iter=1, rtol=0.0), layers=n)
    else:
        config = deq.Equilibrium(deq.Picard(max_iter=n, rtol=0.0))
    ours = problem.model(**arguments, trainable_params=[], DEQ=config)
    with torch.no_grad():
        expected = theirs(problem.y, reference)
    torch.testing.assert_close(
        ours(problem.y, problem.physics()).detach(), expected, rtol=1e-12, atol=1e-12
    )
    assert {status.name for status in ours.solution.status} == {"COMPLETED"}


@in_one_test("unfold", [False, True])
def test_output_without_DEQ_equals_that_of_deepinv_bitwise(
    unfold: bool, algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm)
    arguments = {**deepinv_arguments(problem), "max_iter": 5, "unfold": unfold}
    theirs = plain_optimiser(algorithm)(**arguments)
    ours = getattr(deq.optim, algorithm)(**arguments)
    expected, metrics = theirs(
        problem.y, problem.physics(), x_gt=problem.y, compute_metrics=True
    )
    found, our_metrics = ours(
        problem.y, problem.physics(), x_gt=problem.y, compute_metrics=True
    )
    assert torch.equal(found, expected)
    assert our_metrics == metrics
    assert found.requires_grad == expected.requires_grad == unfold
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert ours.solution is None
    if unfold:
        weight = problem.denoisers[0].weight
        pair = [torch.autograd.grad(x.sum(), weight)[0] for x in (found, expected)]
        assert torch.equal(*pair)


def test_trained_parameters_stay_in_their_domain(
    algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm)
    model = problem.model(DEQ=deq.ReTune(layers=1, restarts=1, on_failure="ignore"))
    trained = list(model.params_algo.children())
    assert len(trained) >= 4
    optimizer = torch.optim.Adam(model.params_algo.parameters(), lr=0.1)
    physics = problem.physics()
    for _ in range(50):
        optimizer.zero_grad()
        # The loss drives every parameter to the boundary of its domain.
        pull = sum(value[0] for value in trained)
        (model(problem.y, physics).square().mean() + 100 * pull).backward()
        optimizer.step()
        assert all(value[0] > value.lower for value in trained)


def test_pdcp_with_a_linear_map_between_different_spaces() -> None:
    r"""PDCP minimises :math:`\|Kx - y\|^2/2 + \|x\|^2/2` where y and x differ."""

    class Differences(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(
                torch.tensor([0.5, 0.4, 0.3], dtype=torch.float64)
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.scale.view(-1, 1, 1) * x

    K = Differences()
    model = deq.optim.PDCP(
        K=K,
        K_adjoint=lambda u: (K.scale.view(-1, 1, 1) * u).sum(1, keepdim=True),
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.Tikhonov(),
        lambda_reg=0.5,
        stepsize=0.5,
        stepsize_dual=0.5,
        trainable_params=[],
        DEQ=deq.Equilibrium(
            deq.Anderson(rtol=1e-13), deq.Implicit(deq.GMRES(rtol=1e-13))
        ),
    )
    # The physics acts in the space of K x.
    y = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    x = model(
        y, dinv.physics.Denoising(), init=torch.zeros(2, 1, 4, 5, dtype=torch.float64)
    )
    scale = K.scale.detach().clone().requires_grad_()
    weights = scale.view(-1, 1, 1)
    closed = (weights * y).sum(1, keepdim=True) / (0.5 + scale.square().sum())
    torch.testing.assert_close(x, closed, rtol=1e-10, atol=1e-10)
    assert [key for key, _ in model.named_parameters()] == ["linear_map.scale"]
    x.square().sum().backward()
    closed.square().sum().backward()
    torch.testing.assert_close(K.scale.grad, scale.grad, rtol=1e-9, atol=1e-10)
