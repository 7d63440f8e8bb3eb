"""Step sizes that are computed from certified curvatures."""

from __future__ import annotations

import copy
import io
import math
import random
from typing import Any

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Convergence
from deepinv_equilibrium.optim.automatic_step_sizes import AutomaticStepSizes
from deepinv_equilibrium.optim.contraction import data_constants

from ..one_test import in_one_test
from .contraction.weakly_convex_priors import (
    IMAGE,
    RidgePrior,
    diagonal_physics,
    random_quadratic,
)

CERTIFIED = ("PGD", "GD", "HQS", "DRS", "ADMM")


def model_of(
    scheme: str = "PGD", prior: Any = None, trained: bool = True, **arguments: Any
) -> Any:
    defaults: dict[str, Any] = {
        "data_fidelity": dinv.optim.L2(),
        "prior": RidgePrior(0.2) if prior is None else prior,
        "stepsize": "auto",
        "trainable_params": ["stepsize"] if trained else [],
        "DEQ": deq.Equilibrium(deq.Picard(max_iter=200, rtol=1e-6)),
    }
    return getattr(deq.optim, scheme)(**{**defaults, **arguments})


def step_size(model: Any, physics: Any) -> float:
    model.contraction(physics, IMAGE)
    return model.update_params_fn(0)["stepsize"].item()


@in_one_test(
    ("scheme", "mu", "m", "expected"),
    [
        ("GD", 0.0, -0.5, 1 / 1.5),
        ("GD", 0.75, -0.25, 2 / (0.5 + 1.5)),
        ("PGD", 0.0, 0.0, 1.0),
        ("PGD", 0.25, 0.0, 2 / 1.25),
        ("PGD", 0.0, -0.5, 1 / 1.5),
        ("PGD", 0.5, -0.25, 2 / 1.5),
        ("FISTA", 0.25, 0.0, 1.0),
        ("HQS", 0.0, 0.0, 1.0),
        ("HQS", 0.0, -2.0, 0.25),
        ("DRS", 0.25, 0.0, 2.0),
        ("ADMM", 0.0, 0.0, 1.0),
        ("DRS", 0.25, -0.2, 2.0),
    ],
)
def test_default_is_the_best_step_size_that_is_proved(
    scheme: str, mu: float, m: float, expected: float
) -> None:
    torch.manual_seed(0)
    model = model_of(scheme, random_quadratic(m, 0.5), trained=False)
    assert step_size(model, diagonal_physics(mu, 1.0)) == pytest.approx(
        expected, rel=1e-5
    )


@settings(max_examples=40)
@given(seed=st.integers(0, 10**9), scheme=st.sampled_from(CERTIFIED))
def test_no_trained_value_leaves_the_proved_interval(seed: int, scheme: str) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    mu = rng.choice([0.0, rng.uniform(0.3, 1)])
    L, weight = mu + rng.uniform(0.1, 3), rng.uniform(0.1, 2)
    m = rng.choice([0.0, rng.uniform(-1, 0)])
    if scheme in ("DRS", "ADMM"):
        m = max(m, -0.9 * mu / weight)
    prior = random_quadratic(m, rng.uniform(0.1, 2))
    model = model_of(scheme, prior, lambda_reg=weight)
    with torch.no_grad():
        for parameter in model.params_algo["stepsize"].parameters():
            parameter.fill_(rng.choice([-1e3, -3.0, 0.0, 3.0, 1e3]))
    known = model.contraction(diagonal_physics(mu, L), IMAGE)
    assert known.convergence is not Convergence.UNPROVED
    if mu > -m * weight and (m < 0 or mu > 0):
        assert known.convergence is Convergence.CONTRACTS


def test_training_at_a_huge_rate_keeps_the_model_certified() -> None:
    torch.manual_seed(0)
    physics = diagonal_physics(0.4, 1.0)
    model = model_of("HQS")
    x = torch.rand(2, *IMAGE, dtype=torch.float64)
    y = physics.A(x)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e4)
    before = step_size(model, physics)
    for _ in range(3):
        optimizer.zero_grad()
        (-(model(y, physics) - x).square().sum()).backward()
        optimizer.step()
        known = model.contraction(physics, IMAGE)
        assert known.convergence is Convergence.CONTRACTS
    assert step_size(model, physics) != before


@pytest.mark.parametrize("scheme", ["HQS", "GD"])
def test_gradient_of_the_step_size_agrees_with_differences(scheme: str) -> None:
    """The step size of HQS changes the fixed point, and depends on lambda."""
    torch.manual_seed(0)
    physics = diagonal_physics(0.5, 1.0)
    prior = random_quadratic(-0.4, 0.5)
    solver = deq.Picard(max_iter=500, rtol=1e-13)
    model = model_of(
        scheme,
        prior,
        lambda_reg=torch.tensor(0.9, dtype=torch.float64),
        trainable_params=["stepsize", "lambda"],
        DEQ=deq.Equilibrium(solver, deq.Implicit(deq.GMRES(rtol=1e-10))),
    ).double()
    y = physics.A(torch.rand(1, *IMAGE, dtype=torch.float64))
    weight = torch.randn(1, *IMAGE, dtype=torch.float64)

    def loss() -> Tensor:
        return (weight * model(y, physics)).sum()

    loss().backward()
    for parameter in model.params_algo.parameters():
        with torch.no_grad():
            parameter += 1e-4
            after = loss()
            parameter -= 2e-4
            before = loss()
            parameter += 1e-4
        slope = float(after - before) / 2e-4
        assert parameter.grad.item() == pytest.approx(slope, rel=1e-3, abs=1e-7)


def test_spectrum_is_computed_once_for_each_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    spectrum = data_constants.spectrum

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return spectrum(*arguments)

    monkeypatch.setattr(data_constants, "spectrum", counted)
    model, physics = model_of(trained=False), diagonal_physics(0.25, 1.0)
    y = torch.rand(1, *IMAGE, dtype=torch.float64)
    for _ in range(3):
        model(y, physics)
        model(y, copy.deepcopy(physics))
    assert len(calls) == 1
    first = model.params_algo["stepsize"].value(0).item()
    with torch.no_grad():
        physics.mask.mul_(2)
    model(y, physics)
    assert len(calls) == 2
    assert model.params_algo["stepsize"].value(0).item() == pytest.approx(first / 4)


def test_step_size_follows_the_weights_of_the_prior() -> None:
    prior, physics = RidgePrior(0.2), diagonal_physics(0.0, 1.0)
    model = model_of("GD", prior, trained=False)
    before = step_size(model, physics)
    prior.mu = 3.0
    assert before == pytest.approx(1 / 2.1, rel=1e-5)
    assert step_size(model, physics) == pytest.approx(1 / 4.1, rel=1e-5)
    model.params_algo["lambda"] = [2.0]
    assert step_size(model, physics) == pytest.approx(1 / 7.2, rel=1e-5)
    duplicate = copy.deepcopy(model)
    duplicate.params_algo["lambda"][0] = 1.0
    assert step_size(duplicate, physics) == pytest.approx(1 / 4.1, rel=1e-5)
    assert step_size(model, physics) == pytest.approx(1 / 7.2, rel=1e-5)


def test_deepinv_configurations_take_automatic_steps() -> None:
    physics = diagonal_physics(0.25, 1.0)
    model = model_of(DEQ=True, max_iter=5)
    model(torch.rand(1, *IMAGE, dtype=torch.float64), physics)
    assert len(model.params_algo["stepsize"]) == 1
    assert "params_algo.stepsize.auto_0" in model.state_dict()


def test_certificate_holds_after_a_call_with_another_physics() -> None:
    model, physics = model_of(), diagonal_physics(0.5, 1.0)
    certificate = deq.certify(model, physics, IMAGE)
    assert certificate.contracts
    y = torch.rand(1, *IMAGE, dtype=torch.float64)
    model(y, diagonal_physics(0.0, 4.0))
    assert certificate.holds_for(model, physics)
    with torch.no_grad():
        next(model.params_algo["stepsize"].parameters()).add_(0.5)
    assert not certificate.holds_for(model, physics)


def test_step_keeps_its_step_size_when_the_model_sees_another_physics() -> None:
    model, physics = model_of(), diagonal_physics(0.25, 1.0)
    y = torch.rand(1, *IMAGE, dtype=torch.float64)
    step, start = model.fixed_point_problem(y, physics)
    value = step(start)
    model(y, diagonal_physics(0.25, 9.0))
    torch.testing.assert_close(step(start), value)


def test_state_dict_has_the_trained_parameter_and_refuses_numbers() -> None:
    model, other = model_of(), model_of()
    with torch.no_grad():
        next(model.params_algo["stepsize"].parameters()).fill_(0.7)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    assert float(state["params_algo.stepsize.auto_0"]) == pytest.approx(0.7)
    other.load_state_dict(state)
    physics = diagonal_physics(0.25, 1.0)
    assert step_size(other, physics) == step_size(model, physics)
    number = model_of(stepsize=0.5)
    with pytest.raises(RuntimeError, match="build it with a number as stepsize"):
        other.load_state_dict(number.state_dict())
    with pytest.raises(RuntimeError, match="auto_0"):
        number.load_state_dict(state)
    untrained = model_of(trained=False)
    assert not [key for key in untrained.state_dict() if "stepsize" in key]
    assert len(list(untrained.parameters())) < len(list(model.parameters()))


def test_layers_have_one_step_size_or_one_each() -> None:
    torch.manual_seed(0)
    physics = diagonal_physics(0.0, 1.0)
    priors = [random_quadratic(-0.5, 0.5), random_quadratic(-1.0, 0.5)]
    configuration = deq.Equilibrium(layers=2)
    shared = model_of("GD", priors, trained=False, DEQ=configuration)
    shared.contraction(physics, IMAGE)
    assert len(shared.params_algo["stepsize"]) == 1
    each = model_of(
        "PGD", priors, stepsize=["auto", "auto"], trained=False, DEQ=configuration
    )
    each.contraction(physics, IMAGE)
    values = [each.update_params_fn(k)["stepsize"].item() for k in range(2)]
    assert values == pytest.approx([1 / 1.5, 1 / 2], rel=1e-5)


def test_estimated_spectrum_has_a_margin_and_an_estimated_rate() -> None:
    matrix = torch.randn(12, 12, generator=torch.Generator().manual_seed(0)).double()
    matrix = matrix / 8
    physics = dinv.physics.LinearPhysics(
        A=lambda x: x.flatten(1) @ matrix.T.to(x),
        A_adjoint=lambda y: (y @ matrix.to(y)).reshape(-1, *IMAGE),
        img_size=IMAGE,
    )
    model = model_of("PGD", dinv.optim.Tikhonov(), trained=False)
    known = model.contraction(physics, IMAGE)
    largest = torch.linalg.matrix_norm(matrix, 2).item() ** 2
    assert step_size(model, physics) < 1 / (1.04 * largest)
    assert known.rate.kind is deq.certificates.Kind.ESTIMATED


def test_uncertified_denoiser_gets_the_step_size_of_the_data_fidelity() -> None:
    denoiser = deq.models.SmallDRUNet(1, pretrained=None)
    model = model_of("PGD", dinv.optim.PnP(denoiser), trained=False, sigma_denoiser=0.1)
    assert step_size(model, diagonal_physics(0.0, 2.0)) == pytest.approx(0.5, rel=1e-5)


@in_one_test(
    ("scheme", "arguments", "message"),
    [
        ("MD", {}, "not available for MD"),
        ("PGD", {"g_first": True}, "g_first=False"),
        ("PGD", {"DEQ": None}, "needs DEQ"),
        (
            "PGD",
            {"stepsize": ["auto", 0.5], "DEQ": deq.Equilibrium(layers=2)},
            "mixes 'auto' and numbers",
        ),
    ],
)
def test_constructor_refuses_automatic_steps(
    scheme: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model_of(scheme, **arguments)


@in_one_test(
    ("scheme", "arguments", "message"),
    [
        ("PGD", {"data_fidelity": dinv.optim.L1()}, "no curvature is known"),
        ("FISTA", {"prior": RidgePrior(0.5)}, "weakly convex"),
        ("GD", {"prior": dinv.optim.TVPrior()}, "gradient of TVPrior"),
        ("DRS", {"prior": RidgePrior(0.5)}, "not below mu"),
    ],
)
def test_call_names_what_is_missing_for_automatic_steps(
    scheme: str, arguments: dict[str, Any], message: str
) -> None:
    model, physics = model_of(scheme, **arguments), diagonal_physics(0.0, 1.0)
    with pytest.raises(ValueError, match=message):
        model(torch.rand(1, *IMAGE, dtype=torch.float64), physics)
    if scheme != "FISTA":
        assert message in model.contraction(physics, IMAGE).rate.source


def test_step_size_is_nan_before_the_first_call_and_cannot_be_set() -> None:
    model = model_of()
    sizes = model.params_algo["stepsize"]
    assert isinstance(sizes, AutomaticStepSizes)
    assert math.isnan(float(sizes[0]))
    assert "auto" in repr(sizes)
    with pytest.raises(ValueError, match="stepsize='auto'"):
        sizes[0] = 0.5


def test_certified_preset_takes_automatic_steps() -> None:
    model = deq.presets.certified_deq_pgd(
        deq.models.ConvexPotentialDenoiser(1, contraction=0.9, pretrained=None),
        stepsize="auto",
        trainable_params=["stepsize"],
    )
    physics = dinv.physics.Inpainting((1, 8, 8), mask=0.5)
    assert deq.certify(model, physics, (1, 8, 8)).contracts
