from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepinv_equilibrium.fixed_points import Picard, Restarts, Status, fixed_point

from ...one_test import in_one_test

F64 = torch.float64


def test_relaxed_picard_averages_and_returns_f_of_the_last_iterate() -> None:
    seen = []
    with torch.no_grad():
        solution = fixed_point(
            lambda x: 0.5 * x + 1,
            torch.zeros(1, 1, dtype=F64),
            Picard(relaxation=0.25, max_iter=3, rtol=0),
            observer=lambda x, value: seen.append((float(x), float(value))),
        )
    x = 0.0
    for iterate, value in seen:
        assert iterate == pytest.approx(x, rel=1e-14)
        assert value == pytest.approx(0.5 * x + 1, rel=1e-14)
        x = 0.75 * x + 0.25 * (0.5 * x + 1)
    assert float(solution.x) == seen[-1][1]


def test_relaxed_picard_solves_a_rotation() -> None:
    """A rotation is nonexpansive: only the averaged iteration converges."""
    y = torch.tensor([[1.0, 0.0]], dtype=F64)

    def rotation(x: Any) -> torch.Tensor:
        return torch.stack([-x[:, 1], x[:, 0]], 1) + y

    plain = fixed_point(
        rotation, torch.zeros(1, 2, dtype=F64), Picard(), on_failure="ignore"
    )
    assert plain.status == (Status.MAX_ITER,)
    averaged = fixed_point(
        rotation, torch.zeros(1, 2, dtype=F64), Picard(relaxation=0.5, rtol=1e-8)
    )
    expected = torch.tensor([[0.5, 0.5]], dtype=F64)
    torch.testing.assert_close(averaged.x, expected, rtol=1e-6, atol=1e-6)


def test_transient_growth_does_not_end_as_diverged() -> None:
    """The Jacobian is not normal, so that the residual first grows a hundredfold."""
    matrix = torch.tensor([[0.5, 0.0], [300.0, 0.5]], dtype=F64)
    y = torch.tensor([[1.0, 0.0]], dtype=F64)
    solution = fixed_point(
        lambda x: x @ matrix.mT + y, torch.zeros(1, 2, dtype=F64), Picard()
    )
    assert solution.converged.all()
    assert float(solution.absolute_history.max()) > 100


def test_restarts_end_as_converged_or_completed() -> None:
    rate = torch.tensor([[0.1], [0.9]], dtype=F64)
    solution = fixed_point(
        lambda x: rate * x + 1,
        torch.zeros(2, 1).double(),
        Restarts(max_iter=8, rtol=1e-4),
    )
    assert solution.status == (Status.CONVERGED, Status.COMPLETED)
    assert solution.iterations.tolist() == [5, 8]


@in_one_test("relaxation", [0.0, -0.5, 2.0, float("nan"), float("inf")])
def test_relaxation_out_of_range_raises(relaxation: float) -> None:
    with pytest.raises(
        ValueError, match=rf"relaxation must be in \(0, 2\).*{relaxation}"
    ):
        Picard(relaxation=relaxation)


@given(
    st.integers(1, 6),
    st.floats(0.05, 0.95),
    st.integers(0, 2**20),
    st.sampled_from([-6, 0, 6]),
)
def test_residuals_of_a_contraction_fall_at_its_rate(
    n: int, rate: float, seed: int, exponent: int
) -> None:
    torch.manual_seed(seed)
    matrix = torch.randn(n, n, dtype=F64)
    matrix = rate * matrix / torch.linalg.matrix_norm(matrix, 2)
    y = 10.0**exponent * torch.randn(3, n, dtype=F64)
    solution = fixed_point(
        lambda x: x @ matrix.mT + y, torch.zeros_like(y), Picard(max_iter=400)
    )
    history = solution.absolute_history
    ratios = (history[1:] / history[:-1]).nan_to_num(0.0)
    assert bool((ratios <= rate + 1e-9).all())
    for i, count in enumerate(solution.iterations.tolist()):
        assert history[:count, i].isfinite().all()
        assert history[count:, i].isnan().all()
        assert solution.absolute_residual[i] == history[count - 1, i]
