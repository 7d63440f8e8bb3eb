from __future__ import annotations

import math

import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound, Kind, SquaredError, StepConstants
from deepinv_equilibrium.certificates.gradients.step_constants import (
    estimate_smoothness,
    probes,
)
from deepinv_equilibrium.certificates.gradients.step_jacobians import (
    StepJacobians,
    sample_norms,
)

from ..known_equilibria import KnownModel


def test_of_block_bounds_the_changes_of_the_derivatives() -> None:
    for seed in range(40):
        layers = 2 + seed % 4
        model = KnownModel(seed, deq.Equilibrium(layers=layers))
        step, _ = model.fixed_point_problem(model.y)
        jacobians = StepJacobians(step, [model.theta])
        fixed_point, constants = model.fixed_point, model.block_constants
        for x in probes(fixed_point, 0.5 + 0 * sample_norms(fixed_point), []):
            distance = sample_norms(x - fixed_point)
            change = jacobians.parameter_change(x, fixed_point, x)
            L_B = constants.parameter_jacobian_lipschitz
            assert bool((change <= L_B.value * distance * (1 + 1e-9)).all())
            c = torch.randn_like(x)
            moved = jacobians.state_vjp(x, c) - jacobians.state_vjp(fixed_point, c)
            L_J = constants.jacobian_lipschitz.value * (1 + 1e-9)
            bound = L_J * distance * sample_norms(c)
            assert bool((sample_norms(moved) <= bound).all())


def test_of_block_with_one_layer_returns_the_constants_of_the_step() -> None:
    constants = StepConstants(Bound(2.0), Bound(3.0))
    block = constants.of_block(1, Bound(0.5), Bound(7.0))
    assert block.jacobian_lipschitz.value == 2.0
    assert block.parameter_jacobian_lipschitz.value == 3.0


def test_of_block_has_the_weakest_kind() -> None:
    constants = StepConstants(Bound(2.0), Bound(3.0))
    estimated = Bound(7.0, Kind.ESTIMATED)
    block = constants.of_block(3, Bound(0.5), estimated)
    assert block.jacobian_lipschitz.is_certified
    assert block.parameter_jacobian_lipschitz.kind is Kind.ESTIMATED


def test_step_constants_raise_for_lower_bounds() -> None:
    with pytest.raises(ValueError, match="jacobian_lipschitz must be an upper bound"):
        StepConstants(Bound(1.0, is_lower=True), Bound(1.0))


def test_estimate_smoothness_returns_the_constant_of_a_smooth_loss() -> None:
    x = torch.randn(2, 3, dtype=torch.float64)
    radius = torch.ones(2, dtype=torch.float64)
    known = SquaredError(0 * x, weight=2.0)
    assert estimate_smoothness(known, x, radius, []) is known.smoothness
    estimate = estimate_smoothness(lambda z: known(z), x, radius, [])
    assert estimate.kind is Kind.ESTIMATED
    assert estimate.value == pytest.approx(4.0)


def test_probes_have_the_given_distances() -> None:
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    radius = torch.tensor([0.1, 1.0, math.inf], dtype=torch.float64)
    direction = torch.randn_like(x)
    direction[1] = 0
    states = probes(x, radius, [direction])
    assert len(states) == 4
    for index, state in enumerate(states):
        distances = sample_norms(state - x)
        assert distances[0] == pytest.approx(0.1)
        assert distances[1] == pytest.approx(1.0 if index else 0.0)
        # An infinite radius is replaced by a small one.
        assert 0 < distances[2] < 1e-6 * sample_norms(x)[2]
