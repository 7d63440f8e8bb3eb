from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from deepinv_equilibrium.certificates import Kind

from .gallery_page import run_page

STEPS = 2


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("certified_deblurring")
    return run_page(
        "certified_deblurring",
        folder,
        STEPS=STEPS,
        SIZE=32,
        CROP=32,
        RTOL=1e-2,
        ITERATIONS=20,
        LANCZOS_STEPS=5,
    )


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([w.detach().flatten() for w in model.prior.parameters()])


def test_train_learns_its_parameters_and_is_certified_after_every_step(
    page: dict[str, Any],
) -> None:
    before, after, drunet = page["before"], page["after"], page["drunet"]
    assert not torch.equal(weights(after), weights(before))
    shipped = page["drunet_denoiser"].state_dict()
    for name, weight in drunet.prior[0].denoiser.state_dict().items():
        assert torch.equal(weight, shipped[name])
    for name in ("stepsize", "g_param"):
        values = [m.params_algo[name][0].item() for m in (before, after, drunet)]
        assert len(set(values)) == 3
    rates = page["rates"]["certified"]
    assert len(rates) == STEPS
    assert all(rate.is_certified and rate.value < 1 for rate in rates)
    assert f"after {STEPS} of {STEPS} steps" in page["printed"]


def test_train_limits_the_step_size(
    page: dict[str, Any],
) -> None:
    limit = 1.8 / page["spectrum"].upper.value
    model = copy.deepcopy(page["drunet"])
    model.params_algo["stepsize"][0] = 0.99 * limit
    # The loss asks for more, and a step of Adam would give it 10 %.
    page["train"]("projected", model, 0.0)
    assert model.params_algo["stepsize"][0].item() == pytest.approx(limit, rel=1e-6)


def test_page_prints_the_certificates_and_refuses_the_first_for_new_weights(
    page: dict[str, Any],
) -> None:
    first, second = page["certificate_before"], page["certificate"]
    assert first.contracts
    assert second.contracts
    assert not first.holds_for(page["after"], page["physics"])
    assert second.holds_for(page["after"], page["physics"])
    assert "this certificate does not hold any more" in page["printed"]
    for certificate in (first, second, page["drunet_certificate"]):
        assert str(certificate) in page["printed"]


def test_certify_of_the_drunet_is_vacuous(page: dict[str, Any]) -> None:
    certificate = page["drunet_certificate"]
    assert certificate.rate.is_vacuous
    assert "SmallDRUNet cannot be certified" in certificate.rate.source
    estimate = page["estimates"]["DRUNet"]
    assert estimate.kind is Kind.ESTIMATED
    assert estimate.delta == 1e-3
    assert "the solution of this measurement" in estimate.point
    printed = " ".join(page["printed"].split())
    assert f"DRUNet: {estimate}" in printed
    assert str(page["error"]) in page["printed"]


def test_page_prints_the_psnr_of_every_photo(page: dict[str, Any]) -> None:
    names = ("degraded", "before", "certified", "DRUNet")
    rows = {
        line.split()[0]: [float(value) for value in line.split()[1:]]
        for line in page["printed"].splitlines()
        if line.startswith(names) and len(line.split()) == 7
    }
    truth = page["truth"]
    images = {"degraded": page["measured"]}
    with torch.no_grad():
        for name, model in page["models"].items():
            images[name] = model(page["measured"], page["physics"])
    for name in names:
        error = (images[name] - truth).square().mean((1, 2, 3))
        psnr = (-10 * error.log10()).tolist()
        assert rows[name] == pytest.approx([*psnr, sum(psnr) / 5], abs=6e-3)


def test_mid_grey_and_ridge_have_the_same_rate(page: dict[str, Any]) -> None:
    trade = page["trade"]
    assert {contraction for _, contraction in trade} == {0.999, 0.99, 0.95}
    for (_, contraction), (certificate, _) in trade.items():
        assert certificate.contracts
        assert certificate.rate.value == pytest.approx(contraction, rel=1e-4)
    for way in ("mid-grey", "ridge"):
        stability = [trade[way, c][0].stability.value for c in (0.999, 0.99, 0.95)]
        assert stability == sorted(stability, reverse=True)


def test_residuals_stay_under_the_certified_envelope(page: dict[str, Any]) -> None:
    history = page["solution"].absolute_history[:, 0]
    assert len(history) == len(page["envelope"]) == 20
    assert page["certificate_large"].rate.is_certified
    envelope = torch.tensor(page["envelope"])
    assert (history[1:] < envelope[1:]).all()
