from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.fixed_points import Anderson, Broyden, Picard, fixed_point

from ...one_test import in_one_test

F64 = torch.float64


@pytest.mark.parametrize("batch", [1, 3])
def test_broyden_equals_dense_inverse_updates(batch: int) -> None:
    torch.manual_seed(5)
    weight = torch.randn(4, 4, dtype=F64) / 4
    y = torch.randn(batch, 4, dtype=F64)

    def step(x: Any) -> Tensor:
        return torch.tanh(x @ weight) + y

    seen: list[Tensor] = []
    solution = fixed_point(
        step,
        torch.zeros(batch, 4, dtype=F64),
        Broyden(rtol=0, max_iter=6),
        observer=lambda x, value: seen.append(x.clone()),
    )
    for i in range(batch):
        x, inverse = torch.zeros(4, dtype=F64), torch.eye(4, dtype=F64)
        g = x - (torch.tanh(x @ weight) + y[i])
        for k in range(6):
            torch.testing.assert_close(seen[k][i], x, rtol=1e-9, atol=1e-12)
            s = -inverse @ g
            x = x + s
            new = x - (torch.tanh(x @ weight) + y[i])
            hd = inverse @ (new - g)
            if k < 4:  # the updates before the last proposal
                inverse = inverse + torch.outer(s - hd, s @ inverse) / (s @ hd)
            else:
                break
            g = new
        if batch == 1:
            assert solution.inverse_jacobian is not None
            v = torch.randn(1, 4, dtype=F64)
            torch.testing.assert_close(
                solution.inverse_jacobian.apply(v), v @ inverse.mT, rtol=1e-8, atol=1e-9
            )


def test_inverse_jacobian_is_accurate_and_has_the_right_adjoint(
    random_contraction: Callable[..., Tensor],
) -> None:
    weight = random_contraction(5, 0.8)
    y = torch.randn(2, 5, dtype=F64)
    solution = fixed_point(
        lambda x: x @ weight.mT + y, torch.zeros_like(y), Broyden(rtol=1e-12)
    )
    inverse = solution.inverse_jacobian
    assert inverse is not None
    a, b = torch.randn(2, 2, 5, dtype=F64)
    torch.testing.assert_close(
        (inverse.apply(a) * b).sum(1), (a * inverse.adjoint(b)).sum(1)
    )
    system = torch.eye(5, dtype=F64) - weight
    error = inverse.apply(a @ system.mT) - a  # H (I - J) a = a once J is learned
    assert float(error.norm() / a.norm()) < 0.5


@pytest.mark.parametrize("history_size", [1, 2, 5])
def test_broyden_with_a_short_memory_is_faster_than_picard(history_size: int) -> None:
    matrix = torch.diag(torch.linspace(0.0, 0.95, 12, dtype=F64))
    y = torch.ones(1, 12, dtype=F64)
    runs = [
        fixed_point(lambda x: x @ matrix + y, torch.zeros_like(y), solver)
        for solver in (
            Broyden(history_size=history_size, rtol=1e-8, max_iter=500),
            Picard(rtol=1e-8, max_iter=1000),
        )
    ]
    assert int(runs[0].iterations) < int(runs[1].iterations)
    assert runs[0].inverse_jacobian is not None
    assert runs[0].inverse_jacobian.u.shape == (1, history_size, 12)


def test_picard_and_anderson_fill_no_inverse_jacobian() -> None:
    for solver in (Picard(), Anderson()):
        assert not solver.fills_inverse_jacobian
        solution = fixed_point(lambda x: x / 2 + 1, torch.zeros(1, 2), solver)
        assert solution.inverse_jacobian is None
    assert Broyden().fills_inverse_jacobian


@in_one_test("history_size", [0, -2, 1.5, True])
def test_history_size_out_of_range_raises(history_size: Any) -> None:
    with pytest.raises(ValueError, match=f"history_size .* >= 1.*{history_size!r}"):
        Broyden(history_size=history_size)


def test_newest_pair_is_kept_when_the_memory_is_full() -> None:
    """With one slot every iteration uses the last secant pair, never the identity."""
    torch.manual_seed(6)
    rates = torch.tensor([0.0, 0.9], dtype=F64)
    y = torch.randn(1, 2, dtype=F64)
    solution = fixed_point(
        lambda x: x * rates + y,
        torch.zeros(1, 2, dtype=F64),
        Broyden(history_size=1, rtol=1e-10),
    )
    # In two dimensions with one slow direction, one secant pair suffices.
    assert int(solution.iterations[0]) <= 8
    torch.testing.assert_close(solution.x, y / (1 - rates))
