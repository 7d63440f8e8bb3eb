from __future__ import annotations

from typing import Any

import pytest
import torch

from .gallery_page import run_page

STEPS, LAYERS = 1, 2


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("projected_gradient")
    return run_page("projected_gradient", folder, STEPS=STEPS, LAYERS=LAYERS)


def test_certificate_is_printed_and_the_minimisers_agree(page: dict[str, Any]) -> None:
    assert "rho <= 0.950001 (certified" in page["printed"]
    assert page["trained"].rate.is_certified
    assert page["trained"].rate.value < 1
    assert page["distance"] < 1e-4


def test_train_changes_the_parameters_of_two_models(page: dict[str, Any]) -> None:
    for name in ("unrolled", "equilibrium"):
        weights = page["learned"](page[name], "lambda")
        assert all(weight != page["WEIGHT"] for weight in weights)
    assert len(page["learned"](page["unrolled"], "stepsize")) == LAYERS
    assert page["equilibrium"].params_algo["stepsize"] == [page["TAU"]]
    assert not [p for p in page["classical"].parameters() if p.requires_grad]


def test_results_hold_the_psnr_of_the_images(page: dict[str, Any]) -> None:
    assert list(page["results"]) == ["FBP", "classical", "unrolled", "equilibrium"]
    for name, row in page["results"].items():
        value = page["psnr"](page["images"][name], page["truth"]).mean().item()
        assert row["PSNR"] == value
        assert f"{value:.2f} dB" in page["printed"]
    assert page["curves"]["unrolled"][0] == pytest.approx(
        page["results"]["unrolled"]["PSNR"], abs=1e-3
    )
    assert torch.isfinite(torch.tensor(page["curves"]["equilibrium"])).all()
