"""The rate of Condat and Vũ against dense Jacobians and random pairs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound, Interval, Kind
from deepinv_equilibrium.optim.total_variation import differences, differences_adjoint

from ...one_test import in_one_test
from ..certified_models import (
    IMAGE,
    SIZE,
    MatrixDenoiser,
    basis,
    contraction,
    random_denoiser,
    random_physics,
)
from .weakly_convex_priors import random_quadratic


class Huber(dinv.optim.Prior):
    """The Huber function of every entry, with the threshold 1 and the slope 1."""

    is_firmly_nonexpansive = True

    def __init__(self) -> None:
        super().__init__()
        self.explicit_prior = True

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        inside = x.abs().clamp(max=1)
        return (x.abs() - inside + inside.square() / 2).flatten(1).sum(1)

    def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return x.clamp(-1, 1)

    def prox(
        self, x: Tensor, *args: Any, gamma: float | Tensor = 1.0, **kwargs: Any
    ) -> Tensor:
        return x - gamma * (x / (1 + gamma)).clamp(-1, 1)

    def gradient_bounds(self, img_size: Any = None) -> Interval:
        return Interval(Bound(0.0, is_lower=True), Bound(1.0))

    def lipschitz_bound(self, img_size: Any = None) -> Bound:
        return Bound(1.0)


def random_map(rng: random.Random) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return differences, or a mask as a physics with a certified spectrum."""
    if rng.random() < 0.4:
        return differences, differences_adjoint
    mask = torch.rand(IMAGE, dtype=torch.float64) * 10 ** rng.uniform(-1, 1)
    physics = dinv.physics.Inpainting(IMAGE, mask=mask)
    return physics.A, physics.A_adjoint


def random_model(
    rng: random.Random,
    physics: dinv.physics.LinearPhysics,
    smooth: bool = True,
    affine: bool = True,
    solver: Any = None,
) -> deq.optim.CondatVu:
    """Return a model with one layer, or with two that contract in the same norm."""
    K, K_adjoint = random_map(rng)
    images, _ = basis(physics)
    A = torch.linalg.matrix_norm(physics.A(images).flatten(1), 2).item()
    norm = torch.linalg.matrix_norm(K(images).flatten(1), 2).item()
    kappa = rng.choice([0.0, 0.1, 1.0]) * A**2
    L = A**2 + kappa
    stepsize = rng.uniform(0.2, 1.9) / L
    room = 1 / stepsize - rng.choice([L / 2, L, kappa])
    dual = rng.uniform(0.05, 0.99) * abs(room) / norm**2
    weights = []
    nonlinear = [deq.optim.NonNegativity(), deq.optim.NonNegativeTikhonov()]
    layers = rng.choice([1, 1, 2])
    priors = []
    for _ in range(layers):
        denoiser = random_denoiser(rng, torch.float64)
        firm = rng.random() < 0.5 and denoiser.is_firmly_nonexpansive
        g = dinv.optim.PnP(denoiser) if firm else dinv.optim.Tikhonov()
        priors.append(g if affine or rng.random() < 0.3 else rng.choice(nonlinear))
        weights.append(rng.uniform(0, 1) * L)
        if kappa and rng.random() < 0.3:  # weakly convex, less than the data is convex
            priors[-1] = random_quadratic(-1.0, rng.uniform(0, 2))
            weights[-1] = rng.uniform(0, 0.99) * kappa
    composed = dinv.optim.Tikhonov() if affine else Huber()
    return deq.optim.CondatVu(
        K,
        K_adjoint,
        data_fidelity=deq.optim.RidgeL2(kappa=kappa) if kappa else dinv.optim.L2(),
        prior=priors,
        composed_prior=composed if smooth else dinv.optim.L1Prior(),
        lambda_reg=weights,
        lambda_composed=10 ** rng.uniform(-2, 2) * L / norm**2,
        stepsize=stepsize,
        stepsize_dual=dual,
        beta=rng.choice([1.0, 1.0, 0.7]),
        sigma_denoiser=0.1,
        trainable_params=[],
        DEQ=deq.Equilibrium(solver or deq.Picard(), layers=layers),
    )


def metric(model: deq.optim.CondatVu, mu: float) -> Tensor:
    """Return the matrix P of the norm on (x, u)."""
    parameters = model.update_params_fn(0)
    images = torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, *IMAGE)
    K = parameters["K"](images).flatten(1).T
    eye = torch.eye(SIZE, dtype=torch.float64)
    dual = torch.eye(len(K), dtype=torch.float64) / parameters["stepsize_dual"]
    top = torch.cat([(1 / parameters["stepsize"] - mu) * eye, -K.T], 1)
    return torch.cat([top, torch.cat([-K, dual], 1)])


def apply(
    model: deq.optim.CondatVu, physics: dinv.physics.LinearPhysics, states: Tensor
) -> Tensor:
    """Apply the step with y = 0 to states, which are the rows."""
    x = states[:, :SIZE].reshape(-1, *IMAGE)
    shape = model.update_params_fn(0)["K"](x).shape
    y = 0 * physics.A(x)
    step, _ = model.fixed_point_problem(y, physics)
    with torch.no_grad():
        value = step((x, states[:, SIZE:].reshape(shape)))
    return torch.cat([part.flatten(1) for part in value], 1)


def lower_curvature(model: Any, physics: Any) -> float:
    terms = contraction(model, physics).terms
    return next(term.bound.value for term in terms if term.symbol == "mu")


def bounded_rate(model: Any, physics: Any) -> float | None:
    """Return the certified rate; None if the step sizes are too large for a rate."""
    rate = contraction(model, physics).rate
    assert rate.is_certified
    if rate.is_vacuous:
        assert "1/tau - mu > sigma ||K||^2" in rate.source
        return None
    return rate.value


@settings(max_examples=30)
@given(seed=st.integers(0, 10**9))
def test_rate_bounds_dense_jacobian(seed: int) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    physics = random_physics(rng)
    model = random_model(rng, physics)
    rate = bounded_rate(model, physics)
    if rate is None:
        return
    P = metric(model, lower_curvature(model, physics))
    jacobian = apply(model, physics, torch.eye(len(P), dtype=torch.float64)).T
    values, vectors = torch.linalg.eigh(P)
    root = vectors * values.sqrt()  # P = root root^T
    scaled = root.T @ jacobian @ torch.linalg.inv(root).T
    truth = torch.linalg.matrix_norm(scaled, 2)
    condition = (values[-1] / values[0]).item()
    assert truth <= rate * (1 + 1e-12) + 1e-14 * condition
    alpha = contraction(model, physics).averaged.value
    if alpha <= 1:
        eye = torch.eye(len(P), dtype=torch.float64)
        N = eye - (eye - scaled) / alpha
        assert torch.linalg.matrix_norm(N, 2) <= 1 + 1e-10 + 1e-13 * condition / alpha


@settings(max_examples=30)
@given(seed=st.integers(0, 10**9))
def test_rate_bounds_distances_of_nonlinear_steps(seed: int) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    physics = random_physics(rng)
    model = random_model(rng, physics, affine=False)
    rate = bounded_rate(model, physics)
    if rate is None:
        return
    P = metric(model, lower_curvature(model, physics))
    first = torch.randn(20, len(P), dtype=torch.float64) * 10 ** rng.uniform(-1, 1)
    second = first + torch.randn_like(first) * 10 ** rng.uniform(-3, 1)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return ((a - b) @ P * (a - b)).sum(1).sqrt()

    after = distance(apply(model, physics, first), apply(model, physics, second))
    assert bool((after <= rate * distance(first, second) * (1 + 1e-9) + 1e-12).all())


# The images are not in [0, 1].
@pytest.mark.filterwarnings("ignore:.*expect images in")
@settings(max_examples=30)
@given(seed=st.integers(0, 10**9))
def test_residuals_and_stability_keep_their_bounds(seed: int) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    physics = random_physics(rng)
    solver = deq.Picard(max_iter=800, rtol=1e-13)
    model = random_model(rng, physics, solver=solver)
    known = contraction(model, physics)
    if not known.rate.value < 0.95:
        return
    images, _ = basis(physics)
    y = images.reshape(physics.A(images).shape)
    with torch.no_grad():
        matrix = model(y, physics, init=torch.randn_like(images)).flatten(1).T
    history = model.solution.absolute_history
    powers = torch.arange(len(history))[:, None]
    envelope = known.rate.value**powers * history[0] * known.residual_factor.value
    floor = 1e-12 * (history[0].max() + matrix.abs().max())
    assert not bool((history > envelope + floor).any())
    assert torch.linalg.matrix_norm(matrix, 2) <= known.stability.value * (1 + 1e-9)


def model_of(**arguments: Any) -> deq.optim.CondatVu:
    defaults: dict[str, Any] = {
        "K": differences,
        "K_adjoint": differences_adjoint,
        "data_fidelity": deq.optim.RidgeL2(kappa=0.5),
        "composed_prior": Huber(),
        "stepsize": 0.5,
        "stepsize_dual": 0.1,
        "trainable_params": [],
        "DEQ": deq.Equilibrium(),
    }
    return deq.optim.CondatVu(**{**defaults, **arguments})


def test_rate_and_stability_have_the_documented_values() -> None:
    physics = dinv.physics.Denoising().double()
    known = contraction(model_of(lambda_composed=2.0), physics)
    squared = deq.optim.total_variation.differences_norm_squared(IMAGE[1:])
    p, q, s = (2 - 1.5) / 1.5, 2 / 0.1, 2 * squared / 1.5
    assert known.rate.is_vacuous  # 1/tau - mu = 0.5 is below sigma ||K||^2
    known = contraction(model_of(lambda_composed=2.0, stepsize=0.25), physics)
    p = (4 - 1.5) / 1.5
    nu = (p + q) / 2 + math.sqrt((p - q) ** 2 / 4 + s)
    assert known.rate.value == pytest.approx(nu / (1 + nu), rel=1e-9)
    assert known.stability.value == pytest.approx(1 / 1.5, rel=1e-9)
    assert not known.in_state
    symbols = [term.symbol for term in known.terms]
    assert symbols == ["mu", "L", "mu_g", "L_h", "||K||^2", "tau", "sigma"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"composed_prior": dinv.optim.L1Prior()}, "nonexpansive"),
        ({"data_fidelity": dinv.optim.L2()}, "nonexpansive"),
    ],
)
def test_rate_is_one_without_strong_convexity_or_smoothness(
    arguments: dict[str, Any], reason: str
) -> None:
    mask = torch.ones(IMAGE)
    mask[..., 0] = 0
    physics = dinv.physics.Inpainting(IMAGE, mask=mask)
    model = model_of(**{"stepsize": 0.25, **arguments})
    known = contraction(model, physics)
    assert known.rate.value == 1
    assert reason in known.rate.source
    assert known.stability.is_vacuous
    assert "no contraction is proved: rho <= 1" in str(
        deq.certify(model, physics, IMAGE)
    )


def test_rate_without_composed_prior_is_that_of_gradient_descent() -> None:
    model = model_of(composed_prior=dinv.optim.ZeroPrior(), stepsize=0.25)
    known = contraction(model, dinv.physics.Denoising().double())
    assert known.rate.value == pytest.approx(1 - 0.25 * 1.5, rel=1e-9)


@in_one_test(
    ("arguments", "reason"),
    [
        ({"prior": dinv.optim.TVPrior()}, "TVPrior is not known to be firmly"),
        ({"composed_prior": dinv.optim.L12Prior()}, "L12Prior is not known to be"),
        (
            {"prior": dinv.optim.PnP(MatrixDenoiser(torch.eye(SIZE) / 2))},
            "PnP is not known to be firmly",
        ),
        ({"K_adjoint": lambda u: u.sum(2)}, "A_adjoint is not the transpose"),
        ({"data_fidelity": dinv.optim.PoissonLikelihood()}, "PoissonLikelihood"),
        (
            {"stepsize": [0.25, 0.3], "DEQ": deq.Equilibrium(layers=2)},
            "different step sizes",
        ),
    ],
)
def test_certificate_names_what_is_not_covered(
    arguments: dict[str, Any], reason: str
) -> None:
    defaults = {"sigma_denoiser": 0.1, "stepsize": 0.25}
    known = contraction(
        model_of(**{**defaults, **arguments}), dinv.physics.Denoising().double()
    )
    assert known.rate.is_vacuous
    assert reason in known.rate.source


def test_hook_on_the_composed_prior_voids_the_rate() -> None:
    prior = Huber()
    prior.register_forward_hook(lambda module, args, output: 2 * output)
    known = contraction(
        model_of(composed_prior=prior, stepsize=0.25), dinv.physics.Denoising().double()
    )
    assert "forward hooks" in known.rate.source


def test_norm_of_an_unknown_linear_map_is_estimated() -> None:
    matrix = torch.randn(7, SIZE, dtype=torch.float64) / 4
    model = model_of(
        K=lambda x: x.flatten(1) @ matrix.T.to(x),
        K_adjoint=lambda u: (u @ matrix.to(u)).reshape(-1, *IMAGE),
        stepsize=0.25,
    )
    rate = contraction(model, dinv.physics.Denoising().double()).rate
    assert rate.kind is Kind.ESTIMATED
    assert rate.value < 1


def test_layers_with_different_composed_priors_have_different_rates() -> None:
    model = model_of(
        composed_prior=[Huber(), dinv.optim.L1Prior()],
        stepsize=0.25,
        DEQ=deq.Equilibrium(layers=2),
    )
    known = contraction(model, dinv.physics.Denoising().double())
    assert known.layers[0].rate.value < 1 == known.layers[1].rate.value


def test_primal_dual_iterations_converge_where_they_do_not_contract() -> None:
    physics = dinv.physics.Inpainting(IMAGE, mask=torch.eye(3, 4)[None].double())
    l2 = dinv.optim.L2()
    known = contraction(model_of(data_fidelity=l2, lambda_composed=2.0), physics)
    assert known.rate.value >= 1
    assert known.convergence == "converges"
    prior = random_quadratic(-0.5, 0.5)
    model = model_of(prior=prior, data_fidelity=l2, lambda_reg=1.0)
    known = contraction(model, physics)
    assert "weakly convex" in known.rate.source
    assert known.convergence == "unproved"
