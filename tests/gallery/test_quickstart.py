from __future__ import annotations

from typing import Any

import pytest
import torch

from deepinv_equilibrium import Status

from .gallery_page import run_page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page with small photos and a short training."""
    folder = tmp_path_factory.mktemp("quickstart")
    return run_page("quickstart", folder, SIZE=48, STEPS=2)


def psnr(images: torch.Tensor, truth: torch.Tensor) -> float:
    errors = (images - truth).square().mean((1, 2, 3))
    return -10 * float(errors.log10().mean())


def test_page_prints_the_psnr_of_its_images(page: dict[str, Any]):
    lines = page["printed"].splitlines()
    images, truth = page["images"], page["truth"]
    assert list(images) == ["truth", "degraded", "defaults", "(b)", "(c)"]
    for name in list(images)[1:]:
        (line,) = (line for line in lines if line.startswith(f"{name} "))
        assert float(line.split()[1]) == pytest.approx(
            psnr(images[name], truth), abs=6e-3
        )


def test_shipped_weights_restore_better_than_the_defaults(page: dict[str, Any]):
    images, truth = page["images"], page["truth"]
    values = [psnr(images[name], truth) for name in ("defaults", "(b)", "(c)")]
    assert values == sorted(values)
    assert values[2] > values[0] + 0.5


def test_page_reports_every_photo(page: dict[str, Any]):
    solution = page["models"]["(c)"].solution
    assert solution.status == (Status.COMPLETED,) * 5
    assert solution.evaluations.tolist() == [10] * 5
    assert str(solution) in page["printed"]


def test_the_training_learns_two_numbers_and_no_weights(page: dict[str, Any]):
    learned, defaults = page["learned"], page["models"]["defaults"]
    for name in ("stepsize", "g_param"):
        assert learned.params_algo[name][0] != defaults.params_algo[name][0]
    assert learned.params_algo["stepsize"][0].item() <= 1.8 * (1 + 1e-6)
    for a, b in zip(
        learned.prior.parameters(), defaults.prior.parameters(), strict=True
    ):
        assert torch.equal(a, b)
