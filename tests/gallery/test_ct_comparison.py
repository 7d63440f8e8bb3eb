from __future__ import annotations

from typing import Any

import pytest
import torch

from .gallery_page import run_page

STEPS, ITERATIONS = 1, 8
METHODS = ["FBP", "projected gradient", "TV"]
NETWORKS = ["U-Net", "learned gradient", "learned primal-dual"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("ct_comparison")
    return run_page(
        "ct_comparison", folder, STEPS=STEPS, ITERATIONS=ITERATIONS, SIZE=24
    )


def test_results_hold_the_measures_of_the_images(page: dict[str, Any]) -> None:
    assert list(page["results"]) == METHODS + NETWORKS
    for name, row in page["results"].items():
        assert len(row) == 4
        image, truth = page["images"][name], page["truth"]
        psnr, ssim = page["psnr"](image, truth), page["ssim"](image, truth)
        assert row["PSNR ellipses"] == pytest.approx(psnr[:8].mean().item())
        assert row["SSIM Shepp-Logan"] == pytest.approx(ssim[8:].mean().item())
        assert f"{row['PSNR ellipses']:.3f}" in page["printed"]


def test_weights_are_chosen_on_validation_images(page: dict[str, Any]) -> None:
    trained = page["training"]
    assert len(trained) == STEPS
    everything = torch.cat([trained, page["validation"], page["truth"][:9]])
    distances = torch.cdist(everything.flatten(1), everything.flatten(1))
    assert distances.fill_diagonal_(1e9).min() > 1

    tried = []
    with torch.no_grad():
        for weight in page["grid"]:
            image = page["total_variation"](weight)(
                page["of_validation"], page["physics"]
            )
            tried.append(page["psnr"](image, page["validation"]).mean().item())
    best = page["grid"][tried.index(max(tried))]
    assert page["models"]["TV"].tv_map.weights[0] == pytest.approx(best)
    assert f"total_variation: {best:g} of" in page["printed"]


def test_train_changes_every_network_of_the_published_size(
    page: dict[str, Any],
) -> None:
    assert list(page["networks"]) == NETWORKS
    for count in (129_553, 13_318, 251_980):
        assert f"{count} parameters" in page["printed"]
    torch.manual_seed(0)
    for network in page["networks"].values():
        fresh = type(network)()
        assert not torch.equal(
            next(network.parameters()).cpu(), next(fresh.parameters())
        )
        assert not network.training


def test_iterates_converge_with_extrapolation_only(
    page: dict[str, Any],
) -> None:
    without, extrapolated = page["rounds"][0.0], page["rounds"][1.0]
    assert max(without[1:]) > 0.5
    assert extrapolated == sorted(extrapolated, reverse=True)
    assert extrapolated[-1] < 0.5 * max(without[1:])
