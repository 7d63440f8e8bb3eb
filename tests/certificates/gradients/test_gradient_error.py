from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound, Kind
from deepinv_equilibrium.certificates.gradients.gradient_errors import (
    GradientError,
    gradient_error,
)
from deepinv_equilibrium.certificates.gradients.smooth_loss import (
    SmoothLoss,
    SquaredError,
)

from ...one_test import in_one_test
from ..known_equilibria import KnownModel, Rated

CONFIGURATIONS: dict[str, Callable[[], deq.Equilibrium]] = {
    "JFB": lambda: deq.Equilibrium(
        deq.Picard(max_iter=4), deq.JacobianFree(), on_failure="ignore"
    ),
    "JFB, three steps": lambda: deq.Equilibrium(
        deq.Picard(max_iter=8, relaxation=0.8), deq.JacobianFree(3), on_failure="ignore"
    ),
    "JFB after Anderson": lambda: deq.Equilibrium(
        deq.Anderson(rtol=1e-3), deq.JacobianFree(), on_failure="ignore"
    ),
    "ReTune(1, 3)": lambda: deq.ReTune(1, 3),
    "ReTune(4, 2)": lambda: deq.ReTune(4, 2),
    "ReTune(10, 10)": lambda: deq.ReTune(10, 10),
    "Neumann": lambda: deq.Equilibrium(deq.Picard(rtol=1e-2), deq.Neumann(3)),
    "loose implicit": lambda: deq.Equilibrium(
        deq.Picard(max_iter=3), deq.Implicit(deq.GMRES(rtol=0.1)), on_failure="ignore"
    ),
    "implicit": lambda: deq.Equilibrium(
        deq.Picard(max_iter=500, rtol=1e-12), deq.Implicit(deq.GMRES(rtol=1e-12))
    ),
    "SHINE": lambda: deq.Equilibrium(
        deq.Broyden(rtol=1e-3), deq.SHINE(), on_failure="ignore"
    ),
    "unrolled": lambda: deq.Equilibrium(
        deq.Picard(max_iter=6), deq.Unrolled(), on_failure="ignore"
    ),
}


def evaluate(model: KnownModel, loss: Any, **kwargs: Any) -> GradientError:
    kwargs = {"constants": model.block_constants, **kwargs}
    return gradient_error(model.certificate, model, model.y, None, loss, **kwargs)


def actual_error(model: KnownModel, loss: Any, result: GradientError) -> float:
    (gradient,) = result.gradient
    return float((gradient - model.exact_gradient(loss)).norm())


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_certified_bounds_hold_for_every_adjoint(name: str) -> None:
    for seed in range(12):
        model = KnownModel(seed, CONFIGURATIONS[name](), affine=seed % 3 == 0)
        loss = SquaredError(model.target, weight=0.5 if seed % 2 else 2.0)
        result = evaluate(model, loss)
        error = actual_error(model, loss, result)
        assert result.kind is Kind.CERTIFIED
        assert error <= result.a_posteriori.value
        parts = result.from_adjoint.value + result.from_forward.value
        assert result.a_posteriori.value == pytest.approx(parts)
        if "Theorem 2" in result.a_priori:
            assert error <= result.a_priori["Theorem 2"].value
            assert result.a_priori["Theorem 2"].is_certified


@pytest.mark.parametrize("name", ["JFB", "JFB, three steps", "Neumann"])
def test_lemma_1_bounds_the_error_at_the_fixed_point(name: str) -> None:
    for seed in range(6):
        model = KnownModel(seed, CONFIGURATIONS[name]())
        model.DEQ.solver = deq.Picard(max_iter=500, rtol=0.0)
        loss = SquaredError(model.target)
        result = evaluate(model, loss)
        rounding = 1e-11 * (1 + result.gradient_norm)
        bound = result.a_priori["Lemma 1"].value + rounding
        assert actual_error(model, loss, result) <= bound


def test_bound_of_an_accurate_gradient_is_small() -> None:
    for seed in range(30):
        model = KnownModel(seed, CONFIGURATIONS["implicit"]())
        loss = SquaredError(model.target)
        result = evaluate(model, loss)
        assert result.a_posteriori.value <= 1e-6 * (1 + result.gradient_norm)
        assert not result.a_priori  # no theorem applies to Implicit


def test_bound_is_attained_in_one_dimension() -> None:
    # In one dimension all norms are moduli, and J is the rate.
    model = KnownModel(0, deq.Equilibrium(adjoint=deq.JacobianFree()), affine=True)
    model.DEQ.solver = deq.Picard(max_iter=800, rtol=0.0)
    one = torch.ones(1, 1, dtype=torch.float64)
    model.W1, model.W2, model.u = 0.8 * one, one, one[0]
    model.y, model.target = one, -3 * one
    with torch.no_grad():
        model.theta.copy_(torch.tensor([0.0, 0.0, 1.0]))
    loss = SquaredError(model.target)
    result = evaluate(model, loss)
    error = actual_error(model, loss, result)
    assert result.a_posteriori.value == pytest.approx(error, rel=1e-8)
    assert result.a_priori["Lemma 1"].value == pytest.approx(error, rel=1e-8)


def test_report_notes_a_bound_larger_than_the_gradient() -> None:
    said = set()
    for seed in range(12):
        model = KnownModel(seed, CONFIGURATIONS["JFB" if seed % 2 else "implicit"]())
        result = evaluate(model, SquaredError(model.target))
        vain = result.a_posteriori.value > result.gradient_norm
        assert ("larger than the gradient itself" in str(result)) == vain
        said.add(vain)
    assert said == {True, False}


def test_gradient_error_raises_for_a_loss_of_two_arguments() -> None:
    model = KnownModel(0, CONFIGURATIONS["JFB"]())
    with pytest.raises(TypeError, match="the reconstruction only"):
        evaluate(model, nn.MSELoss())


def test_bound_holds_for_a_loss_that_couples_the_samples() -> None:
    for seed in range(40):
        model = KnownModel(seed, CONFIGURATIONS["ReTune(4, 2)"]())
        # The Hessian 1 1^T of half the squared sum has the number of ones as its norm.
        loss = SmoothLoss(
            lambda x: x.sum().square() / 2, Bound(float(model.y.numel()) * (1 + 1e-14))
        )
        result = evaluate(model, loss)
        assert result.kind is Kind.CERTIFIED
        assert actual_error(model, loss, result) <= result.a_posteriori.value


def test_corollary_1_agrees_with_theorem_2_for_the_squared_error() -> None:
    model = KnownModel(1, CONFIGURATIONS["ReTune(1, 3)"]())
    result = evaluate(model, SquaredError(model.target, weight=3.0))
    theorem, corollary = (result.a_priori[k] for k in ("Theorem 2", "Corollary 1"))
    assert corollary.value == pytest.approx(theorem.value, rel=1e-9)
    result = evaluate(model, lambda x: x.square().sum())
    assert "Corollary 1" not in result.a_priori


@in_one_test("missing", ["constants", "smoothness", "rate", "float32"])
def test_bounds_are_estimated_if_a_term_is_not_certified(missing: str) -> None:
    model = KnownModel(3, CONFIGURATIONS["JFB"]())
    certificate, constants = model.certificate, model.block_constants
    loss: Any = SquaredError(model.target)
    if missing == "constants":
        constants = None
    elif missing == "smoothness":

        def loss(x: Tensor) -> Tensor:
            return (x - model.target).square().sum() / 2

    elif missing == "rate":
        certificate = Rated(Bound(certificate.rate.value, Kind.ESTIMATED, delta=0.01))
    else:
        for name in ("W1", "W2", "u", "y", "target"):
            setattr(model, name, getattr(model, name).float())
        model.float()
        loss = SquaredError(model.target)
    result = gradient_error(certificate, model, model.y, None, loss, constants)
    assert result.kind is Kind.ESTIMATED
    assert "certified" not in str(result.a_posteriori)
    assert "certified" not in str(result.from_forward)
    assert all(bound.kind is Kind.ESTIMATED for bound in result.a_priori.values())
    if missing == "rate":
        assert result.a_posteriori.delta == pytest.approx(0.01)
    if missing == "smoothness":
        estimate = result.terms["smoothness of the loss"]
        assert estimate.value == pytest.approx(1.0, rel=1e-6)


def test_estimated_constants_do_not_exceed_the_true_ones() -> None:
    for seed in range(20):
        model = KnownModel(seed, CONFIGURATIONS["JFB"]())
        result = evaluate(model, SquaredError(model.target), constants=None)
        for name, bound in (
            ("Lipschitz constant of the Jacobian", "jacobian_lipschitz"),
            (
                "Lipschitz constant of the parameter Jacobian",
                "parameter_jacobian_lipschitz",
            ),
        ):
            known = getattr(model.constants, bound).value
            assert 0 < result.terms[name].value <= known * (1 + 1e-5)


def test_bounds_are_vacuous_without_a_contraction() -> None:
    model = KnownModel(0, CONFIGURATIONS["JFB"]())
    result = gradient_error(
        Rated(Bound(1.0)), model, model.y, None, SquaredError(model.target)
    )
    assert result.a_posteriori.is_vacuous
    assert all(bound.is_vacuous for bound in result.a_priori.values())


def test_bounds_are_vacuous_for_a_nonfinite_sample() -> None:
    model = next(
        model
        for model in (KnownModel(seed, CONFIGURATIONS["JFB"]()) for seed in range(99))
        if len(model.y) > 1
    )
    constants, loss = model.block_constants, SquaredError(model.target)
    model.y[0] = math.nan
    result = evaluate(model, loss, constants=constants)
    assert result.a_posteriori.is_vacuous
    assert evaluate(model, loss, constants=None).a_posteriori.is_vacuous
    assert math.isfinite(result.gradient_norm)


def test_gradient_error_does_not_depend_on_grad_mode() -> None:
    model = KnownModel(3, CONFIGURATIONS["ReTune(4, 2)"]())
    loss = SquaredError(model.target)
    expected = evaluate(model, loss)
    with torch.no_grad():
        result = evaluate(model, loss)
    assert result.a_posteriori == expected.a_posteriori
    assert model.theta.grad is None


class ManyParameters(KnownModel):
    """A model with so many parameters that norms are estimated by Lanczos' method."""

    def __init__(self, seed: int, DEQ: deq.Equilibrium) -> None:
        super().__init__(seed, DEQ)
        self.bias = nn.Parameter(torch.zeros(40, 40, dtype=torch.float64))

    def iteration(self, x: Tensor, y: Tensor) -> Tensor:
        n = x.shape[1]
        return super().iteration(x, y) + x @ self.bias[:n, :n] / 4


def test_norms_in_many_parameters_are_estimated_by_lanczos() -> None:
    for seed in range(5):
        model = ManyParameters(seed, CONFIGURATIONS["JFB"]())
        result = evaluate(model, SquaredError(model.target), constants=None)
        assert result.kind is Kind.ESTIMATED
        norm = result.terms["norm of the parameter Jacobian"]
        assert "Lanczos" in norm.source
        assert 0 < norm.delta < 0.01
        # The largest norm of [B, x^T / 4 (x) I] over the samples, at the last iterate.
        x = model.fixed_point
        truth = max(
            float(
                torch.linalg.matrix_norm(
                    B @ B.T
                    + x[b].square().sum() / 16 * torch.eye(len(B), dtype=torch.float64),
                    2,
                )
            )
            ** 0.5
            for b, B in enumerate(model.parameter_jacobians)
        )
        assert truth <= norm.value * (1 + 1e-9)
        assert norm.value <= 2.5 * truth + 5


def test_gradient_is_that_of_training(make_pgd: Callable[..., Any]) -> None:
    model, physics, y, target = make_pgd()
    loss = SquaredError(target, weight=1 / target.numel())
    result = gradient_error(Rated(Bound(0.8)), model, y, physics, loss)
    loss(model(y, physics)).backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(trained) == len(result.gradient)
    for parameter, gradient in zip(trained, result.gradient, strict=True):
        expected = torch.zeros_like(gradient)
        expected = expected if parameter.grad is None else parameter.grad
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-14)
    assert result.kind is Kind.ESTIMATED
    text = str(result)
    assert "adjoint residual" in text
    assert "(estimated" in text


def test_estimated_bound_of_a_network_exceeds_its_error(
    make_pgd: Callable[..., Any],
) -> None:
    model, physics, y, target = make_pgd()
    loss = SquaredError(target)
    result = gradient_error(Rated(Bound(0.8)), model, y, physics, loss)
    model.DEQ = deq.Equilibrium(
        deq.Picard(max_iter=500, rtol=1e-13), deq.Implicit(deq.GMRES(rtol=1e-12))
    )
    exact = gradient_error(Rated(Bound(0.8)), model, y, physics, loss)
    error = math.sqrt(
        sum(
            float((a - b).square().sum())
            for a, b in zip(result.gradient, exact.gradient, strict=True)
        )
    )
    assert error <= result.a_posteriori.value <= 100 * error


@pytest.fixture
def make_pgd() -> Callable[..., Any]:
    """Return a maker of plug-and-play deblurring models with the rate 0.75."""

    class Denoiser(dinv.models.Denoiser):
        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            weight = torch.randn(1, 1, 3, 3, generator=generator, dtype=torch.float64)
            self.weight = nn.Parameter(weight / weight.abs().sum())

        def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
            features = torch.conv2d(x, self.weight, padding="same")
            return (2 * x + torch.tanh(features)) / 4

    def make(**kwargs: Any) -> Any:
        generator = torch.Generator().manual_seed(1)
        kernel = torch.tensor([[0.1, 0.2, 0.1]], dtype=torch.float64)[None, None]
        physics = dinv.physics.BlurFFT((1, 6, 5), filter=kernel)
        target = torch.rand(2, 1, 6, 5, generator=generator, dtype=torch.float64)
        model = deq.optim.PGD(
            data_fidelity=dinv.optim.L2(),
            prior=dinv.optim.PnP(Denoiser()),
            stepsize=1.0,
            sigma_denoiser=0.05,
            trainable_params=["stepsize"],
            DEQ=deq.ReTune(3, 4),
            **kwargs,
        ).double()
        return model, physics, physics(target), target

    return make


def test_gradient_error_raises_for_models_without_a_bound(
    make_pgd: Callable[..., Any],
) -> None:
    model, physics, y, target = make_pgd()
    rated, loss = Rated(Bound(0.5)), SquaredError(target)
    with pytest.raises(ValueError, match="scalar"):
        gradient_error(rated, model, y, physics, lambda x: x)
    with pytest.raises(ValueError, match="does not depend"):
        gradient_error(rated, model, y, physics, lambda x: target.sum())
    drs = deq.optim.DRS(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.TVPrior(),
        DEQ=deq.ReTune(1, 1),
        trainable_params=["stepsize"],
    )
    with pytest.raises(ValueError, match="state is the real image"):
        gradient_error(rated, drs, y, physics, loss)
    with pytest.raises(ValueError, match="solves no fixed point"):
        gradient_error(rated, nn.Linear(1, 1), y, physics, loss)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameters"):
        gradient_error(rated, model, y, physics, loss)
    learned = make_pgd(custom_init=lambda y, physics: physics.A_adjoint(y) * start)[0]
    start = next(p for p in learned.parameters() if p.requires_grad)
    learned.DEQ.adjoint = deq.Unrolled()
    with pytest.raises(ValueError, match="depends on the trained"):
        gradient_error(rated, learned, y, physics, loss)
