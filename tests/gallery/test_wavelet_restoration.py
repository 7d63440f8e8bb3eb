from __future__ import annotations

from typing import Any

import pytest
import torch

import deepinv_equilibrium as deq

from .gallery_page import run_page

METHODS = ["(a)", "(b)", "control", "(c)"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("wavelet_restoration")
    return run_page(
        "wavelet_restoration",
        folder,
        LAYERS=1,
        RESTARTS=2,
        STEPS=1,
        STEPS_B=1,
        STEPS_C=1,
        CROPS=2,
    )


def test_each_method_learns_its_parameters_only(page: dict[str, Any]) -> None:
    fixed = deq.models.SmallDRUNet().state_dict()
    for models in page["models"].values():
        assert list(models) == METHODS
        assert sum(p.numel() for p in models["(a)"].parameters()) == 13
        assert bool(models["(a)"].prior.log_band.any())
        numbers = {
            method: [
                models[method].params_algo[name][0].item()
                for name in ("stepsize", "g_param")
            ]
            for method in METHODS[1:]
        }
        assert numbers["(c)"] == numbers["(b)"] != numbers["control"]
        for method in METHODS[1:]:
            network = models[method].prior[0].denoiser.state_dict()
            same = all(torch.equal(network[key], fixed[key]) for key in fixed)
            assert same == (method != "(c)")
            assert numbers[method][0] <= 1.8 * (1 + 1e-5)


def test_fill_sets_missing_pixels_to_the_mean(
    page: dict[str, Any],
) -> None:
    physics, y = page["problems"]["inpainting"], torch.full((2, 3, 64, 64), 0.25)
    assert physics.mask.mean().item() == pytest.approx(0.1, abs=0.02)
    filled = page["fill"](physics.A(y), physics)
    torch.testing.assert_close(filled, y, rtol=0, atol=1e-6)


def test_page_prints_the_psnr_of_both_splits(page: dict[str, Any]) -> None:
    for problem, splits in page["restored"].items():
        for split, images in splits.items():
            for method, image in images.items():
                error = (image - page["truth"][split]).square().mean((1, 2, 3))
                expected = (-10 * error.log10()).mean().item()
                got = page["results"][f"{problem} {method}"][split]
                assert got == pytest.approx(expected, abs=1e-3)
                start = f"{problem} {method:9s}"
                line = next(
                    line for line in page["printed"].splitlines() if start in line
                )
                column = list(splits).index(split)
                value = float(line.removeprefix(start).split()[column])
                assert value == pytest.approx(got, abs=0.006)
    photos = [set(page["images"](s, 1, 0).names) for s in ("train", "test")]
    assert not photos[0] & photos[1]
