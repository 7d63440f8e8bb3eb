from __future__ import annotations

from typing import Any

import pytest
import torch

from .gallery_page import run_page

STEPS = 1


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("wavelet_denoising")
    return run_page("wavelet_denoising", folder, STEPS=STEPS, SIZE=32, CROP=32)


def test_every_model_is_trained_on_the_same_noise(
    page: dict[str, Any],
) -> None:
    assert len(page["models"]) == 24
    for (prior, step_size, block), model in page["models"].items():
        count = sum(p.numel() for p in model.parameters())
        assert count == {"theta_B": 7, "theta_BC": 13}[prior]
        assert (model.DEQ.layers, model.DEQ.restarts) == block
        assert model.normalised == (step_size == "normalised")
        assert (model.stepsize == "optimal") == (step_size == "2/(mu+L)")
        assert len(page["curves"][prior, step_size, block]) == STEPS
        assert all(bool(p.any()) for p in model.parameters())  # none is left at 0
    noise = page["noisy"][0] - page["clean"][0]
    assert noise.std((1, 2)).tolist() == pytest.approx([0.1, 0.25, 0.5], rel=0.1)


def test_page_prints_the_psnr_of_the_held_out_photos(page: dict[str, Any]) -> None:
    run = ("theta_BC", "1.95/L", (10, 10))
    row = page["results"]["theta_BC 1.95/L (10, 10)"]
    with torch.no_grad():
        x = page["models"][run](page["measured"], page["physics"])
    expected = -10 * (x - page["truth"]).square().mean((1, 2, 3)).log10().mean()
    assert row["held-out"] == pytest.approx(expected.item(), abs=1e-3)
    line = next(
        line
        for line in page["printed"].splitlines()
        if line.startswith("theta_BC 1.95/L (10, 10)")
    )
    assert float(line.split()[-2]) == pytest.approx(row["held-out"], abs=0.006)
