"""Fixed points under torch.autocast: networks compute in half precision, and the rest
does not."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepinv_equilibrium.fixed_points import (
    GMRES,
    SHINE,
    Adjoint,
    Anderson,
    Broyden,
    Implicit,
    JacobianFree,
    Neumann,
    Picard,
    Restarts,
    Solution,
    Status,
    Unrolled,
    fixed_point,
)

from .exported_classes import SOLVER_TYPES

HALF = [torch.bfloat16, torch.float16]
ADJOINTS = [
    Implicit(),
    Implicit(Anderson(rtol=1e-3)),
    Neumann(order=20),
    JacobianFree(),
    SHINE(refine=40),
    Unrolled(),
]


class Layer(nn.Module):
    """A contraction, which autocast computes in half precision."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        matrix = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
        self.weight = nn.Parameter(0.8 * matrix)
        self.y = 0.5 * torch.rand(2, 16, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(nn.functional.linear(x, self.weight)) + self.y


class Counted(Layer):
    """A layer that counts its evaluations, and stores the dtype of their values."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype] = []

    def forward(self, x: Tensor) -> Tensor:
        product = nn.functional.linear(x, self.weight)
        self.dtypes.append(product.dtype)
        return torch.tanh(product) + self.y.to(product.dtype)


@contextmanager
def noise_is_no_surprise() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*below the noise")
        yield


def solver_for(adjoint: Adjoint) -> Any:
    if isinstance(adjoint, SHINE):
        return Broyden()
    return Picard() if isinstance(adjoint, Unrolled) else Anderson()


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("adjoint", ADJOINTS, ids=str)
def test_gradient_under_autocast_is_right_up_to_its_rounding(
    adjoint: Adjoint, dtype: torch.dtype
) -> None:
    layer = Layer()

    def solved() -> tuple[Solution, Tensor]:
        solution = fixed_point(
            layer, torch.zeros(2, 16), solver_for(adjoint), adjoint, "raise"
        )
        assert isinstance(solution.x, Tensor)
        (gradient,) = torch.autograd.grad(solution.x.square().sum(), layer.weight)
        return solution, gradient

    expected, right = solved()
    with noise_is_no_surprise(), torch.autocast("cpu", dtype):
        found, gradient = solved()  # the backward runs under autocast, too
    assert isinstance(found.x, Tensor)
    assert found.x.dtype == torch.float32
    assert found.converged.all()
    tolerance = 8 * torch.finfo(dtype).eps
    assert bool((found.x - expected.x).norm() < tolerance * found.x.norm())
    assert bool((gradient - right).norm() < tolerance * right.norm())


@pytest.mark.parametrize("solver_type", SOLVER_TYPES)
def test_step_without_half_precision_has_equal_solutions(solver_type: Any) -> None:
    """The matrix products of solvers and adjoints are not converted by autocast."""
    weight = torch.linspace(-0.9, 0.8, 16).requires_grad_()

    def solved() -> tuple[Solution, Tensor]:
        solution = fixed_point(
            lambda x: weight * torch.cos(x) + 1,
            torch.ones(2, 16),
            solver_type(rtol=1e-5),
            Implicit(GMRES(rtol=1e-5)),
        )
        assert isinstance(solution.x, Tensor)
        return solution, torch.autograd.grad(solution.x.sum(), weight)[0]

    expected, right = solved()
    with torch.autocast("cpu", torch.bfloat16):
        found, gradient = solved()
    assert torch.equal(found.x, expected.x)
    assert torch.equal(found.iterations, expected.iterations)
    assert torch.equal(gradient, right)
    assert found.noise is None


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("solver", [Anderson(rtol=1e-7), Broyden(rtol=1e-7)], ids=str)
def test_samples_converge_at_the_noise_of_autocast_with_a_warning(
    solver: Any, dtype: torch.dtype
) -> None:
    layer = Counted()
    x0 = torch.zeros(2, 16)
    below = pytest.warns(UserWarning, match=r"rtol=1e-07 .* below the noise")
    with torch.no_grad(), torch.autocast("cpu", dtype), below:
        solution = fixed_point(layer, x0, solver)
    assert solution.status == (Status.CONVERGED,) * 2
    assert isinstance(solution.x, Tensor)
    assert solution.noise is not None
    above = solution.residual > 1e-7
    assert above.any()
    assert bool((solution.residual <= 1.5 * solution.noise)[above].all())
    with torch.no_grad():
        exact = layer(solution.x)
        with torch.autocast("cpu", dtype):
            value = layer(solution.x).float()
    error = (value - exact).norm(dim=1) / value.norm(dim=1)
    torch.testing.assert_close(
        solution.noise[above].float(), error[above], rtol=1, atol=0
    )


def test_tolerance_above_the_noise_stops_as_without_autocast() -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        solution = fixed_point(Layer(), torch.zeros(2, 16), Picard(rtol=0.05))
    assert solution.converged.all()
    assert bool((solution.residual > 5e-3).all())


def test_measurements_of_noise_count_as_evaluations() -> None:
    layer = Counted()
    with noise_is_no_surprise(), torch.autocast("cpu", torch.bfloat16):
        solution = fixed_point(layer, torch.zeros(2, 16), Anderson(rtol=1e-7))
    assert 1 <= layer.dtypes.count(torch.float32) <= 2
    assert len(layer.dtypes) <= int(solution.evaluations.sum())


def test_fixed_budget_measures_no_noise() -> None:
    layer = Counted()
    with torch.autocast("cpu", torch.bfloat16):
        solution = fixed_point(layer, torch.zeros(2, 16), Restarts(max_iter=3))
    assert layer.dtypes == [torch.bfloat16] * 3
    assert solution.noise is None


def test_state_and_output_of_half_precision_are_widened() -> None:
    class WithOutput(Layer):
        def step_and_output(self, x: Tensor) -> tuple[Tensor, Tensor]:
            product = nn.functional.linear(x, self.weight)
            return torch.tanh(product) + self.y, product

    with torch.no_grad(), noise_is_no_surprise(), torch.autocast("cpu", HALF[0]):
        solution = fixed_point(WithOutput(), torch.zeros(2, 16, dtype=HALF[0]))
    assert isinstance(solution.x, Tensor)
    assert solution.output is not None
    assert solution.x.dtype == solution.output.dtype == torch.float32
    double = torch.zeros(2, 16, dtype=torch.float64)
    with torch.no_grad(), noise_is_no_surprise(), torch.autocast("cpu", HALF[0]):
        wide = fixed_point(lambda x: Layer()(x.float()).double(), double)
    assert isinstance(wide.x, Tensor)
    assert wide.x.dtype == torch.float64


def test_weights_of_half_precision_take_the_unit_of_rounding_as_noise() -> None:
    layer = Layer().to(torch.bfloat16)
    with torch.no_grad(), noise_is_no_surprise(), torch.autocast("cpu", HALF[0]):
        solution = fixed_point(layer, torch.zeros(2, 16))
    assert solution.converged.all()
    assert solution.noise is not None
    assert solution.noise.tolist() == [2.0**-7] * 2


@pytest.mark.parametrize("adjoint", [Implicit(), JacobianFree()], ids=str)
def test_overflow_of_the_loss_in_float16_reaches_the_gradient(adjoint: Adjoint) -> None:
    """torch.amp.GradScaler reduces the scale only if it finds inf or NaN."""
    layer = Layer()
    with noise_is_no_surprise(), torch.autocast("cpu", torch.float16):
        x = fixed_point(layer, torch.zeros(2, 16), Anderson(), adjoint).x
    assert isinstance(x, Tensor)
    (x[0].sum() * torch.inf).backward()
    assert layer.weight.grad is not None
    assert not layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_of_the_loss_does_not_change_the_adjoint_solve_in_float16(
    scale: float,
) -> None:
    layer, reports = Layer(), []
    for factor in (1.0, scale):
        with noise_is_no_surprise(), torch.autocast("cpu", torch.float16):
            solution = fixed_point(layer, torch.zeros(2, 16), adjoint=Implicit())
        assert isinstance(solution.x, Tensor)
        torch.autograd.grad(factor * solution.x.sum(), layer.weight)
        reports.append(solution.backward)
    first, second = reports
    assert torch.equal(first.iterations, second.iterations)
    torch.testing.assert_close(first.residual, second.residual, rtol=1e-2, atol=0)
