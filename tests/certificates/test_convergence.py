"""What a certificate says where nothing contracts."""

from __future__ import annotations

from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound, Convergence, Energy, Interval, Kind
from deepinv_equilibrium.certificates.contraction_bounds import Contraction

SIZE = (1, 4, 5)


class Cosine(dinv.optim.Prior):
    """The sum of rho (cos x - 1) over the pixels, which is rho-weakly convex."""

    def __init__(self, rho: float) -> None:
        super().__init__()
        self.explicit_prior = True
        self.rho = rho

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.rho * (x.cos() - 1).flatten(1).sum(1)

    def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return -self.rho * x.sin()

    def gradient_bounds(self, img_size: Any = None) -> Interval:
        return Interval(Bound(-self.rho, is_lower=True), Bound(self.rho))


def descent(rho: float, stepsize: float) -> deq.optim.GD:
    return deq.optim.GD(
        data_fidelity=dinv.optim.L2(),
        prior=Cosine(rho),
        stepsize=stepsize,
        trainable_params=[],
        DEQ=deq.Equilibrium(deq.Picard(max_iter=5), on_failure="ignore"),
    )


PHYSICS = dinv.physics.Denoising()


@pytest.mark.parametrize(
    ("rho", "stepsize", "expected", "words"),
    [
        (0.5, 0.5, "contracts", "strongly convex (curvature >= 0.49"),
        (1.0, 0.5, "decreases", "not proved to be convex"),
        (3.0, 0.4, "decreases", "F(x) - F(T(x)) >= 0.49"),
        (3.0, 0.6, "unproved", "no contraction, convergence or decrease"),
    ],
)
def test_certify_reports_the_strongest_property_that_is_proved(
    rho: float, stepsize: float, expected: str, words: str
) -> None:
    certificate = deq.certify(descent(rho, stepsize), PHYSICS, SIZE)
    assert certificate.convergence == expected
    assert certificate.contracts == (expected == "contracts")
    assert words in " ".join(str(certificate).split())


def test_energy_falls_by_the_certified_amount() -> None:
    model = descent(3.0, 0.4)
    energy = deq.certify(model, PHYSICS, SIZE).energy
    assert energy is not None
    torch.manual_seed(0)
    x, y = 3 * torch.randn(2, 4, *SIZE, dtype=torch.float64)
    step, _ = model.fixed_point_problem(y, PHYSICS)

    def value(z: Tensor) -> Tensor:
        return (z - y).square().flatten(1).sum(1) / 2 + model.prior[0].fn(z)

    for _ in range(5):
        moved = step(x)
        fall = energy.decrease.value * (moved - x).square().flatten(1).sum(1)
        assert (value(x) - value(moved) >= fall - 1e-12).all()
        x = moved


def test_hooks_and_changes_void_a_proved_decrease() -> None:
    model = descent(1.0, 0.5)
    certificate = deq.certify(model, PHYSICS, SIZE)
    assert certificate.holds_for(model, PHYSICS)
    model.prior[0].rho = 1.1
    assert not certificate.holds_for(model, PHYSICS)
    model.prior[0].register_forward_hook(lambda module, args, output: None)
    assert deq.certify(model, PHYSICS, SIZE).convergence is Convergence.UNPROVED


def test_only_certified_bounds_prove_a_property() -> None:
    def estimated(value: float, is_lower: bool = False) -> Bound:
        return Bound(value, Kind.ESTIMATED, is_lower=is_lower)

    energy = Energy("F", estimated(0.0, True), estimated(1.0, True))
    known = Contraction(estimated(0.5), "l2", averaged=estimated(0.5), energy=energy)
    assert known.convergence is Convergence.UNPROVED
    assert not energy.is_convex
