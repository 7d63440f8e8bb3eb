"""Wrong components that passed a suite until a user found them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium import testing
from deepinv_equilibrium.certificates import (
    Bound,
    Interval,
    UncertifiableModuleError,
)


class Concave(dinv.optim.Prior):
    """-|x|^2 / 4, which declares to be convex."""

    def __init__(self) -> None:
        super().__init__()
        self.explicit_prior = True

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return -x.square().flatten(1).sum(1) / 4

    def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return -x / 2

    def gradient_bounds(self, img_size: Any) -> Interval:
        return Interval(Bound(0.0, source="wrong", is_lower=True), Bound(1.0))


def test_a_wrong_lower_curvature_is_found() -> None:
    with pytest.raises(testing.ContractError, match=r"monotonicity is -0\.5, less"):
        testing.check_prior(Concave(), (1, 3, 4))


@dataclass(frozen=True, kw_only=True)
class NoAbsoluteTolerance(deq.Picard):
    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "atol", 0.0)


@dataclass(frozen=True, kw_only=True)
class NoChecks(deq.Picard):
    def __post_init__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("solver", "contract"),
    [
        (NoAbsoluteTolerance(), "stops_at_the_absolute_tolerance"),
        (NoChecks(), "refuses_wrong_arguments"),
    ],
)
def test_a_solver_without_a_tolerance_or_checks_is_found(
    solver: Any, contract: str
) -> None:
    assert testing.solver_contracts()[contract](deq.Picard()) == "holds"
    with pytest.raises(testing.ContractError, match=contract):
        testing.solver_contracts()[contract](solver)


class WildFarAway(dinv.models.Denoiser):
    """Contracts for images near [0, 1] only."""

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return torch.where(x.abs() < 25, 0.9 * x, 3 * x - 52.5 * x.sign())

    def lipschitz_bound(self, img_size: Any) -> Bound:
        return Bound(0.9, source="wrong")


def test_a_bound_that_fails_far_outside_the_range_is_found() -> None:
    with pytest.raises(testing.ContractError, match="30 times brighter images"):
        testing.check_denoiser(WildFarAway(), (1, 4, 4))


class WeaklyCoupled(dinv.models.Denoiser):
    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return 0.9 * (x - 0.01 * x.mean())

    def lipschitz_bound(self, img_size: Any) -> Bound:
        return Bound(0.99, source="declared")


def test_a_weak_coupling_of_samples_is_refused() -> None:
    with pytest.raises(UncertifiableModuleError, match="other images of its batch"):
        deq.lipschitz(WeaklyCoupled(), (1, 16, 16))


def test_measurements_of_magnetic_resonance_have_their_own_remedies() -> None:
    model = deq.presets.certified_deq_pgd(
        deq.models.ConvexPotentialDenoiser(2, contraction=0.9, pretrained=None)
    )
    physics = dinv.physics.MRI(img_size=(2, 8, 8))
    for y, message in (
        (torch.rand(2, 8, 8), r"batch axis, which comes first: y\[None\]"),
        (torch.rand(1, 1, 8, 8), "two channels"),
        (torch.rand(1, 2, 12, 12), "mask of the physics has the shape"),
    ):
        with pytest.raises(ValueError, match=message):
            model(y, physics)


def test_a_certificate_for_any_mask_says_so() -> None:
    model = deq.presets.certified_ridge_gd(0.02, in_channels=2, stepsize=1.0)
    physics = deq.physics.any_mask(dinv.physics.MRI(img_size=(2, 8, 8)))
    text = " ".join(str(deq.certify(model, physics, (2, 8, 8))).split())
    assert "operator with every mask of 0 and 1, this image size only" in text
