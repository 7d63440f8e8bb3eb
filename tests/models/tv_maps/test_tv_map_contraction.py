"""The certificate of TVMapReconstructor."""

from __future__ import annotations

import math

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Kind
from deepinv_equilibrium.models import ConstantTVMap, TVMapReconstructor, UNetTVMap

from ...certificates.dense_operator import matrix
from ...one_test import in_one_test
from .tv_map_problems import DOUBLE, MINIMISER, deblurring

SIZE = (1, 5, 4)


def constant_model(weight: float = 0.05) -> TVMapReconstructor:
    model = TVMapReconstructor(ConstantTVMap((0, 0), weight), DEQ=MINIMISER)
    return model.double()


def test_certificate_has_no_rate_and_states_the_reason() -> None:
    model = TVMapReconstructor(UNetTVMap(1, (0, 0)), max_iter=4)
    certificate = deq.certify(model, dinv.physics.Denoising(), SIZE)
    assert math.isinf(certificate.rate.value)
    assert not certificate.contracts
    assert "the dual of total variation is not unique" in str(certificate.rate)
    report = " ".join(str(certificate).split())
    assert "not certified: the dual of total variation is not unique" in report
    assert "tau |A|^2 < 2 and sigma tau |D|^2 < 1" in report
    with pytest.raises(ValueError, match="the rate is not below 1"):
        certificate.steps_to(0.1)


def test_stability_with_a_constant_weight_bounds_changes_of_the_image() -> None:
    physics, model = deblurring().physics, constant_model()
    stability = deq.certify(model, physics, SIZE).stability
    smallest = torch.linalg.svdvals(matrix(physics.A, SIZE)).min().item()
    assert stability.kind is Kind.CERTIFIED
    assert 1 / smallest <= stability.value <= 1.001 / smallest

    A = matrix(physics.A, SIZE)
    # Along the worst singular vector the bound is nearly attained.
    worst = torch.linalg.svd(A).U[:, -1].reshape(1, *SIZE)
    y = torch.rand(6, *SIZE, dtype=DOUBLE)
    moves = torch.cat([torch.randn(5, *SIZE, dtype=DOUBLE), worst])
    with torch.no_grad():
        change = model(y + 0.01 * moves, physics) - model(y, physics)
    ratio = change.flatten(1).norm(dim=1) / (0.01 * moves.flatten(1).norm(dim=1))
    assert bool((ratio <= stability.value).all())
    model = constant_model(2e-6)  # nearly least squares
    with torch.no_grad():
        change = model(y[5:] + worst, physics) - model(y[5:], physics)
    assert change.norm() > 0.99 * stability.value


def test_report_shows_stability_without_a_rate() -> None:
    shown = str(deq.certify(constant_model(), deblurring().physics, SIZE))
    assert "||x(y1) - x(y2)|| <=" in shown
    assert "steps " not in shown


@in_one_test(
    ("model", "physics", "reason"),
    [
        (
            TVMapReconstructor(UNetTVMap(1, (0, 0)), DEQ=MINIMISER),
            dinv.physics.Denoising(),
            "the map depends on the measurement",
        ),
        (
            TVMapReconstructor(ConstantTVMap((0, 0)), max_iter=64),
            dinv.physics.Denoising(),
            "a number of iterations",
        ),
        (
            TVMapReconstructor(ConstantTVMap((0, 0)), DEQ=deq.ReTune(8, 8)),
            dinv.physics.Denoising(),
            "a number of iterations",
        ),
        (
            constant_model(),
            dinv.physics.Inpainting(SIZE, mask=torch.arange(20.0).reshape(SIZE)),
            "1 / sqrt(mu), mu >= 0",
        ),
    ],
    ids=["map", "unrolled", "restarted", "operator with a null space"],
)
def test_stability_is_infinite_with_a_reason_if_it_is_not_proved(
    model: TVMapReconstructor, physics: dinv.physics.LinearPhysics, reason: str
) -> None:
    certificate = deq.certify(model, physics, SIZE)
    assert math.isinf(certificate.stability.value)
    assert reason in certificate.stability.source
    assert "||x(y1)" not in str(certificate)


def test_check_of_certificate_raises_after_weights_or_max_iter_have_changed() -> None:
    model, physics = constant_model(), dinv.physics.Denoising()
    certificate = deq.certify(model, physics, SIZE)
    model(torch.rand(1, *SIZE, dtype=DOUBLE), physics)
    certificate.check(model, physics)  # a call does not change the model
    solved, model.max_iter = model.DEQ, 5
    with pytest.raises(ValueError, match="fixed_budget"):
        certificate.check(model, physics)
    model.DEQ = solved
    with torch.no_grad():
        model.tv_map.raw += 1
    with pytest.raises(ValueError, match=r"tv_map\.raw"):
        certificate.check(model, physics)


def test_certify_raises_for_model_with_a_hook() -> None:
    model = TVMapReconstructor(ConstantTVMap((0, 0), 0.1), DEQ=MINIMISER)
    physics = dinv.physics.Denoising()
    assert deq.certify(model, physics, (1, 5, 4)).stability.is_certified
    model.register_forward_hook(lambda module, inputs, output: 10 * output)
    with pytest.raises(deq.certificates.UncertifiableModuleError, match="hooks"):
        deq.certify(model, physics, (1, 5, 4))
