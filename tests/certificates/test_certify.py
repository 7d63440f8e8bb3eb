"""Certificates: requirements on the model, consequences, and detected changes."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import deepinv as dinv
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import (
    Bound,
    Certificate,
    Contraction,
    Kind,
    LayerRate,
    Term,
    certify,
)

from ..one_test import in_one_test

IMAGE = (1, 6, 6)


class StatedModel(nn.Module):
    """A user-defined model that states its contraction."""

    def __init__(self, contraction: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.stated = (contraction,)

    def contraction(self, physics: Any, img_size: Any) -> Any:
        return self.stated[0]


def certificate_of(rate: Bound, **fields: Any) -> Certificate:
    model = StatedModel(Contraction(rate, "l2 norm", **fields))
    return certify(model, dinv.physics.Denoising(), IMAGE)


def pgd(**arguments: Any) -> deq.optim.PGD:
    defaults: dict[str, Any] = {
        "data_fidelity": dinv.optim.L2(),
        "prior": dinv.optim.Tikhonov(),
        "stepsize": 0.5,
        "lambda_reg": 2.0,
        "DEQ": deq.Equilibrium(deq.Picard(max_iter=30, rtol=1e-12)),
    }
    return deq.optim.PGD(**{**defaults, **arguments})


@given(rate=st.floats(0, 1, exclude_max=True), factor=st.floats(1e-300, 0.999999))
def test_steps_to_is_the_least_sufficient_number(rate: float, factor: float) -> None:
    steps = certificate_of(Bound(rate)).steps_to(factor)
    # Logarithms, because powers underflow.
    log = -math.inf if rate == 0 else math.log(rate)
    assert steps * log <= math.log(factor) * (1 - 1e-15)
    assert steps == 1 or (steps - 1) * log >= math.log(factor) * (1 + 1e-11)


@pytest.mark.parametrize("rate", [1.0, 1.5, math.inf])
def test_steps_to_raises_without_a_contraction(rate: float) -> None:
    certificate = certificate_of(Bound(rate, source="because"))
    assert not certificate.contracts
    with pytest.raises(ValueError, match=r"the rate is not below 1.*because"):
        certificate.steps_to(0.1)


@in_one_test("factor", [0.0, 1.0, 2.0, math.nan])
def test_steps_to_raises_for_factors_out_of_range(factor: float) -> None:
    with pytest.raises(ValueError, match="factor"):
        certificate_of(Bound(0.5)).steps_to(factor)


def test_certificate_with_an_estimated_rate_does_not_claim_contraction() -> None:
    rate = Bound(0.5, Kind.ESTIMATED, "60 Lanczos steps", delta=0.01)
    certificate = certificate_of(rate)
    assert certificate.kind is Kind.ESTIMATED
    assert not certificate.contracts
    text = str(certificate) + repr(certificate)
    assert "estimated with failure probability 0.01" in text
    assert "<~ 0.5" in text
    assert not re.search(r"(?<!not )certified", text)


def test_terms_that_layers_share_are_listed_once() -> None:
    shared = Term("curvature", "L", Bound(1.0))
    layers = tuple(
        LayerRate(
            Bound(0.5), Bound(1.0), (shared, Term("step", "tau", Bound(tau), True))
        )
        for tau in (0.5, 0.25)
    )
    terms = certificate_of(Bound(0.25), layers=layers).terms
    assert [term.symbol for term in terms] == ["L", "tau_1", "tau_2"]


def test_report_contains_terms_rate_norm_steps_and_stability() -> None:
    physics = dinv.physics.Denoising()
    model = pgd(stepsize=[0.5, 0.25], DEQ=deq.Equilibrium(layers=2))
    report = str(certify(model, physics, IMAGE))
    for needed in (
        "PGD with Denoising, images 1 x 6 x 6",
        "mu ",
        "tau_1      = 0.5",
        "rho <= 0.125",
        "block of 2 layers",
        "l2 norm of the image x",
        "7 steps",
        "stability",
        "(certified: ",
        "deepinv_equilibrium ",
    ):
        assert needed in report, needed
    assert max(map(len, report.splitlines())) <= 80


@given(value=st.floats(1e-9, 1e9), is_lower=st.booleans())
def test_report_rounds_bounds_outward(value: float, is_lower: bool) -> None:
    term = Term("quantity", "q", Bound(value, is_lower=is_lower))
    layer = LayerRate(Bound(0.5), Bound(1.0), (term,))
    report = str(certificate_of(Bound(0.5), layers=(layer,)))
    (shown,) = re.findall(r"^q +[<>]= (\S+) ", report, re.MULTILINE)
    assert float(shown) <= value if is_lower else float(shown) >= value
    assert float(shown) == pytest.approx(value, rel=1e-5)


def test_report_does_not_round_a_rate_below_1_to_1() -> None:
    assert "<= 0.99999999" in str(certificate_of(Bound(0.99999999)))


def test_certify_names_a_part_that_cannot_be_certified() -> None:
    model = pgd(prior=dinv.optim.PnP(deq.models.SmallDRUNet(pretrained=None)))
    certificate = certify(model, dinv.physics.Denoising(), (3, 8, 8))
    assert certificate.rate.value == math.inf
    assert not certificate.contracts
    assert certificate.stability.is_vacuous
    text = str(certificate) + repr(certificate)
    assert "SmallDRUNet" in text
    assert "rate       not certified" in text
    assert "<= inf" not in text


@pytest.mark.parametrize("trainable", [["stepsize"], []])
def test_check_raises_after_model_or_physics_changed(trainable: list[str]) -> None:
    mask = torch.ones(IMAGE)
    physics = dinv.physics.Inpainting(IMAGE, mask=mask)
    model = pgd(trainable_params=trainable)
    certificate = certify(model, physics, IMAGE)
    y = physics.A(torch.rand(2, *IMAGE))
    model(y.requires_grad_(), physics).sum().backward()
    certificate.check(model, physics)  # running a model does not change it
    assert certificate.holds_for(model, physics)

    other = dinv.physics.Inpainting(IMAGE, mask=mask / 2)
    with pytest.raises(ValueError, match=r"physics\.mask"):
        certificate.check(model, other)
    if trainable:
        with torch.no_grad():
            model.params_algo["stepsize"].get_parameter("0").add_(0.1)
    else:
        model.params_algo["stepsize"] = [0.75]
    assert not certificate.holds_for(model, physics)
    with pytest.raises(ValueError, match=r"model\.params_algo\.stepsize.*certify"):
        certificate.check(model, physics)


def test_holds_for_returns_false_for_other_models() -> None:
    physics = dinv.physics.Denoising()
    certificate = certify(pgd(), physics, IMAGE)
    assert not certificate.holds_for(pgd(DEQ=deq.Equilibrium(layers=2)), physics)
    assert not certificate.holds_for(pgd(g_first=True), physics)
    assert not certificate.holds_for(pgd(data_fidelity=dinv.optim.L2(2.0)), physics)


@pytest.mark.parametrize("method", ["gradient_error", "plan"])
def test_methods_raise_for_a_changed_model(method: str) -> None:
    physics = dinv.physics.Denoising()
    certificate = certify(pgd(), physics, IMAGE)
    y = torch.ones(1, *IMAGE)
    arguments = (pgd(stepsize=0.25), y, physics, torch.sum)
    with pytest.raises(ValueError, match="does not hold any more"):
        getattr(certificate, method)(*arguments, *([0.1] if method == "plan" else []))


def test_gradient_error_raises_for_a_rate_in_another_norm() -> None:
    model = StatedModel(Contraction(Bound(0.5), "l2 norm of x + z", in_state=False))
    physics = dinv.physics.Denoising()
    certificate = certify(model, physics, IMAGE)
    with pytest.raises(ValueError, match=r"x \+ z.*PGD"):
        certificate.gradient_error(model, torch.ones(1), physics, torch.sum)


def test_methods_agree_with_gradient_error_and_plan() -> None:
    physics = dinv.physics.Denoising().double()
    model = pgd(trainable_params=["lambda_reg"]).double()
    certificate = certify(model, physics, IMAGE)
    y = torch.rand(2, *IMAGE, dtype=torch.float64)
    loss = deq.certificates.SquaredError(torch.zeros_like(y))
    direct = deq.certificates.gradient_error(certificate, model, y, physics, loss)
    assert str(certificate.gradient_error(model, y, physics, loss)) == str(direct)
    layers, restarts = certificate.plan(model, y, physics, loss, 0.1)
    assert layers >= 1
    assert restarts >= 1


@in_one_test(
    ("arguments", "error", "match"),
    [
        ({"img_size": (1, 0, 8)}, ValueError, "img_size"),
        ({"img_size": ()}, ValueError, "img_size"),
        ({"img_size": (1, 8.0, 8)}, ValueError, "img_size"),
        ({"physics": torch.nn.Identity()}, TypeError, "physics"),
        ({"model": torch.nn.Identity()}, TypeError, "contraction"),
        ({"model": StatedModel(0.5)}, TypeError, "must return a Contraction"),
        ({"model": deq.optim.PGD()}, ValueError, "DEQ="),
    ],
)
def test_certify_raises_for_bad_arguments(
    arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    given = {"model": pgd(), "physics": dinv.physics.Denoising(), "img_size": IMAGE}
    with pytest.raises(error, match=match):
        certify(**{**given, **arguments})


def test_certificates_compare_by_value() -> None:
    certificate = certificate_of(Bound(0.5))
    assert replace(certificate, version="2") != certificate
    assert "rho <= 0.5" in repr(certificate)


def test_kind_is_none_without_a_rate() -> None:
    assert certificate_of(Bound(0.5)).kind is Kind.CERTIFIED
    assert certificate_of(Bound(math.inf, source="a DRUNet")).kind is None


def test_methods_raise_for_images_of_another_size() -> None:
    model, physics = pgd(), dinv.physics.Denoising()
    certificate = certify(model, physics, IMAGE)
    y = torch.rand(2, 1, 8, 8)
    loss = deq.certificates.SquaredError(y)
    model(y, physics)
    for use in (
        lambda: certificate.gradient_error(model, y, physics, loss),
        lambda: certificate.plan(model, y, physics, loss, 0.1),
        lambda: certificate.plot(model.solution),
    ):
        with pytest.raises(ValueError, match=r"\(1, 6, 6\), got \(1, 8, 8\)"):
            use()


def test_methods_raise_for_arguments_in_wrong_order() -> None:
    model, physics = pgd(), dinv.physics.Denoising()
    certificate = certify(model, physics, IMAGE)
    y = torch.rand(2, *IMAGE)
    with pytest.raises(TypeError, match=r"\(model, y, physics\).*got Tensor"):
        certificate.gradient_error(model, physics, y, torch.sum)
    with pytest.raises(TypeError, match="must be a Solution"):
        certificate.plot(y)
    with pytest.raises(TypeError, match="img_size"):
        certify(model, physics, 6)
