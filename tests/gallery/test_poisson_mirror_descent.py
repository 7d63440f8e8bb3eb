from __future__ import annotations

from typing import Any

import deepinv as dinv
import pytest
import torch

from .gallery_page import run_page

METHODS = ["y", "TV", "PnP", "energy", "DEQ-MD"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("poisson_mirror_descent")
    return run_page("poisson_mirror_descent", folder, STEPS=1, SIZE=16, ITERATIONS=8)


def test_physics_has_every_blur_and_noise_level(page: dict[str, Any]) -> None:
    physics = page["physics"]
    settings = list(
        zip(page["blur_of"].tolist(), page["alpha_of"].tolist(), strict=True)
    )
    assert len(set(settings)) == 9 == len(page["truth"])
    clean = physics.A(page["truth"])
    for i, (blur, alpha) in enumerate(settings):
        single = dinv.physics.BlurFFT((1, 16, 16), filter=page["kernels"][blur][None])
        torch.testing.assert_close(clean[i : i + 1], single.A(page["truth"][i : i + 1]))
        counts = page["measured"][i] * (40, 60, 100)[alpha]
        torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-3)


def test_train_changes_deq_md_only_and_energies_decrease(page: dict[str, Any]) -> None:
    fresh = page["deq"].models.SmallDRUNet(in_channels=1)
    shipped = dict(fresh.named_parameters())
    for name, weight in page["prior"].denoiser.named_parameters():
        assert not torch.equal(weight, shipped[name])
    for name, weight in page["denoiser"].named_parameters():
        assert torch.equal(weight, shipped[name])
    assert set(page["increase"]) == {"TV", "energy", "DEQ-MD"}
    assert all(value <= 33 * 1.2e-7 for value in page["increase"].values())


def test_results_hold_the_means_of_the_images(page: dict[str, Any]) -> None:
    assert list(page["results"]) == METHODS
    for name, image in page["images"].items():
        values = page["psnr"](image, page["truth"])
        row = page["results"][name]
        assert row["PSNR"] == pytest.approx(float(values.mean()))
        parts = [row[m] for m in ("Gaussian", "motion", "uniform")]
        assert sum(parts) / 3 == pytest.approx(row["PSNR"])
        parts = [row[m] for m in ("alpha 40", "alpha 60", "alpha 100")]
        assert sum(parts) / 3 == pytest.approx(row["PSNR"])
        assert f"{row['SSIM']:.3f}" in page["printed"]


def test_scalar_network_is_trained_and_its_energy_decreases(
    page: dict[str, Any],
) -> None:
    scalar, filters = page["scalar"], page["filters"].weight.detach().cpu()
    assert scalar.solution.largest_increase.max() <= 1e-6
    assert not torch.equal(filters[:8], -filters[8:])  # as it began
    assert f"scalar network: {page['scalar_psnr']:.2f} dB" in page["printed"]
