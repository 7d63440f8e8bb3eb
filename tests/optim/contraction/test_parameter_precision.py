"""Rates hold for float64 images, whatever the precision of parameters and physics."""

from __future__ import annotations

import random
from typing import Any

import deepinv as dinv
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Interval, Kind

from ...one_test import in_one_test
from ..certified_models import contraction, dense_jacobian, random_denoiser

IMAGE = (1, 3, 4)
ALGORITHMS = ("PGD", "GD", "HQS", "DRS", "ADMM", "CondatVu")


def random_number(rng: random.Random, least: float = 1e-9) -> Any:
    """Return a number, a tensor in float32 or one in float64."""
    value = 10 ** rng.uniform(torch.tensor(least).log10().item(), 0.5)
    kind = rng.choice([None, torch.float32, torch.float64])
    return value if kind is None else torch.tensor(value, dtype=kind)


def random_operator(rng: random.Random) -> dinv.physics.LinearPhysics:
    """Return a physics in float32 or float64, with a closed form of the prox."""
    dtype = rng.choice([torch.float32, torch.float64])
    kind = rng.choice(["mask", "blur", "identity"])
    if kind == "mask":
        mask = rng.choice([1.0, 0.3]) * torch.rand(IMAGE)
        mask[0, 0, 0] = rng.choice([0.0, 1.0, 1e-4])
        return dinv.physics.Inpainting(IMAGE, mask=mask.to(dtype))
    if kind == "blur":
        kernel = torch.rand(1, 1, 3, 3, dtype=torch.float64)
        kernel[..., 1, 1] += rng.uniform(0, 8)
        physics = dinv.physics.BlurFFT(IMAGE, filter=kernel / kernel.sum())
        physics.update_parameters(filter=kernel / kernel.sum())
        return physics
    return dinv.physics.Denoising().to(dtype)


@given(seed=st.integers(0, 10**9), algorithm=st.sampled_from(ALGORITHMS))
def test_rate_bounds_dense_jacobian_in_any_precision_of_the_parameters(
    seed: int, algorithm: str
) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    physics = random_operator(rng)
    weak = rng.random() < 0.7  # the rate is then within float32's rounding of 1
    prior: Any = dinv.optim.Tikhonov()
    if not weak and algorithm != "CondatVu":
        implicit = dinv.optim.RED if algorithm == "GD" else dinv.optim.PnP
        prior = implicit(random_denoiser(rng, torch.float64))
    fidelity = dinv.optim.L2(sigma=random_number(rng, 0.3))
    arguments = {
        "data_fidelity": fidelity,
        "prior": prior,
        "stepsize": random_number(rng, 1e-3),
        "lambda_reg": random_number(rng),
        "trainable_params": rng.choice([None, [], ["stepsize"]]),
        "DEQ": deq.Equilibrium(layers=rng.choice([1, 2])),
    }
    if algorithm == "CondatVu":
        # A step size for which the algorithm has a rate.
        arguments["stepsize"] = rng.uniform(0.01, 0.05)
        arguments["stepsize_dual"] = random_number(rng, 0.1)
        arguments["composed_prior"] = dinv.optim.Tikhonov()
    if prior is not None and not isinstance(prior, dinv.optim.Tikhonov):
        arguments["sigma_denoiser"] = 0.1
        if arguments["trainable_params"] is None:
            arguments["trainable_params"] = ["stepsize", "lambda_reg"]
    model = getattr(deq.optim, algorithm)(**arguments)
    known = contraction(model, physics)
    if known.rate.is_vacuous:
        return
    assert known.rate.is_certified
    if known.in_state or algorithm == "ADMM":
        J = dense_jacobian(model, physics)
        truth = torch.linalg.matrix_norm(J, 2)
        assert truth <= known.rate.value * (1 + 1e-14)


def model_of(algorithm: str, **arguments: Any) -> Any:
    return getattr(deq.optim, algorithm)(
        **{
            "data_fidelity": dinv.optim.L2(),
            "prior": dinv.optim.Tikhonov(),
            "stepsize": 0.5,
            "trainable_params": [],
            "DEQ": deq.Equilibrium(),
            **arguments,
        }
    )


@pytest.mark.parametrize("algorithm", ["HQS", "DRS", "ADMM"])
def test_step_size_zero_is_refused_where_a_prox_divides_by_it(algorithm: str) -> None:
    with pytest.raises(ValueError, match=r"stepsize must be positive, got 0\.0"):
        model_of(algorithm, stepsize=0.0)
    model = model_of(algorithm)
    model.params_algo["stepsize"][0] = 0.0
    rate = contraction(model, dinv.physics.Denoising()).rate
    assert rate.is_vacuous
    assert "stepsize is 0" in rate.source
    assert contraction(model_of("PGD", stepsize=0.0), dinv.physics.Denoising()).rate


@in_one_test("algorithm", ["PGD", "HQS", "DRS", "ADMM"])
def test_rate_is_estimated_if_one_end_of_the_spectrum_is(algorithm: str) -> None:
    class Claimed(dinv.physics.DecomposablePhysics):
        """A decomposition that V, which is no isometry, does not give."""

    def scaled(x: Tensor) -> Tensor:
        return 3 * x

    physics = Claimed(V=scaled, V_adjoint=scaled, mask=torch.full((1, *IMAGE), 0.1))
    assert deq.spectrum(physics, IMAGE).kind is Kind.ESTIMATED
    rate = contraction(model_of(algorithm), physics).rate
    assert rate.kind is Kind.ESTIMATED


def test_ends_of_one_kind_have_the_weaker_kind_and_their_values() -> None:
    lower = deq.certificates.Bound(0.0, is_lower=True)
    upper = deq.certificates.Bound(2.0, Kind.ESTIMATED, delta=1e-3)
    ends = Interval(lower, upper).of_one_kind()
    assert (ends.lower.value, ends.upper.value) == (0.0, 2.0)
    assert ends.lower.kind is ends.upper.kind is Kind.ESTIMATED
