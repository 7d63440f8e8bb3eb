"""What tests/benchmarks/backward_timing.py compares, on a smaller model; no times."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

import deepinv_equilibrium as deq

from .benchmarks import backward_timing as benchmark
from .benchmarks.backward_timing import Backward, Deblurring

Compared = dict[str, tuple[Backward, float]]


@pytest.fixture(scope="module")
def problem() -> Deblurring:
    return benchmark.build(8, batch=2, depth=3, filters=4)


@pytest.fixture(scope="module")
def compared(problem: Deblurring) -> Compared:
    return benchmark.compare(problem, rounds=1)


def test_the_equilibrium_is_one(problem: Deblurring) -> None:
    model = benchmark.de_grad(
        problem.network,
        deq.Picard(max_iter=1, rtol=0.0),
        stepsize=benchmark.STEPSIZE,
        lambda_reg=benchmark.WEIGHT,
    )
    with torch.no_grad():
        moved = model(problem.y, problem.physics, init=problem.solution)
    assert (moved - problem.solution).norm() <= 3e-5 * moved.norm()


def test_the_adjoint_equation_has_a_right_side_of_norm_1(problem: Deblurring) -> None:
    x = problem.solution.clone().requires_grad_()
    (cotangent,) = torch.autograd.grad(problem.loss(x), x)
    torch.testing.assert_close(cotangent.flatten(1).norm(dim=1), torch.ones(2))


def test_all_but_jacobian_free_have_the_same_gradient(compared: Compared) -> None:
    errors = {name: error for name, (_, error) in compared.items()}
    assert errors.pop("JFB") > 0.02
    # deepinv stops by the mean over the batch, and by another residual.
    assert errors.pop("Anderson of deepinv") < 2e-2
    assert all(error < 3e-3 for error in errors.values()), errors


def test_what_each_needs_in_products(compared: Compared) -> None:
    products = {name: one.products for name, (one, _) in compared.items()}
    assert products["JFB"] == 0
    assert 3 <= products["GMRES"] <= products["Anderson"] < products["Neumann"]
    assert products["Neumann"] > 3 * products["GMRES"]
    assert products["CGNR"] > 2 * products["GMRES"]
    assert products["CGNR"] % 2 == 0  # one with J and one with its transpose


def test_neumanns_row_is_its_series() -> None:
    problem = benchmark.build(8, batch=1, depth=3, filters=4)
    row = benchmark.run(problem, benchmark.METHODS["Neumann"], rounds=1)
    series = benchmark.ours(deq.Neumann(order=row.products))
    same = benchmark.run(problem, series, rounds=1)
    assert same.products == row.products
    torch.testing.assert_close(same.gradient, row.gradient, rtol=1e-5, atol=1e-7)


def test_draws_every_method(compared: Compared, tmp_path: Path) -> None:
    benchmark.draw({8: compared, 16: compared}, tmp_path / "figure.png")
    height, width, _ = plt.imread(tmp_path / "figure.png").shape
    assert (height, width) == (396, 990)
