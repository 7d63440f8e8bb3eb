"""Certificates for every mask against the dense operators of single masks."""

from __future__ import annotations

import functools
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.physics import MRI, DynamicMRI, Inpainting, MultiCoilMRI
from hypothesis import given, settings
from hypothesis import strategies as st

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Certificate, Interval, Kind
from deepinv_equilibrium.certificates.spectra.double_precision import double_copy
from deepinv_equilibrium.physics import (
    DynamicMultiCoilMRI,
    any_mask,
    birdcage_coil_maps,
)

from ..certificates.dense_spectrum import dense_spectrum

SIZE = (4, 5)
MAPS = birdcage_coil_maps(3, SIZE)
KINDS = ("Inpainting", "MRI", "DynamicMRI", "MultiCoilMRI", "DynamicMultiCoilMRI")


def scan(kind: str, seed: int, share: float = 0.5) -> Any:
    """A physics with a random mask, which may be 0 everywhere."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(2, *SIZE, generator=generator) < share).float()
    return {
        "Inpainting": lambda: Inpainting((2, *SIZE), mask=mask),
        "MRI": lambda: MRI(mask=mask[:1], img_size=SIZE),
        "DynamicMRI": lambda: DynamicMRI(mask=mask, img_size=(2, *SIZE)),
        "MultiCoilMRI": lambda: MultiCoilMRI(
            mask=mask[:1], coil_maps=MAPS[None], img_size=SIZE
        ),
        "DynamicMultiCoilMRI": lambda: DynamicMultiCoilMRI(mask, coil_maps=MAPS),
    }[kind]()


def image_size(kind: str) -> tuple[int, ...]:
    return (2, 2, *SIZE) if kind.startswith("Dynamic") else (2, *SIZE)


@functools.cache
def spectrum_of_any_mask(kind: str) -> Interval:
    return deq.spectrum(any_mask(scan(kind, 0)), image_size(kind))


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1), kind=st.sampled_from(KINDS))
def test_interval_contains_the_spectrum_of_every_mask(
    seed: int, share: float, kind: str
):
    size = image_size(kind)
    interval = spectrum_of_any_mask(kind)
    assert interval.kind is Kind.CERTIFIED
    assert interval.lower.value == 0
    physics = double_copy(scan(kind, seed, share))
    _, largest = dense_spectrum(physics, (1, *size))
    assert largest <= interval.upper.value


@pytest.mark.parametrize("kind", ["Inpainting", "MultiCoilMRI", "DynamicMultiCoilMRI"])
def test_stand_ins_of_other_masks_are_equal_and_the_physics_is_unchanged(kind: str):
    size = image_size(kind)
    network = deq.models.ConvexPotentialDenoiser(
        2, contraction=0.9, pretrained=None, layers=1, generators=1, kernel_size=3
    )
    model: Any = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(network),
        stepsize=0.9,
        sigma_denoiser=0.1,
        DEQ=deq.Equilibrium(),
    )
    physics = scan(kind, 0)
    before = physics.mask.clone()
    certificate = deq.certify(model, any_mask(physics), size)
    if not kind.startswith("Dynamic"):  # the network is for images
        assert certificate.contracts
    assert certificate.holds_for(model, any_mask(scan(kind, 1, 0.2)))
    # It holds for the physics themselves, as long as the mask is one.
    assert certificate.holds_for(model, physics)
    assert certificate.holds_for(model, scan(kind, 2, 0.1))
    for factor in (1.1, 0.5, -1.0, float("nan")):
        physics.mask = factor * before
        assert not certificate.holds_for(model, physics)
    assert not certificate.holds_for(model, dinv.physics.Denoising())
    physics.mask = before
    assert torch.equal(physics.mask, before)
    assert type(physics).__name__ == kind


@functools.cache
def certified(size: tuple[int, ...]) -> tuple[Any, Certificate]:
    """A model with a random network, and its certificate for any mask."""
    torch.manual_seed(0)
    network = deq.models.ConvexPotentialDenoiser(
        1, contraction=0.8, pretrained=None, layers=2, generators=1
    )
    model = deq.plugins.create(
        "reconstructors",
        "certified-deq-pgd",
        denoiser=network,
        solver=deq.Picard(rtol=1e-6, max_iter=300),
    )
    full = Inpainting(size, mask=torch.ones(size))
    return model, deq.certify(model, any_mask(full), size)


@given(seed=st.integers(0, 100), share=st.floats(0, 1))
@settings(deadline=None, max_examples=8)
def test_no_mask_contradicts_rate_and_stability(seed: int, share: float):
    size = (1, 8, 8)
    model, certificate = certified(size)
    generator = torch.Generator().manual_seed(seed)
    # A batch with another mask for each sample.
    mask = (torch.rand(3, 1, 8, 8, generator=generator) < share).float()
    physics = Inpainting(size, mask=mask)
    y, z = (mask * torch.rand(3, *size, generator=generator) for _ in "yz")
    step, x = model.fixed_point_problem(y, physics)
    other = torch.rand(3, *size, generator=generator)
    with torch.no_grad():
        moved = (step(x) - step(other)).flatten(1).norm(dim=1)
        gap = (model(y, physics) - model(z, physics)).flatten(1).norm(dim=1)
    allowed = certificate.rate.value * (x - other).flatten(1).norm(dim=1)
    assert bool((moved <= allowed * (1 + 1e-5)).all())
    allowed = certificate.stability.value * (y - z).flatten(1).norm(dim=1)
    assert bool((gap <= allowed + 1e-4).all())


def test_distance_to_the_fixed_point_of_a_scan():
    size = (1, 8, 8)
    model, certificate = certified(size)
    mask = torch.zeros(2, *size)
    mask[0, :, ::2] = 1
    physics = Inpainting(size, mask=mask)
    y = mask * torch.rand(2, *size, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        truth = model(y, physics)
    x = truth + 0.01 * torch.randn(2, *size, generator=torch.Generator().manual_seed(4))
    bounds = certificate.distance(model, y, physics, x)
    for bound, distance in zip(
        bounds, (x - truth).flatten(1).norm(dim=1).tolist(), strict=True
    ):
        assert bound.is_certified
        assert distance <= bound.value * (1 + 1e-4) <= 12 * distance


def test_step_sizes_that_follow_the_mask_are_not_certified():
    stand_in = any_mask(Inpainting((1, 8, 8), mask=0.5))
    automatic = deq.optim.GD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.Tikhonov(),
        stepsize="auto",
        lambda_reg=0.1,
        DEQ=deq.Equilibrium(),
    )
    wavelet = deq.plugins.create("reconstructors", "wavelet", channels=1, levels=1)
    for model, reason in ((automatic, "'auto' follows"), (wavelet, "follows the oper")):
        certificate = deq.certify(model, stand_in, (1, 8, 8))
        assert not certificate.contracts
        assert reason in certificate.rate.source


class Own(MRI):
    """A user's operator."""


def test_physics_without_a_proof_are_refused():
    mask = torch.ones(1, *SIZE)
    for physics in (dinv.physics.Denoising(), Own(mask=mask, img_size=SIZE)):
        with pytest.raises(TypeError, match=r"any_mask takes .*, got (Denoising|Own)"):
            any_mask(physics)
    with pytest.raises(TypeError, match="a real mask"):
        any_mask(Inpainting((1, *SIZE), mask=mask * 1j))
