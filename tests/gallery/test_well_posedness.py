from __future__ import annotations

from typing import Any

import pytest
import torch

from .gallery_page import run_page

ITERATIONS = 8


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("well_posedness")
    return run_page(
        "well_posedness",
        folder,
        STEPS=1,
        ITERATIONS=ITERATIONS,
        PIXELS=16,
        CROP=16,
        SEARCHES=1,
    )


def test_training_changes_the_denoisers(page: dict[str, Any]) -> None:
    fresh = page["deq"].models.SmallDRUNet(1).state_dict()
    for name in ("unrolled", "equilibrium"):
        weights = page["models"][name].prior[0].denoiser.state_dict()
        assert any(not torch.equal(fresh[key], weights[key]) for key in fresh)


def test_curve_passes_through_the_image_of_the_model(page: dict[str, Any]) -> None:
    model, curve = page["models"]["unrolled"], page["curves"]["unrolled"]
    with torch.no_grad():
        image = model(page["measured"], page["physics"])
    psnr = page["psnr"](image, page["truth"])
    torch.testing.assert_close(curve.psnr[page["K"] - 1], psnr, rtol=0, atol=1e-3)
    assert len(curve.psnr) == ITERATIONS


def test_worst_case_stays_below_the_certificate(page: dict[str, Any]) -> None:
    attack, bound = page["attacks"]["certified"], page["certificate"].stability
    assert bound.is_certified
    assert attack.gain.max() <= bound.value
    sizes = attack.perturbation.flatten(1).norm(dim=1)
    torch.testing.assert_close(sizes, torch.full_like(sizes, page["delta"]))


def test_page_prints_the_psnr_and_the_reports(page: dict[str, Any]) -> None:
    results, printed = page["results"], page["printed"]
    for name in ("U-Net", "unrolled", "certified"):
        assert f"{name:9s} {results[name]['PSNR']:6.2f}" in printed
    assert printed.count("observed from 3 starts") == 3
