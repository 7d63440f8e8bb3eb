"""Closed forms of proximal operators: claims, and their check on random vectors."""

from __future__ import annotations

import copy

import deepinv as dinv
import pytest
import torch
from deepinv.physics import DecomposablePhysics, LinearPhysics
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates.spectra.closed_prox import (
    claims_closed_prox,
    has_closed_prox,
    solves_prox,
)

from ...one_test import in_one_test
from ..dense_operator import matrix


def with_transform(transform: Tensor) -> DecomposablePhysics:
    """Return a physics of 2 x 2 images with the transform V and a constant mask."""

    def V(x: Tensor) -> Tensor:
        return (x.flatten(1) @ transform.mT).reshape(x.shape)

    def V_adjoint(x: Tensor) -> Tensor:
        return (x.flatten(1) @ transform).reshape(x.shape)

    mask = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    return DecomposablePhysics(V=V, V_adjoint=V_adjoint, mask=mask)


kernel = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(0)) / 4
mask = torch.rand(1, 4, 6, generator=torch.Generator().manual_seed(1))
CLOSED = {
    "Denoising": (dinv.physics.Denoising(), (3, 4, 6)),
    "Inpainting": (dinv.physics.Inpainting((1, 4, 6), mask=mask), (1, 4, 6)),
    "BlurFFT": (dinv.physics.BlurFFT((1, 4, 6), filter=kernel), (1, 4, 6)),
    "BlurFFT, double": (
        dinv.physics.BlurFFT((1, 5, 4), filter=kernel.double()),
        (1, 5, 4),
    ),
    "MRI": (dinv.physics.MRI(mask=mask[0], img_size=(4, 6)), (2, 4, 6)),
    "ChannelwiseBlur": (deq.physics.ChannelwiseBlur(kernel), (2, 4, 6)),
    "Downsampling": (
        dinv.physics.Downsampling((2, 4, 6), filter=kernel, padding="circular"),
        (2, 4, 6),
    ),
}


@in_one_test("name", CLOSED)
def test_has_closed_prox_is_true_for_a_right_closed_form(name: str) -> None:
    physics, size = CLOSED[name]
    before = {key: value.clone() for key, value in physics.state_dict().items()}
    assert has_closed_prox(physics, size)
    for key, value in physics.state_dict().items():
        assert torch.equal(value, before[key])


OTHERS = {
    "V with fewer columns than rows": (dinv.physics.Decolorize(), (3, 2, 2)),
    "kernel larger than the image": (
        dinv.physics.Downsampling((1, 2, 2), filter=kernel, padding="circular"),
        (1, 2, 2),
    ),
    "no filter": (dinv.physics.Downsampling((1, 4, 4), filter=None), (1, 4, 4)),
    "iterations": (dinv.physics.Blur(filter=kernel, padding="circular"), (1, 4, 4)),
    "another padding": (
        deq.physics.ChannelwiseBlur(kernel, padding="replicate"),
        (1, 4, 4),
    ),
    "no operator of that size": (
        dinv.physics.Inpainting((1, 4, 6), mask=mask),
        (1, 5, 5),
    ),
}


@in_one_test("name", OTHERS)
def test_has_closed_prox_is_false_without_a_right_closed_form(name: str) -> None:
    physics, size = OTHERS[name]
    assert not has_closed_prox(physics, size)


@given(st.integers(0, 10**6), st.sampled_from([0.0, 1e-9, 1e-3, 1.0]))
def test_solves_prox_agrees_with_the_isometry_of_a_transform(
    seed: int, deviation: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(4, 4, dtype=torch.float64, generator=generator)
    orthogonal = torch.linalg.qr(factor).Q
    orthogonal[:, 0] *= 1 + deviation
    z = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    assert solves_prox(with_transform(orthogonal), z, z) == (deviation == 0)


def test_claims_closed_prox_is_false_for_a_replaced_method() -> None:
    physics = copy.deepcopy(CLOSED["Inpainting"][0])
    assert claims_closed_prox(physics)
    physics.prox_l2 = physics.prox_l2
    assert not claims_closed_prox(physics)


class Doubling(LinearPhysics):
    """A user's physics; ``factor`` 5 is the right closed form for gamma = 1."""

    has_closed_prox = True

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def A(self, x: Tensor, **kwargs: object) -> Tensor:
        return 2 * x

    def A_adjoint(self, y: Tensor, **kwargs: object) -> Tensor:
        return 2 * y

    def prox_l2(self, z: Tensor, y: Tensor, gamma: Tensor, **kwargs: object) -> Tensor:
        return (z + 2 * gamma * y) / (1 + self.factor * gamma)


def test_has_closed_prox_checks_the_declaration_of_a_user() -> None:
    assert has_closed_prox(Doubling(4.0), (1, 2, 2))
    assert not has_closed_prox(Doubling(4.001), (1, 2, 2))
    assert not has_closed_prox(dinv.physics.Haze(), (1, 2, 2))


@pytest.mark.parametrize("name", ["DRS", "HQS"])
@settings(max_examples=5)
@given(seed=st.integers(0, 10**6))
def test_certified_rate_bounds_the_dense_step_without_a_right_closed_form(
    name: str, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(3, generator=generator)
    physics = dinv.physics.Decolorize(srf=tuple((weights / weights.sum()).tolist()))
    physics = physics.double()
    physics.tol = 1e-13
    model = getattr(deq.optim, name)(
        data_fidelity=deq.optim.RidgeL2(kappa=1.0),
        prior=dinv.optim.Tikhonov(),
        stepsize=float(torch.rand((), generator=generator)) + 0.5,
        lambda_reg=100.0,
        trainable_params=[],
        DEQ=deq.Equilibrium(),
    )
    y = physics.A(torch.zeros(1, 3, 1, 1, dtype=torch.float64))
    rate = deq.certify(model, physics, (3, 1, 1)).rate
    step, _ = model.fixed_point_problem(y, physics)
    truth = float(torch.linalg.matrix_norm(matrix(step, (3, 1, 1)), 2))
    assert truth <= rate.value * (1 + 1e-9)
    assert not rate.is_certified
