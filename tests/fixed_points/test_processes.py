"""One process that evaluates a step; several are in tests/optim/test_distributed.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

import deepinv_equilibrium as deq
from deepinv_equilibrium.fixed_points import ALONE, Processes


@pytest.fixture
def group_of_one() -> Iterator[Processes]:
    """A group with this process only, which takes the paths of several."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield Processes(dist.group.WORLD)
    dist.destroy_process_group()


def test_methods_return_their_arguments_for_one_process() -> None:
    tensor = torch.ones(2, requires_grad=True)
    assert not ALONE.cooperate
    assert ALONE.average(tensor) is tensor
    assert ALONE.agree(tensor) is tensor
    assert ALONE.any(True, tensor.device)
    assert not ALONE.any(False, tensor.device)
    (shared,) = ALONE.share([tensor])
    assert shared is tensor
    (value,) = ALONE.anchor([tensor], [shared])
    assert value is tensor


def test_a_group_of_one_solves_and_differentiates_as_one_process(
    group_of_one: Processes,
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(3, 1, 2, 2, generator=generator, dtype=torch.float64) * 0.9
    tight = {"rtol": 1e-10}
    solvers = (deq.GMRES(**tight), deq.CG(**tight), deq.GMRES(max_iter=1, **tight))
    for linear_solver in solvers:  # others need products J v
        found = []
        for processes in (ALONE, group_of_one):
            w = weight.clone().requires_grad_()
            solution = deq.fixed_point(
                lambda x, w=w: w * x + 1,
                torch.zeros_like(weight),
                deq.Anderson(rtol=1e-10),
                deq.Implicit(linear_solver),
                on_failure="ignore",
                processes=processes,
            )
            solution.x.sum().backward()
            backward = solution.backward
            assert backward is not None
            found.append((solution, backward, w.grad))
        (alone, solved_alone, gradient), (group, solved, same) = found
        assert torch.equal(alone.x, group.x)
        assert torch.equal(gradient, same)
        for one, other in ((alone, group), (solved_alone, solved)):
            assert one.status == other.status
            assert one.iterations.tolist() == other.iterations.tolist()
