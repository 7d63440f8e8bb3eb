"""What weakly convex priors prove of each algorithm, compared with the dense truth."""

from __future__ import annotations

import math
import random
from typing import Any

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Contraction, Convergence

from ..certified_models import SCHEMES, basis, dense_jacobian
from .weakly_convex_priors import (
    IMAGE,
    SIZE,
    RidgePrior,
    diagonal_physics,
    random_quadratic,
)

FITTING = ("PGD", "GD", "HQS")


def model_of(
    scheme: str,
    prior: dinv.optim.Prior,
    stepsize: Any = 0.5,
    weight: float = 1.0,
    layers: int = 1,
    **arguments: Any,
) -> deq.optim.PGD:
    defaults: dict[str, Any] = {
        "data_fidelity": dinv.optim.L2(),
        "params_algo": {"stepsize": stepsize, "lambda": weight, "beta": 1.0},
        "trainable_params": [],
        "DEQ": deq.Equilibrium(deq.Picard(), layers=layers),
    }
    if scheme == "GD":
        defaults["params_algo"].pop("beta")
    return getattr(deq.optim, scheme)(prior=prior, **{**defaults, **arguments})


def contraction(model: Any, physics: Any) -> Contraction:
    return model.contraction(physics, IMAGE)


def random_case(seed: int, scheme: str) -> tuple[Any, Any, Any]:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    mu = rng.choice([0.0, rng.uniform(0, 1)])
    L = mu + rng.uniform(0, 1)
    m = rng.choice([rng.uniform(-1, 0), 0.0, rng.uniform(0, 0.3)])
    weight, tau = rng.choice([1.0, rng.uniform(0, 2)]), rng.uniform(0.05, 1.5)
    if m < 0:
        weight = min(weight, rng.uniform(0.2, 0.9) / (-m * tau))
    frame = torch.eye(SIZE, dtype=torch.float64) if rng.random() < 0.5 else None
    prior = random_quadratic(m, max(m, 0) + rng.uniform(0, 2), frame)
    layers = rng.choice([1, 1, 2])
    stepsize = [tau * rng.uniform(0.5, 1) for _ in range(layers)]
    model = model_of(scheme, prior, stepsize, weight, layers)
    return model, diagonal_physics(mu, L), prior


def energies(model: Any, physics: Any, prior: Any) -> Any:
    """Return the energy of a model with the prior for y = 0, as a dense matrix."""
    images, _ = basis(physics)
    H = physics.A_adjoint(physics.A(images)).flatten(1)
    if isinstance(model, deq.optim.HQS):
        tau = float(model.update_params_fn(0)["stepsize"])
        H = H @ torch.linalg.inv(torch.eye(SIZE, dtype=H.dtype) + tau * H)
    return H + float(model.update_params_fn(0)["lambda"]) * prior.Q


@given(seed=st.integers(0, 10**9), scheme=st.sampled_from(SCHEMES))
def test_certified_constants_hold_for_dense_models(seed: int, scheme: str) -> None:
    model, physics, prior = random_case(seed, scheme)
    known = contraction(model, physics)
    assert known.rate.is_certified
    T = dense_jacobian(model, physics)
    assert torch.linalg.matrix_norm(T, 2) <= known.rate.value * (1 + 1e-12)
    eye = torch.eye(SIZE, dtype=T.dtype)
    alpha = known.averaged.value
    if alpha <= 1:
        N = eye - (eye - T) / alpha
        assert torch.linalg.matrix_norm(N, 2) <= 1 + 1e-9
    if known.energy is None:
        return
    H = energies(model, physics, prior)
    assert known.energy.convexity.value <= torch.linalg.eigvalsh(H)[0] + 1e-12
    moved = T - eye
    if known.energy.decreases:  # F(x) - F(T x) - delta |T x - x|^2 as a quadratic form
        form = (H - T.T @ H @ T) / 2 - known.energy.decrease.value * moved.T @ moved
        assert torch.linalg.eigvalsh((form + form.T) / 2)[0] >= -1e-10
    of_residual = known.energy.value_of_residual.value
    if of_residual < math.inf:
        form = of_residual * moved.T @ moved - T.T @ H @ T / 2
        assert torch.linalg.eigvalsh((form + form.T) / 2)[0] >= -1e-10
    after = known.energy.value_after_steps.value
    if after < math.inf:
        power = eye
        for k in range(1, 5):
            power = T @ power
            form = after / k * eye - power.T @ H @ power / 2
            assert torch.linalg.eigvalsh((form + form.T) / 2)[0] >= -1e-10


@pytest.mark.parametrize("scheme", SCHEMES)
def test_rate_is_attained_by_commuting_quadratics(scheme: str) -> None:
    torch.manual_seed(0)
    physics = diagonal_physics(0.5, 1.0)
    prior = random_quadratic(-0.3, 0.2, torch.eye(SIZE, dtype=torch.float64))
    model = model_of(scheme, prior, stepsize=0.8)
    rate = contraction(model, physics).rate
    truth = torch.linalg.matrix_norm(dense_jacobian(model, physics), 2).item()
    stretch = 1 / (1 - 0.8 * 0.3)
    c, N = (1 - 0.4) / (1 + 0.4), (1 + 0.24) / (1 - 0.24)
    expected = {
        "PGD": stretch * (1 - 0.4),
        "GD": 1 - 0.8 * (0.5 - 0.3),
        "HQS": stretch / (1 + 0.4),
        "DRS": 0.5 + 0.5 * c * N,
        "ADMM": 0.5 + 0.5 * c * N,
    }[scheme]
    assert rate.value == pytest.approx(expected, rel=1e-9)
    assert truth == pytest.approx(expected, rel=1e-9)
    assert contraction(model, physics).convergence is Convergence.CONTRACTS


@settings(max_examples=12)
@given(seed=st.integers(0, 10**9), scheme=st.sampled_from(FITTING))
def test_ridge_energies_decrease_and_solutions_are_stable(
    seed: int, scheme: str
) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    rho, mu = rng.uniform(0, 0.6), rng.choice([0.0, 0.5, 1.0])
    physics = diagonal_physics(mu, 1.0)
    prior = RidgePrior(rho)
    tau = rng.uniform(0.1, 1.0)
    model = model_of(scheme, prior, stepsize=tau)
    known = contraction(model, physics)
    assert known.energy is not None
    y = physics.A(2 * torch.randn(2, *IMAGE, dtype=torch.float64))
    step, _ = model.fixed_point_problem(y, physics)
    x = 5 * torch.randn(2, *IMAGE, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(3):
            moved = step(x)
            residual = (moved - x).square().flatten(1).sum(1)
            fall = energy(scheme, tau, physics, prior, x, y)
            fall = fall - energy(scheme, tau, physics, prior, moved, y)
            if known.energy.decreases:
                slope = known.energy.decrease.value
                assert (fall >= slope * residual - 1e-9).all()
            x = moved
        if known.rate.value < 0.7:
            for _ in range(60):
                x = step(x)
            distance = (x[0] - x[1]).norm()
            assert distance <= known.stability.value * (y[0] - y[1]).norm() + 1e-7


def energy(scheme: str, tau: float, physics: Any, prior: Any, x: Any, y: Any) -> Any:
    if scheme == "HQS":
        z = physics.prox_l2(x, y, gamma=tau)
        distance = (z - x).square().flatten(1).sum(1) / (2 * tau)
        return dinv.optim.L2()(z, y, physics) + distance + prior.fn(x)
    return dinv.optim.L2()(x, y, physics) + prior.fn(x)


def proved(scheme: str, prior: Any, physics: Any, **arguments: Any) -> Convergence:
    return contraction(model_of(scheme, prior, **arguments), physics).convergence


@pytest.mark.parametrize("scheme", ["PGD", "GD", "HQS"])
def test_step_size_decides_what_is_proved_of_a_weakly_convex_prior(scheme: str) -> None:
    torch.manual_seed(0)
    prior = random_quadratic(-0.5, 0.5)
    physics = diagonal_physics(0.0, 1.0)
    assert proved(scheme, prior, physics) is Convergence.DECREASES
    outside = proved(scheme, prior, physics, stepsize=2.5)
    assert outside is Convergence.UNPROVED
    convex = diagonal_physics(0.9, 1.0)
    assert proved(scheme, prior, convex) is Convergence.CONTRACTS


@pytest.mark.parametrize("scheme", SCHEMES)
def test_convex_priors_converge_without_strongly_convex_data(scheme: str) -> None:
    torch.manual_seed(0)
    prior = random_quadratic(0.0, 0.5)
    physics = diagonal_physics(0.0, 1.0)
    assert proved(scheme, prior, physics) is Convergence.CONVERGES
    known = contraction(model_of(scheme, prior, [0.5, 0.7], layers=2), physics)
    assert known.convergence is Convergence.CONVERGES
    assert known.rate.value >= 1
    if scheme in FITTING and scheme != "HQS":
        assert known.energy is not None
        assert known.energy.decreases
        assert known.energy.is_convex
    if scheme != "DRS" and scheme != "ADMM" and scheme != "HQS":
        large = proved(scheme, prior, physics, stepsize=2.1)
        assert large is Convergence.UNPROVED


def test_relaxation_keeps_convergence_and_voids_the_energy() -> None:
    prior, physics = random_quadratic(0.0, 0.5), diagonal_physics(0.0, 1.0)
    parameters = {"stepsize": 0.5, "lambda": 1.0, "beta": 1.2}
    known = contraction(model_of("PGD", prior, params_algo=parameters), physics)
    assert known.convergence is Convergence.CONVERGES
    assert known.energy is None
    nonexpansive = dinv.optim.PnP(_Rotation())
    for beta, expected in ((1.0, Convergence.UNPROVED), (0.9, Convergence.CONVERGES)):
        parameters = {"stepsize": 0.5, "beta": beta, "g_param": 0.1}
        model = model_of("PGD", nonexpansive, params_algo=parameters)
        assert contraction(model, physics).convergence is expected


class _Rotation(dinv.models.Denoiser):
    """A nonexpansive map that is not averaged."""

    def forward(self, x: torch.Tensor, sigma: Any = None) -> torch.Tensor:
        return -x

    def lipschitz_bound(self, img_size: Any = None) -> deq.certificates.Bound:
        return deq.certificates.Bound(1.0)


def test_red_converges_for_a_nonexpansive_denoiser() -> None:
    prior, physics = dinv.optim.RED(_Rotation()), diagonal_physics(0.0, 1.0)
    parameters = {"stepsize": 0.6, "lambda": 1.0, "g_param": 0.1}
    model = model_of("GD", prior, params_algo=parameters)
    known = contraction(model, physics)
    assert known.averaged.value == pytest.approx(0.9)
    assert known.convergence is Convergence.CONVERGES
    parameters["stepsize"] = 0.7  # 2 / (L + 2 lambda) is .667
    model = model_of("GD", prior, params_algo=parameters)
    assert contraction(model, physics).convergence is Convergence.UNPROVED


def test_rate_is_vacuous_where_the_prox_is_no_function() -> None:
    known = contraction(
        model_of("PGD", random_quadratic(-1.0, 1.0), stepsize=1.0),
        diagonal_physics(0.5, 1.0),
    )
    assert known.rate.is_vacuous
    assert "gamma lambda rho < 1" in known.rate.source
    assert known.convergence is Convergence.UNPROVED


class _Inherited(RidgePrior):
    """Its proximal operator is deepinv's gradient descent."""

    prox = dinv.optim.Prior.prox


class _Loose(RidgePrior):
    rtol = 1e-2


def test_constants_of_inexact_proximal_operators_are_not_certified() -> None:
    physics = diagonal_physics(0.5, 1.0)
    known = contraction(model_of("PGD", _Inherited(0.1)), physics)
    assert "proximal operator of _Inherited" in known.rate.source
    known = contraction(model_of("PGD", _Loose(0.1)), physics)
    assert known.rate.kind is deq.certificates.Kind.ESTIMATED
    assert known.convergence is Convergence.UNPROVED


def test_layers_with_different_energies_have_no_common_energy() -> None:
    torch.manual_seed(0)
    priors = [random_quadratic(-0.5, 0.5), random_quadratic(-0.5, 0.5)]
    model = model_of("PGD", priors, [0.5, 0.5], layers=2)
    known = contraction(model, diagonal_physics(0.0, 1.0))
    assert known.energy is None
    model = model_of("HQS", priors[0], [0.5, 0.6], layers=2)
    assert contraction(model, diagonal_physics(0.0, 1.0)).energy is None


class _ProximalDenoiser(dinv.models.Denoiser):
    """The proximal operator of a prior, whatever the step size."""

    def __init__(self, prior: Any) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x: torch.Tensor, sigma: Any = None) -> torch.Tensor:
        return self.prior.prox(x)

    def lipschitz_bound(self, img_size: Any = None) -> deq.certificates.Bound:
        return deq.certificates.Bound(1 / (1 - self.prior.rho) * (1 + 1e-9))

    def convexity_bound(self, img_size: Any = None) -> deq.certificates.Bound:
        return self.prior.gradient_bounds().lower


@pytest.mark.parametrize("scheme", ["PGD", "HQS"])
@settings(max_examples=20)
@given(rho=st.floats(0.05, 0.6), mu=st.floats(0, 1), seed=st.integers(0, 2**16))
def test_energy_falls_with_a_weakly_convex_proximal_denoiser(
    scheme: str, rho: float, mu: float, seed: int
) -> None:
    torch.manual_seed(seed)
    prior, physics = RidgePrior(rho), diagonal_physics(mu, 1.0)
    denoiser = _ProximalDenoiser(prior)
    parameters = {"g_param": 0.1, "stepsize": "auto"}
    model = model_of(scheme, dinv.optim.PnP(denoiser), params_algo=parameters)
    known = contraction(model, physics)
    tau = float(model.params_algo["stepsize"].value(0))
    if scheme == "PGD":
        limit = (1 - 1e-9) * 2 * mu / (1 + mu)  # of rho, below which PGD contracts
        contracts = known.convergence is Convergence.CONTRACTS
        assert contracts == (rho < limit)
        assert tau < (2 - rho) / 1.0
    assert known.energy is not None
    assert known.energy.decreases
    y = torch.randn(2, *IMAGE, dtype=torch.float64)
    step, _ = model.fixed_point_problem(y, physics)
    x = 5 * torch.randn(2, *IMAGE, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(3):
            moved = step(x)
            values = [
                tau * (energy(scheme, tau, physics, prior, z, y) - prior.fn(z))
                + prior.fn(z)
                for z in (x, moved)
            ]
            least = (
                known.energy.decrease.value * (moved - x).flatten(1).norm(dim=1) ** 2
            )
            assert ((values[0] - values[1]) / tau >= least - 1e-9).all()
            x = moved


def test_automatic_step_size_follows_the_weights_of_a_proximal_denoiser() -> None:
    prior, physics = RidgePrior(0.2), diagonal_physics(0.0, 1.0)
    parameters = {"g_param": 0.1, "stepsize": "auto"}
    denoiser = dinv.optim.PnP(_ProximalDenoiser(prior))
    model = model_of("PGD", denoiser, params_algo=parameters)
    for rho in (0.2, 0.6):
        prior.rho = rho
        assert contraction(model, physics).convergence is Convergence.DECREASES
        tau = float(model.params_algo["stepsize"].value(0))
        assert tau == pytest.approx((2 - rho) / 2, rel=1e-5)


def test_condat_vu_refuses_a_weakly_convex_denoiser() -> None:
    prior = dinv.optim.PnP(_ProximalDenoiser(RidgePrior(0.3)))
    model = deq.optim.CondatVu(
        data_fidelity=dinv.optim.L2(),
        prior=prior,
        composed_prior=dinv.optim.L1Prior(),
        K=lambda x: x,
        K_adjoint=lambda x: x,
        stepsize=0.5,
        g_param=0.1,
        DEQ=deq.Equilibrium(deq.Picard()),
    )
    known = contraction(model, diagonal_physics(0.9, 1.0))
    assert known.convergence is Convergence.UNPROVED
    assert "not known to be firmly nonexpansive" in known.rate.source
