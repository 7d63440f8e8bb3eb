from __future__ import annotations

from typing import Any

import pytest
import torch

import deepinv_equilibrium as deq

from .gallery_page import run_page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("equilibrium_regularisation")
    return run_page("equilibrium_regularisation", folder, PIXELS=16, LEVELS=4, SEEDS=2)


def test_truth_satisfies_the_source_condition(page: dict[str, Any]) -> None:
    G, physics, truth = page["monotone"], page["physics"], page["truth"]
    with torch.no_grad():
        torch.testing.assert_close(
            G(truth), physics.A_adjoint(page["w"]), rtol=0, atol=1e-5
        )
    assert page["w_norm"] == pytest.approx(float(page["w"].norm()))
    assert truth.std() > 0.02


def test_noise_has_its_norm_and_its_frequencies(
    page: dict[str, Any],
) -> None:
    for kind in ("white", "worst"):
        e = page["noise"](kind, 0.3, 0.01)
        torch.testing.assert_close(
            e.flatten(1).norm(dim=1), torch.full((2,), 0.3).double()
        )
    energy = page["physics"].U_adjoint(e).abs().square()
    near = (page["eigenvalues"] / 0.01).log().abs() < 2
    assert (energy * near).sum() > 0.99 * energy.sum()


def test_bounds_hold_and_the_rates_are_as_in_theory(page: dict[str, Any]) -> None:
    assert (page["distances"] <= page["bounds"][:, None]).all()
    assert (page["errors"] <= page["error_bounds"][:, None]).all()
    results = page["results"]
    assert results["delta / ||w||, worst"]["rate"] > 0.9
    assert results["delta^2, worst"]["rate"] < 0.3
    certificate = page["certificate"]
    assert certificate.stability.kind is deq.certificates.Kind.CERTIFIED
    assert results["stability"]["observed"] <= certificate.stability.value


def test_page_prints_the_rates(page: dict[str, Any]) -> None:
    rate = page["results"]["delta / ||w||, white"]["rate"]
    assert f"delta / ||w||  white  {rate:5.2f}" in page["printed"]
