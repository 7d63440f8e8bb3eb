from __future__ import annotations

import math

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.optim import NonNegativity, RidgeL2

MATRIX = torch.randn(5, 6, generator=torch.Generator().manual_seed(1)).double()
MATRIX /= torch.linalg.matrix_norm(MATRIX, 2)
KAPPA = 0.2


def physics() -> dinv.physics.LinearPhysics:
    """A matrix with a null space, on images of 2 x 3 pixels."""
    return dinv.physics.LinearPhysics(
        A=lambda x, **_: x.flatten(1) @ MATRIX.T,
        A_adjoint=lambda y, **_: (y @ MATRIX).reshape(-1, 1, 2, 3),
        img_size=(1, 2, 3),
    )


def model(stepsize: float = 1.5, kappa: float = KAPPA) -> deq.optim.PGD:
    return deq.optim.PGD(
        data_fidelity=RidgeL2(kappa=kappa),
        prior=NonNegativity(),
        stepsize=stepsize,
        trainable_params=[],
        DEQ=deq.Equilibrium(deq.Picard(max_iter=3000, rtol=1e-13)),
    )


def images(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 2, 3)


six_numbers = st.lists(st.floats(-10, 10), min_size=6, max_size=6).map(images)


def test_fn_is_zero_or_infinite_for_each_sample() -> None:
    x = torch.tensor([[0.0, 1.0], [2.0, -1e-30], [-1.0, -2.0]])
    assert NonNegativity()(x).tolist() == [0, math.inf, math.inf]
    assert NonNegativity()(x.double()).dtype == torch.float64


@given(six_numbers, six_numbers, st.floats(0.1, 10))
def test_prox_is_the_projection(x: Tensor, other: Tensor, gamma: float) -> None:
    prior = NonNegativity()
    p, q = prior.prox(x, gamma=gamma), prior.prox(other, gamma=gamma)
    assert prior(p) == 0
    # An obtuse angle characterises the nearest point of a convex set.
    assert ((x - p) * (q - p)).sum() <= 1e-12
    assert (p - q).square().sum() <= ((p - q) * (x - other)).sum() + 1e-12


def test_grad_raises_and_complex_images_are_refused() -> None:
    prior = NonNegativity()
    with pytest.raises(ValueError, match="NonNegativity has no gradient"):
        prior.grad(torch.ones(1, 1, 2, 2))
    for method in (prior.fn, prior.prox):
        with pytest.raises(TypeError, match=r"x must be real .*complex64"):
            method(torch.ones(1, 1, 2, 2, dtype=torch.complex64))


def test_projected_gradient_descent_satisfies_the_kkt_conditions() -> None:
    """Conditions of Karush, Kuhn and Tucker."""
    y = torch.randn(4, 5, dtype=torch.float64)
    with torch.no_grad():
        x = model()(y, physics()).flatten(1)
    gradient = (x @ MATRIX.T - y) @ MATRIX + KAPPA * x
    active = x == 0
    assert bool((x >= 0).all())
    assert 0.2 < active.double().mean() < 0.8
    assert gradient[~active].abs().max() < 1e-11
    assert gradient[active].min() > 0


def test_step_of_pgd_is_projected_gradient_descent() -> None:
    y, x = torch.randn(2, 5, dtype=torch.float64), torch.randn(2, 1, 2, 3).double()
    step, _ = model(stepsize=0.3).fixed_point_problem(y, physics())
    flat = x.flatten(1)
    expected = (1 - 0.3 * KAPPA) * flat - 0.3 * (flat @ MATRIX.T - y) @ MATRIX
    torch.testing.assert_close(step(x).flatten(1), expected.clamp(min=0))


@settings(max_examples=30)
@given(six_numbers, six_numbers, st.floats(0.05, 2.5), st.floats(0.01, 2))
def test_certified_rate_bounds_distances_of_iterates(
    x: Tensor, other: Tensor, stepsize: float, kappa: float
) -> None:
    scan = physics()
    certificate = deq.certify(model(stepsize, kappa), scan, (1, 2, 3))
    step, _ = model(stepsize, kappa).fixed_point_problem(
        torch.ones(1, 5, dtype=torch.float64), scan
    )
    with torch.no_grad():
        moved = (step(x) - step(other)).norm()
    assert moved <= certificate.rate.value * (x - other).norm() + 1e-12


def test_certified_rate_is_that_of_the_gradient_step() -> None:
    scan = dinv.physics.Inpainting(
        (1, 2, 3), mask=torch.tensor([[1.0, 0, 1], [0, 1, 1]])
    )
    certificate = deq.certify(model(0.5), scan, (1, 2, 3))
    assert certificate.rate.is_certified
    assert certificate.rate.value == pytest.approx(1 - 0.5 * KAPPA, rel=1e-6)
    assert certificate.contracts
    firm = next(term for term in certificate.terms if term.symbol == "L_D")
    assert firm.bound.value == 1
    without = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=NonNegativity(),
        stepsize=0.5,
        DEQ=deq.Equilibrium(),
    )
    assert not deq.certify(without, scan, (1, 2, 3)).contracts


def test_subclass_that_overrides_prox_is_not_certified() -> None:
    class Clipped(NonNegativity):
        def prox(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
            return 3 * x.clamp(min=0)

    other = model()
    other.prior[0] = Clipped()
    assert not deq.certify(other, physics(), (1, 2, 3)).contracts


def test_registry_creates_the_prior() -> None:
    assert type(deq.plugins.create("priors", "nonnegativity")) is NonNegativity
