"""Safeguarded: certified counts and the right fixed point with any proposals, and
wrong rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium.certificates import Bound, Kind
from deepinv_equilibrium.fixed_points import (
    CG,
    SHINE,
    Anderson,
    Broyden,
    ConvergenceWarning,
    Implicit,
    JacobianFree,
    Picard,
    Safeguarded,
    State,
    StateLayout,
    Status,
    Unrolled,
    fixed_point,
)

from ...one_test import in_one_test

F64 = torch.float64
JUNK = (math.nan, math.inf, -1e300, 1e6, 1.0, 1e-3)


@dataclass(frozen=True, kw_only=True)
class Corrupted(Anderson):
    """Anderson acceleration with noise in one tenth of the proposals."""

    seed: int = 0
    share: float = 0.1

    def begin(self, x0: Tensor, layout: StateLayout) -> Any:
        iteration = super().begin(x0, layout)
        honest = iteration.propose
        generator = torch.Generator().manual_seed(self.seed)

        def propose(x: Tensor, value: Tensor, active: Tensor) -> Tensor:
            proposal = honest(x, value, active)
            for row in proposal:
                if float(torch.rand((), generator=generator)) < self.share:
                    which = int(torch.randint(len(JUNK), (), generator=generator))
                    noise = torch.randn(row.shape, generator=generator, dtype=F64)
                    row += JUNK[which] * noise
            return proposal

        iteration.propose = propose
        return iteration


def spectrum_step(rate: float, n: int = 256) -> tuple[Callable[[Any], Tensor], Tensor]:
    """Return a symmetric affine step with eigenvalues in [0, rate], and a start."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=F64)).Q
    eigenvalues = torch.linspace(0, rate, n, dtype=F64)
    weight = basis @ (eigenvalues[:, None] * basis.mT)
    y = torch.randn(3, n, generator=generator, dtype=F64)
    return lambda x: x @ weight + y, torch.zeros_like(y)


@pytest.mark.parametrize(
    ("rate", "plain", "accelerated"), [(0.833, 110, 36), (0.98, 1030, 160)]
)
@pytest.mark.parametrize("proposal", [Anderson(), Broyden()], ids=str)
def test_safeguarded_accelerates_as_its_proposal_does(
    proposal: Any, rate: float, plain: int, accelerated: int
) -> None:
    step, x0 = spectrum_step(rate)
    tolerance = {"rtol": 0.0, "atol": 1e-8 * (1 - rate), "max_iter": 3000}
    base = fixed_point(step, x0, Picard(**tolerance))
    solver = Safeguarded(proposal, rate, **tolerance)
    fast = fixed_point(step, x0, solver)
    assert int(base.evaluations.min()) > plain
    assert int(fast.evaluations.max()) <= accelerated
    assert fast.converged.all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [0.833, 0.98])
def test_corrupted_proposals_converge_within_the_certified_count(
    rate: float, seed: int
) -> None:
    step, x0 = spectrum_step(rate, n=64)
    atol = 1e-8 * (1 - rate)
    solver = Safeguarded(
        Corrupted(seed=seed), rate, rtol=0.0, atol=atol, max_iter=10**4
    )
    solution = fixed_point(step, x0, solver)
    y, eye = step(x0), torch.eye(64, dtype=F64)
    weight = (step(eye[:, None]) - y)[:, 0]
    exact = torch.linalg.solve(eye - weight, y, left=False)
    assert solution.converged.all()
    for i in range(3):
        first = float(solution.absolute_history[0, i])
        assert int(solution.evaluations[i]) <= solver.evaluations_to(atol, first)
        assert float((solution.x[i] - exact[i]).norm()) <= 1e-8 * rate
    assert int(solution.evaluations.max()) < 400  # the other proposals still accelerate


@settings(max_examples=60)
@given(
    rate=st.floats(0.05, 0.95),
    size=st.sampled_from([1e-3, 1.0, 1e3]),
    corruption=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
def test_residuals_fall_at_the_certified_rate_with_random_proposals(
    rate: float, size: float, corruption: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 5, generator=generator, dtype=F64)
    weight *= rate / float(torch.linalg.matrix_norm(weight, 2)) * (1 - 1e-12)
    y = size * torch.randn(2, 5, generator=generator, dtype=F64)

    def step(x: Any) -> Tensor:
        return torch.sin(x @ weight) + y

    def proposal(x: Any, value: Any) -> Tensor:
        noise = torch.randn(2, 5, generator=generator, dtype=F64)
        best = step(step(value))
        bad = torch.rand(2, 1, generator=generator) < corruption
        scale = 10.0 ** float(torch.randint(-3, 8, (), generator=generator))
        return torch.where(bad, value + scale * noise, best)

    seen: list[Tensor] = []
    solver = Safeguarded(proposal, rate, max_iter=60, rtol=1e-7)
    solution = fixed_point(
        step,
        torch.zeros_like(y),
        solver,
        on_failure="ignore",
        observer=lambda x, value: seen.append((value - x).norm(dim=1)),
    )
    for i in range(2):
        first = float(seen[0][i])
        best = math.inf
        for evaluations, residual in enumerate(seen, 1):
            best = min(best, float(residual[i]))
            guaranteed = first * rate ** ((evaluations - 1) // 2)
            assert best <= guaranteed * (1 + 1e-9) + 1e-13 * size
        allowed = solver.evaluations_to(1e-7)
        assert int(solution.evaluations[i]) <= allowed
        assert solution.status[i] is (
            Status.CONVERGED if allowed <= 60 else solution.status[i]
        )
        assert solution.status[i] in (Status.CONVERGED, Status.MAX_ITER)


def test_solution_is_the_fixed_point_of_the_step_not_of_the_proposal() -> None:
    """The proposal is always 7, which is not the fixed point of the step."""
    solver = Safeguarded(lambda x, value: torch.full_like(x, 7.0), 0.5, rtol=1e-10)
    solution = fixed_point(lambda x: 0.5 * x + 1, torch.zeros(1, 2, dtype=F64), solver)
    torch.testing.assert_close(solution.x, torch.full((1, 2), 2.0, dtype=F64))
    # Two evaluations per iteration, and one that is recorded for the gradient.
    assert int(solution.evaluations) <= 1 + solver.evaluations_to(1e-10)


def test_exact_proposal_ends_the_solve() -> None:
    solver = Safeguarded(lambda x, value: torch.full_like(x, 2.0), 0.5)
    with torch.no_grad():
        solution = fixed_point(lambda x: 0.5 * x + 1, torch.zeros(1, 2), solver)
    assert solution.evaluations.tolist() == [2]
    assert solution.absolute_residual.tolist() == [0.0]


def test_plain_step_starts_from_a_rejected_proposal_of_smaller_residual() -> None:
    r"""The proposal has residual 0.9, above :math:`\rho\, r(x_0) = 0.5`."""
    asked: list[float] = []

    def step(x: Any) -> Tensor:
        asked.append(float(x))
        return 0.5 * x + 1

    solver = Safeguarded(lambda x, value: x + 0.2, 0.5, max_iter=3, rtol=1e-9)
    with torch.no_grad():
        fixed_point(step, torch.zeros(1, 1, dtype=F64), solver, on_failure="ignore")
    # x0, the proposal 0.2 of residual 0.9, and then f(0.2), not f(0).
    assert asked[:3] == pytest.approx([0.0, 0.2, 1.1])


def test_result_of_a_sample_does_not_depend_on_its_batch() -> None:
    def step(x: Any) -> Tensor:
        # The rounding of these sums does not depend on the batch size.
        return torch.tanh((weight * x[:, None]).sum(-1)) + y[rows]

    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(6, 6, generator=generator, dtype=F64)
    weight *= 0.9 / float(torch.linalg.matrix_norm(weight, 2))
    y = torch.randn(3, 6, generator=generator, dtype=F64) * torch.tensor(
        [[1e-3], [1.0], [1e3]], dtype=F64
    )

    def proposal(x: Any, value: Any) -> Tensor:
        """Propose well for the second sample, and badly for the third."""
        over = torch.tensor([1.0, 1.5, 30.0], dtype=F64)[rows, None]
        return x + over * (value - x)

    for proposing in (proposal, Anderson(), Broyden()):
        solver = Safeguarded(proposing, 0.9, max_iter=400, rtol=1e-9)
        rows: Any = slice(None)
        together = fixed_point(step, torch.zeros(3, 6, dtype=F64), solver)
        for i in range(3):
            rows = slice(i, i + 1)
            alone = fixed_point(step, torch.zeros(1, 6, dtype=F64), solver)
            torch.testing.assert_close(
                together.x[i], alone.x[0], rtol=1e-12, atol=1e-12
            )
            assert together.evaluations[i] == alone.evaluations[0]
            assert together.status[i] is alone.status[0]


@dataclass
class InPlace:
    """An accelerator that works in place and returns its own buffer."""

    buffer: Tensor = field(default_factory=lambda: torch.zeros(2, 3))

    def __call__(self, x: Any, value: Any) -> Tensor:
        self.buffer.copy_(x.add_(1.5 * (value.sub_(x))))
        x.fill_(torch.nan)
        return self.buffer


def test_proposal_may_change_its_arguments_in_place() -> None:
    y = torch.tensor([[1.0, -2.0, 3.0], [0.1, 0.2, 0.3]])
    solver = Safeguarded(InPlace(), 0.9, rtol=1e-6)
    solution = fixed_point(lambda x: 0.9 * x + y, torch.zeros_like(y), solver)
    torch.testing.assert_close(solution.x, 10 * y, rtol=1e-4, atol=1e-4)
    copying = Safeguarded(lambda x, value: x + 1.5 * (value - x), 0.9, rtol=1e-6)
    reference = fixed_point(lambda x: 0.9 * x + y, torch.zeros_like(y), copying)
    torch.testing.assert_close(solution.x, reference.x, rtol=1e-6, atol=1e-6)


def test_proposal_function_receives_unpacked_states() -> None:
    shapes: set[tuple[Any, ...]] = set()

    def step(state: State) -> State:
        u, z = state
        return 0.5 * u + z.real.sum((1, 2))[:, None] / 20, 0.5j * z + 1

    def proposal(x: State, value: State) -> State:
        shapes.add((x[0].shape, x[1].shape, x[1].dtype, torch.is_grad_enabled()))
        return tuple(a + 1.2 * (b - a) for a, b in zip(x, value, strict=True))

    x0 = (torch.zeros(2, 3, dtype=F64), torch.zeros(2, 4, 1, dtype=torch.complex128))
    solution = fixed_point(step, x0, Safeguarded(proposal, 0.75, rtol=1e-10))
    assert solution.converged.all()
    assert shapes == {
        (torch.Size([2, 3]), torch.Size([2, 4, 1]), torch.complex128, False)
    }
    z = 1 / (1 - 0.5j)
    assert complex(solution.x[1][0, 0, 0]) == pytest.approx(z)
    with pytest.raises(ValueError, match=r"a proposal must have the shapes and dtypes"):
        fixed_point(step, x0, Safeguarded(lambda x, value: x[0], 0.75))
    with pytest.raises(TypeError, match="a proposal must be a tensor or a tuple"):
        fixed_point(step, x0, Safeguarded(lambda x, value: None, 0.75))


def test_gradient_does_not_depend_on_the_proposal() -> None:
    weight = torch.tensor([0.6, 0.3], dtype=F64)
    network = torch.nn.Linear(2, 2, dtype=F64)
    for adjoint, solver in (
        (Implicit(), Safeguarded(lambda x, v: network(v), 0.6, rtol=1e-12)),
        (Implicit(CG(rtol=1e-12)), Safeguarded(Anderson(), 0.6, rtol=1e-12)),
        (
            # The transposed Jacobian has the same rate.
            Implicit(Safeguarded(Anderson(), 0.6, rtol=1e-10)),
            Safeguarded(Anderson(), 0.6, rtol=1e-12),
        ),
        (SHINE(refine=5), Safeguarded(Broyden(), 0.6, rtol=1e-12)),
    ):
        y = torch.tensor([[1.0, 2.0]], dtype=F64, requires_grad=True)

        def step(x: Any, y: Tensor = y) -> Tensor:
            return x * weight + y

        x0 = torch.zeros(1, 2, dtype=F64)
        solution = fixed_point(step, x0, solver, adjoint)
        solution.x.sum().backward()
        torch.testing.assert_close(y.grad, 1 / (1 - weight)[None], rtol=1e-4, atol=1e-4)
        assert network.weight.grad is None
        with torch.no_grad():
            assert torch.equal(fixed_point(step, x0, solver).x, solution.x)
    with pytest.raises(ValueError, match="cannot record Safeguarded"):
        fixed_point(lambda x: x / 2, torch.ones(1, 1), solver, Unrolled())
    with pytest.raises(ValueError, match="Safeguarded does not fill"):
        SHINE().require(Safeguarded(Anderson(), 0.5))


@in_one_test("true_rate", [0.8, 0.99, 1.5])
@in_one_test("dtype", [torch.float32, F64])
def test_wrong_rate_ends_as_refuted_at_the_first_plain_step(
    true_rate: float, dtype: torch.dtype
) -> None:
    """The rate is right for the second sample, which converges."""
    rates = torch.tensor([[true_rate], [0.5]], dtype=dtype)
    y = torch.ones(2, 4, dtype=dtype)
    solver = Safeguarded(lambda x, value: value, 0.5 + 1e-6, rtol=1e-4)
    with pytest.warns(ConvergenceWarning, match="REFUTED: .*rate is wr"):
        solution = fixed_point(lambda x: rates * x + y, torch.zeros_like(y), solver)
    assert solution.status == (Status.REFUTED, Status.CONVERGED)
    assert int(solution.iterations[0]) == 3  # without the evaluation of the gradient
    assert torch.isfinite(solution.x).all()
    assert not solution.converged[0]


@pytest.mark.parametrize("proposal", [Anderson(), Broyden()], ids=str)
def test_wrong_rate_ends_as_refuted_with_any_proposal(proposal: Any) -> None:
    step, x0 = spectrum_step(0.98)
    solver = Safeguarded(proposal, 0.5, max_iter=1000, rtol=1e-8)
    with pytest.warns(ConvergenceWarning, match="REFUTED"):
        solution = fixed_point(step, x0, solver)
    assert set(solution.status) == {Status.REFUTED}
    assert int(solution.evaluations.max()) < 100


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_rounding_does_not_refute_the_rate(dtype: torch.dtype) -> None:
    """Most iterations are made when the residual is only rounding."""
    step, x0 = spectrum_step(0.9, n=64)

    def rounded(x: Any) -> Tensor:
        return step(x.double()).to(dtype)

    for proposal in (Anderson(), lambda x, value: x + 3 * (value - x)):
        solver = Safeguarded(proposal, 0.9, max_iter=800, rtol=0)
        solution = fixed_point(rounded, x0.to(dtype), solver)
        assert solution.status == (Status.COMPLETED,) * 3


@settings(max_examples=25)
@given(
    slack=st.floats(1e-4, 0.5),
    centre=st.sampled_from([0.0, 1.0, 1e6]),
    start=st.sampled_from([0.0, 1e-3, 1e3, 1e9]),
    dtype=st.sampled_from([torch.float32, F64]),
    seed=st.integers(0, 10**6),
)
def test_true_rate_is_not_refuted_where_the_step_cancels_and_a_false_one_is(
    slack: float, centre: float, start: float, dtype: torch.dtype, seed: int
) -> None:
    r"""The step :math:`\rho Q (x - c) + c` rounds relative to :math:`c`, and its value
    may be near 0. A rotation contracts at exactly :math:`\rho`."""
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(2, 2, generator=generator, dtype=F64)).Q.to(dtype)
    c = centre * torch.randn(1, 2, generator=generator, dtype=F64).to(dtype)
    x0 = start * torch.randn(1, 2, generator=generator, dtype=F64).to(dtype)
    true = 1 - slack

    def step(x: Any) -> Tensor:
        return true * ((x - c) @ Q) + c

    def solve(rate: float) -> Any:
        nothing = Safeguarded(
            lambda x, value: value * math.nan, rate, rtol=0.0, max_iter=150
        )
        return fixed_point(step, x0, nothing, on_failure="ignore").status[0]

    rounding = 1 + 8 * torch.finfo(dtype).eps  # of Q and of the true rate
    assert true * rounding >= 1 or solve(true * rounding) is Status.COMPLETED
    if start or centre:
        false = true - 0.5 * slack if dtype is F64 else true / 2
        assert solve(false) is Status.REFUTED


def test_rate_must_be_a_certified_upper_bound() -> None:
    solver = Safeguarded(Anderson(), Bound(0.9, source="torus"))
    assert solver.certified_rate == 0.9
    for bound in (
        Bound(0.8, Kind.ESTIMATED, "Lanczos", delta=1e-3),
        Bound(0.8, Kind.OBSERVED, "one run"),
        Bound(0.8, is_lower=True),
    ):
        with pytest.raises(ValueError, match=r"certified from above.*vouch") as error:
            Safeguarded(Anderson(), bound)
        assert str(bound) in str(error.value)
        assert Safeguarded(Anderson(), float(bound)).certified_rate == 0.8


@in_one_test("rate", [1, 1.0, 1.2, -0.1, math.nan, math.inf, Bound(1.0)])
def test_rate_of_one_or_more_raises(rate: Any) -> None:
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\)"):
        Safeguarded(Anderson(), rate)


@in_one_test("rate", ["0.9", None, torch.tensor(0.9), [0.9]])
def test_rate_that_is_not_a_number_raises(rate: Any) -> None:
    with pytest.raises(TypeError, match="rate must be a number or a Bound"):
        Safeguarded(Anderson(), rate)


def test_proposal_that_is_not_a_solver_or_function_raises() -> None:
    with pytest.raises(TypeError, match="proposal must be a FixedPointSolver"):
        Safeguarded("anderson", 0.9)


@settings(max_examples=60)
@given(
    rate=st.floats(0, 0.9999),
    tolerance=st.floats(1e-12, 10),
    first=st.floats(0, 1e3),
)
def test_evaluations_to_is_the_smallest_sufficient_count(
    rate: float, tolerance: float, first: float
) -> None:
    count = Safeguarded(Anderson(), rate).evaluations_to(tolerance, first)
    k, odd = divmod(count - 1, 2)
    assert odd == 0
    assert first * rate**k <= tolerance * (1 + 1e-9)
    if k:
        assert first * rate ** (k - 1) > tolerance * (1 - 1e-9)


def test_evaluations_to_raises_for_bad_arguments() -> None:
    solver = Safeguarded(Anderson(), 0.9)
    with pytest.raises(ValueError, match="tolerance must be positive"):
        solver.evaluations_to(0.0)
    assert solver.evaluations_to(0.0, 0.0) == 1
    for name, arguments in (
        ("tolerance", (-1.0,)),
        ("tolerance", (math.nan,)),
        ("first_residual", (1.0, math.inf)),
    ):
        with pytest.raises(ValueError, match=f"{name} must be nonneg"):
            solver.evaluations_to(*arguments)


def test_gradients_cost_one_evaluation_more() -> None:
    step, x0 = spectrum_step(0.8, n=8)
    y = torch.zeros(8, dtype=F64, requires_grad=True)
    count = [0]

    def counted(x: Any) -> Tensor:
        count[0] += 1
        return step(x) + y

    solver = Safeguarded(Anderson(), 0.8)
    with torch.no_grad():
        plain = fixed_point(counted, x0, solver)
    assert count[0] == int(plain.evaluations.max())
    count[0] = 0
    tracked = fixed_point(counted, x0, solver, JacobianFree())
    assert (
        count[0] == int(tracked.evaluations.max()) == int(plain.evaluations.max()) + 1
    )
