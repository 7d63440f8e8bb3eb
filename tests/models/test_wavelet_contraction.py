"""The certificate of WaveletReconstructor: rate, sensitivity and stability."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Kind, UncertifiableModuleError
from deepinv_equilibrium.fixed_points import State, StateLayout
from deepinv_equilibrium.models import WaveletReconstructor
from deepinv_equilibrium.optim import WeightedWaveletPrior

from .test_wavelet_reconstructor import blur, make_model

SIZE = (3, 6, 5)
DOUBLE = torch.float64


def random_state(start: State, scale: float) -> tuple[Tensor, ...]:
    assert isinstance(start, tuple)
    return tuple(scale * torch.randn_like(part) for part in start)


def packed(state: State) -> Tensor:
    parts = state if isinstance(state, tuple) else (state,)
    return torch.cat([part.flatten() for part in parts])


def spectral_norm(step: Any, point: tuple[Tensor, ...]) -> float:
    """Return the norm of the dense Jacobian of a step, for one sample."""
    layout = StateLayout.of(point)

    def moved(row: Tensor) -> Tensor:
        return packed(step(layout.unpack(row[None])))

    jacobian = torch.autograd.functional.jacobian(moved, packed(point))
    return float(torch.linalg.matrix_norm(jacobian, 2))


def near_identity_blur(size: tuple[int, ...]) -> dinv.physics.LinearPhysics:
    kernel = torch.zeros(1, 1, *(min(3, n) for n in size[-2:]), dtype=DOUBLE)
    kernel += 0.02
    kernel[..., kernel.shape[-2] // 2, kernel.shape[-1] // 2] = 1.0
    return dinv.physics.BlurFFT(size, filter=kernel / kernel.sum())


def weighting(size: tuple[int, ...]) -> dinv.physics.LinearPhysics:
    return dinv.physics.Inpainting(size, mask=0.8 + 0.2 * torch.rand(size).double())


PHYSICS: dict[str, Callable[[tuple[int, ...]], dinv.physics.LinearPhysics]] = {
    "blur": near_identity_blur,
    "inpainting": weighting,
    "denoising": lambda size: dinv.physics.Denoising(),
}


def norm(state: tuple[Tensor, ...]) -> float:
    return math.sqrt(sum(float(part.square().sum()) for part in state))


@settings(max_examples=25)
@given(
    st.integers(0, 2**31),
    st.sampled_from([1.95, 1.0, "optimal"]),
    st.booleans(),
    st.booleans(),
)
def test_rate_bounds_the_contraction_of_random_pairs_of_states(
    seed: int, stepsize: float, normalised: bool, blurred: bool
) -> None:
    torch.manual_seed(seed)
    config = deq.Equilibrium(layers=2)
    model = make_model(3, config, stepsize, normalised).double()
    physics = blur() if blurred else dinv.physics.Denoising()
    rate = deq.certify(model, physics, SIZE).rate
    assert rate.kind is Kind.CERTIFIED
    assert rate.value < 1
    y = torch.rand(1, *SIZE, dtype=DOUBLE)
    step, start = model.fixed_point_problem(y, physics)
    assert isinstance(start, tuple)
    with torch.no_grad():
        for scale in (1e-3, 10.0):
            u, v = random_state(start, 10.0), random_state(start, scale)
            w = tuple(a + b for a, b in zip(u, v, strict=True))
            moved = tuple(a - b for a, b in zip(step(w), step(u), strict=True))
            assert norm(moved) <= rate.value * norm(v) * (1 + 1e-9)


@pytest.mark.parametrize("size", [(1, 7, 5), (1, 5, 6), (2, 1, 3), (1, 4, 8)])
@pytest.mark.parametrize("operator", ["blur", "inpainting", "denoising"])
def test_rate_bounds_dense_jacobians(operator: str, size: tuple[int, ...]) -> None:
    """For odd sizes the state has entries that no image attains."""
    torch.manual_seed(0)
    physics = PHYSICS[operator](size)
    model = make_model(size[0], deq.Equilibrium(), 1.0).double()
    rate = deq.certify(model, physics, size).rate
    assert rate.kind is Kind.CERTIFIED
    assert rate.value < 1
    y = physics.A(torch.rand(1, *size, dtype=DOUBLE))
    step, start = model.fixed_point_problem(y, physics)
    for scale in (0.1, 1.0, 100.0):
        point = random_state(start, scale)
        assert spectral_norm(step, point) <= rate.value * (1 + 1e-9)


@pytest.mark.parametrize("stepsize", [1.0, 1.95])
@pytest.mark.parametrize("operator", ["blur", "inpainting", "denoising"])
def test_certified_sensitivity_is_close_to_the_norm_of_a_dense_jacobian(
    operator: str, stepsize: float
) -> None:
    """The state has coefficients that are far above the thresholds."""
    torch.manual_seed(0)
    size = (1, 7, 5)
    physics = PHYSICS[operator](size)
    config, one = deq.Equilibrium(layers=2), deq.Equilibrium()
    model = make_model(1, config, stepsize).double()
    layers = deq.certify(model, physics, size).contraction.layers
    assert len(layers) == 2
    model.DEQ = one
    y = physics.A(torch.rand(1, *size, dtype=DOUBLE))
    _, start = model.fixed_point_problem(y, physics)
    u = random_state(start, 1e3)

    def moved(y: Tensor) -> Tensor:
        return packed(model.fixed_point_problem(y, physics)[0](u))

    jacobian = torch.autograd.functional.jacobian(moved, y).reshape(-1, y.numel())
    truth = float(torch.linalg.matrix_norm(jacobian, 2))
    for layer in layers:
        assert layer.sensitivity.is_certified
        assert truth <= layer.sensitivity.value * (1 + 1e-9)
        assert layer.sensitivity.value <= 1.5 * truth


def test_certify_raises_for_model_with_forward_hooks() -> None:
    model = make_model(3, deq.Equilibrium(), 1.0).double()
    for module in (model, model.prior):
        handle = module.register_forward_hook(lambda module, given, x: 10 * x)
        with pytest.raises(UncertifiableModuleError, match="it has forward hooks"):
            deq.certify(model, dinv.physics.Denoising(), SIZE)
        handle.remove()
    assert deq.certify(model, dinv.physics.Denoising(), SIZE).contracts


@torch.no_grad()
def test_rate_is_attained_for_large_coefficients_with_the_largest_weight() -> None:
    model = make_model(3, deq.Equilibrium(), 1.0).double()
    physics = dinv.physics.Denoising()
    y = torch.rand(1, *SIZE, dtype=DOUBLE)
    step, start = model.fixed_point_problem(y, physics)
    assert isinstance(start, tuple)
    theta = model.prior.weights(y)
    largest = max(range(2), key=lambda j: theta[j].max().item())
    u = tuple(torch.full_like(part, 1e6) for part in start)
    w = tuple(part.clone() for part in u)
    band = theta[largest].expand(1, 3, 3, 1, 1) == theta[largest].max()
    w[1 + largest][band.expand_as(w[1 + largest])] += 1.0
    moved = tuple(a - b for a, b in zip(step(w), step(u), strict=True))
    ratio = norm(moved) / norm(tuple(a - b for a, b in zip(w, u, strict=True)))
    rate = deq.certify(model, physics, SIZE).rate.value
    assert ratio == pytest.approx(rate, rel=1e-3)


@torch.no_grad()
def test_step_size_in_the_paragraph_on_validity_of_the_paper_diverges() -> None:
    """For lambda other than 1, 1.95 min(Lambda) differs from 1.95 min(theta)^2."""
    prior = WeightedWaveletPrior(levels=2, initial_weight=0.1).double()
    model = WaveletReconstructor(prior, deq.ReTune(1, 50))
    y, physics = torch.rand(1, 1, 8, 8, dtype=DOUBLE), dinv.physics.Denoising()
    step, start = model.fixed_point_problem(y, physics)
    scaling = model.scaling(y)
    band = prior.log_band.exp().min().item()
    wrong = deq.optim.wavelets.WaveletForwardBackwardStep(
        y, physics, prior, scaling, torch.tensor(1.95 * band)
    )
    state = start
    for _ in range(50):
        state = wrong(state)
    assert isinstance(state, tuple)
    assert norm(state) > 1e50
    assert float(step.tau) == pytest.approx(1.95 * 0.01, rel=1e-6)


def test_stability_bounds_changes_of_the_image() -> None:
    config = deq.Equilibrium(deq.Anderson(max_iter=3000, rtol=1e-11))
    model, physics = make_model(3, config, normalised=True).double(), blur()
    stability = deq.certify(model, physics, SIZE).stability
    assert stability.kind is Kind.CERTIFIED
    y = torch.rand(4, *SIZE, dtype=DOUBLE)
    move = torch.randn_like(y)
    with torch.no_grad():
        change = model(y + move, physics) - model(y, physics)
    ratio = change.flatten(1).norm(dim=1) / move.flatten(1).norm(dim=1)
    assert bool((ratio <= stability.value).all())


def test_operator_with_a_null_space_has_rate_1_and_infinite_stability() -> None:
    mask = torch.ones(SIZE)
    mask[0, 1] = 0
    certificate = deq.certify(
        make_model(), dinv.physics.Inpainting(SIZE, mask=mask), SIZE
    )
    assert not certificate.contracts
    assert certificate.rate.value == pytest.approx(1)
    assert math.isinf(certificate.stability.value)
