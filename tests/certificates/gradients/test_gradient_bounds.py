from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.certificates.gradients.gradient_bounds import (
    jacobian_free_error,
    retune_error,
    retune_squared_error,
    trajectory_error,
)

from ...one_test import in_one_test


@dataclass
class Affine:
    r"""The step :math:`f(x, \theta) = \theta_0 M x + \theta_1 u + b` at
    :math:`\theta = (1, 1)` with the loss :math:`\tfrac{w}{2}\|x - \bar x\|^2`."""

    M: Tensor
    u: Tensor
    b: Tensor
    x0: Tensor
    target: Tensor
    weight: float

    @classmethod
    def random(cls, seed: int) -> Affine:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        n = int(torch.randint(1, 5, (), generator=generator))
        M = draw(n, n)
        rate = torch.rand((), generator=generator, dtype=torch.float64) * 0.97
        M *= rate / torch.linalg.matrix_norm(M, 2)
        scale = 10 ** draw(4).clamp(-2, 2)
        return cls(
            M,
            draw(n) * scale[0],
            draw(n),
            draw(n) * scale[1],
            draw(n) * scale[2],
            float(scale[3]),
        )

    @cached_property
    def rate(self) -> float:
        return float(torch.linalg.matrix_norm(self.M, 2)) * (1 + 1e-14)

    @cached_property
    def fixed_point(self) -> Tensor:
        return torch.linalg.solve(torch.eye(len(self.b)) - self.M, self.u + self.b)

    def step(self, x: Tensor) -> Tensor:
        return self.M @ x + self.u + self.b

    def iterate(self, count: int) -> Tensor:
        x = self.x0
        for _ in range(count):
            x = self.step(x)
        return x

    def loss_gradient(self, x: Tensor) -> Tensor:
        return self.weight * (x - self.target)

    def parameter_jacobian(self, x: Tensor) -> Tensor:
        return torch.stack([self.M @ x, self.u], dim=1)

    @cached_property
    def exact(self) -> Tensor:
        x = self.fixed_point
        system = torch.eye(len(x)) - self.M.T
        v = torch.linalg.solve(system, self.loss_gradient(x))
        return self.parameter_jacobian(x).T @ v

    def retune(self, layers: int, restarts: int) -> Tensor:
        count = layers * restarts
        v = self.loss_gradient(self.iterate(count))
        gradient = torch.zeros(2, dtype=torch.float64)
        for p in range(layers):
            gradient += self.parameter_jacobian(self.iterate(count - 1 - p)).T @ v
            v = self.M.T @ v
        return gradient

    def terms(self, restarts: int) -> dict[str, float]:
        """Return the arguments of Theorem 2 for blocks of one layer."""
        x, last = self.fixed_point, self.iterate(restarts - 1)
        return {
            "rate": self.rate,
            "restarts": restarts,
            "distance": float((self.x0 - x).norm()),
            "loss_gradient": float(self.loss_gradient(x).norm()),
            "loss_smoothness": self.weight,
            "parameter_jacobian": norm(self.parameter_jacobian(x)),
            "last_parameter_jacobian": norm(self.parameter_jacobian(last)),
            "parameter_jacobian_lipschitz": self.rate,
        }


def norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    # The identity matrices below have the default dtype.
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(previous)


def slack(*bounds: float) -> float:
    """Return a bound of the rounding of the dense computation."""
    return 1e-11 * (1 + max(bounds))


def scalar_example(restarts: int) -> Affine:
    r"""Return :math:`\Phi = \theta x + 1` at :math:`\theta = .01`, with start 0 and
    target -10."""
    one = torch.ones(1)
    return Affine(0.01 * one[:, None], 0 * one, one, 0 * one, -10 * one, 1.0)


def test_jacobian_free_error_holds_at_the_fixed_point() -> None:
    for seed in range(1000):
        problem = Affine.random(seed)
        x, terms = problem.fixed_point, problem.terms(1)
        v, power = torch.zeros_like(x), problem.loss_gradient(x)
        for order in range(4):
            v, power = v + power, problem.M.T @ power
            error = (problem.exact - problem.parameter_jacobian(x).T @ v).norm()
            bound = jacobian_free_error(
                terms["rate"],
                terms["loss_gradient"],
                terms["parameter_jacobian"],
                order,
            )
            assert error <= bound + slack(problem.exact.norm())


def test_retune_error_holds_for_random_problems() -> None:
    for seed in range(1000):
        problem = Affine.random(seed)
        restarts = 1 + seed % 7
        error = (problem.exact - problem.retune(1, restarts)).norm()
        bound = retune_error(**problem.terms(restarts))
        assert error <= bound + slack(problem.exact.norm())


def test_retune_squared_error_holds_for_random_problems() -> None:
    for seed in range(1000):
        problem = Affine.random(seed)
        problem.weight = 1.0
        restarts = 1 + seed % 7
        terms = problem.terms(restarts)
        del terms["loss_smoothness"]
        terms["error"] = terms.pop("loss_gradient")
        bound = retune_squared_error(**terms)
        error = (problem.exact - problem.retune(1, restarts)).norm()
        assert error <= bound + slack(problem.exact.norm())


def test_theorem_2_and_corollary_1_fail_as_printed_in_the_paper() -> None:
    problem = scalar_example(restarts=1)
    terms = problem.terms(1)
    # The second parameter has no influence; the first is theta.
    terms |= {"parameter_jacobian": 1 / 0.99, "last_parameter_jacobian": 0.0}
    terms["parameter_jacobian_lipschitz"] = 1.0
    # Affine differentiates in a factor of M = .01; the derivative in theta is 100 times
    # as large.
    error = float((problem.exact - problem.retune(1, 1)).norm()) * 100
    assert error == pytest.approx(11.23365, abs=1e-4)
    delta, d, G = terms["rate"], terms["distance"], terms["loss_gradient"]
    printed = delta / (1 - delta) * G * terms["parameter_jacobian"] + delta * d * G
    assert printed == pytest.approx(0.2235, abs=1e-4)
    corrected = retune_error(**terms)
    assert error <= corrected * (1 + 1e-12)
    assert corrected == pytest.approx(error, rel=1e-9)
    del terms["loss_smoothness"]
    terms["error"] = terms.pop("loss_gradient")
    assert retune_squared_error(**terms) == pytest.approx(error, rel=1e-9)


def test_theorem_2_as_printed_fails_often_from_zero() -> None:
    failures = 0
    for seed in range(200):
        problem = Affine.random(seed)
        problem.x0 = torch.zeros_like(problem.x0)
        problem.u = 0 * problem.u
        terms = problem.terms(1)
        error = (problem.exact - problem.retune(1, 1)).norm()
        corrected = retune_error(**terms)
        wrong_power = (
            (1 - terms["rate"])
            * terms["parameter_jacobian_lipschitz"]
            * terms["distance"]
            * terms["loss_gradient"]
        )
        assert error <= corrected + slack(problem.exact.norm())
        failures += bool(error > corrected - wrong_power + slack(error))
    assert failures > 20


def test_trajectory_error_bounds_the_distance_to_the_neumann_series() -> None:
    for seed in range(300):
        problem = Affine.random(seed)
        # The bound holds for every point x.
        x = problem.iterate(seed % 9)
        for layers, restarts in ((1, 1), (1, 4), (3, 2), (6, 1)):
            u = problem.loss_gradient(x)
            neumann, cotangents = torch.zeros(2), []
            for _ in range(layers):
                neumann += problem.parameter_jacobian(x).T @ u
                cotangents.append(float(u.norm()))
                u = problem.M.T @ u
            last = layers * restarts
            distances = [
                float((problem.iterate(last - p) - x).norm()) for p in range(layers + 1)
            ]
            bound = trajectory_error(
                problem.rate,
                distances,
                cotangents,
                problem.weight,
                norm(problem.parameter_jacobian(x)),
                0.0,
                problem.rate,
            )
            error = (problem.retune(layers, restarts) - neumann).norm()
            assert error <= bound + slack(neumann.norm(), error)


def test_trajectory_error_of_a_scalar_problem_has_a_closed_form() -> None:
    # f = theta x^2 / 2 at theta = 1 with the loss x: B = x^2 / 2, J = x. There are two
    # layers from x_0 = .5 over x_1 = .125 to x_2, and the series is at x = .25.
    bound = trajectory_error(
        0.5, [0.2421875, 0.125, 0.25], [1.0, 0.25], 0.0, 0.03125, 1.0, 0.375
    )
    # delta_0 = 0, delta_1 = 1 * .125 * 1, and B changes by at most .375 d.
    expected = 0.375 * 0.125 + 0.03125 * 0.125 + 0.375 * 0.25 * (0.25 + 0.125)
    assert bound == pytest.approx(expected)
    gradient = 0.125**2 / 2 + 0.125 * 0.5**2 / 2
    neumann = (1 + 0.25) * 0.25**2 / 2
    assert abs(gradient - neumann) <= bound


def test_jacobian_free_error_for_the_step_size_of_the_paper() -> None:
    # The step size 1.95 / L has the rate .95 per iteration; a block has ten.
    assert jacobian_free_error(0.95**10, 1.0, 1.0) == pytest.approx(1.49, abs=5e-3)


@in_one_test("rate", [1.0, 1.5, math.inf, math.nan])
def test_errors_are_infinite_without_a_contraction(rate: float) -> None:
    assert jacobian_free_error(rate, 1.0, 1.0) == math.inf
    assert retune_error(rate, 1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0) == math.inf
    assert retune_squared_error(rate, 1, 1.0, 1.0, 1.0, 1.0, 1.0) == math.inf
