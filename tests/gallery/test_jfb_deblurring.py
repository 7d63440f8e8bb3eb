from __future__ import annotations

from typing import Any

import pytest
import torch

import deepinv_equilibrium as deq

from .gallery_page import run_page

BASELINES = ["direct inverse", "TV descent", "PnP", "PnP, DRUNet"]
LEARNED = ["DEQ", "JFB", "JFB, same time"]
METHODS = ["blurred", *BASELINES, *LEARNED]
SIZE = 16


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("jfb_deblurring")
    return run_page(
        "jfb_deblurring",
        folder,
        STEPS=1,
        SIZE=SIZE,
        CROP=12,
        DESCENT_STEPS=3,
        ITERATIONS=3,
    )


@pytest.mark.parametrize(("blur", "variance"), [("5x5", 1), ("9x9", 5)])
def test_blurring_has_the_kernels_of_the_paper(
    page: dict[str, Any], blur: str, variance: int
) -> None:
    physics = page["blurring"](blur, SIZE, 0)
    spike = torch.zeros(1, 3, SIZE, SIZE)
    spike[..., SIZE // 2, SIZE // 2] = 1
    kernel = physics.A(spike)[0, 0]
    width = int(blur[0])
    assert int((kernel > 1e-5).sum()) == width**2
    axis = torch.arange(SIZE) - SIZE // 2
    logs = kernel[SIZE // 2, (axis.abs() <= width // 2)].log()
    # exp(-t^2 / (2 variance))
    assert logs.max() - logs[0] == pytest.approx((width // 2) ** 2 / 2 / variance, 1e-3)
    noise = physics(torch.zeros(40, 3, SIZE, SIZE)).std().item()
    assert noise == pytest.approx(0.01, rel=0.02)


def test_test_photos_are_not_used_for_training_or_validation(
    page: dict[str, Any],
) -> None:
    datasets = deq.datasets.photos.SPLITS
    assert not set(datasets["test"]) & {*datasets["train"], *datasets["validation"]}
    assert page["truth"].equal(page["photos"]("test", img_size=SIZE))


def test_both_gradients_train_copies_of_one_network(page: dict[str, Any]) -> None:
    start = page["network"].state_dict()
    for blur in ("5x5", "9x9"):
        models = page["models"][blur]
        assert models["PnP"].prior[0].denoiser is page["network"]
        assert type(models["DEQ"].DEQ.adjoint) is deq.Implicit
        learned = [models[name].prior[0].denoiser.state_dict() for name in LEARNED]
        for weights in learned:
            assert weights.keys() == start.keys()
            assert any(not torch.equal(weights[key], start[key]) for key in start)
        for name in LEARNED[1:]:
            assert type(models[name].DEQ.adjoint) is deq.JacobianFree


def test_trained_models_are_certified_to_contract(page: dict[str, Any]) -> None:
    physics = page["blurring"]("9x9", SIZE, 0)
    for name in LEARNED[:2]:
        rate = deq.certify(page["models"]["9x9"][name], physics, (3, SIZE, SIZE)).rate
        assert rate.is_certified
        assert rate.value < 1
        assert f"{name}: rate {rate}" in page["printed"]


def test_best_returns_the_highest_psnr_on_the_validation_crops(
    page: dict[str, Any],
) -> None:
    images = page["validation"]
    tried = [lambda y, physics, gap=gap: images + gap for gap in (0.2, -0.1, 0.3)]
    assert page["best"](tried, images, None) is tried[1]
    for blur in ("5x5", "9x9"):
        for name in BASELINES:
            assert page["models"][blur][name] in page["candidates"][name]


def test_results_hold_the_measures_of_the_images(page: dict[str, Any]) -> None:
    assert set(page["results"]) == set(METHODS)
    for blur, images in page["restored"].items():
        assert list(images) == METHODS
        for name, x in images.items():
            error = (x - page["truth"]).square().mean((1, 2, 3))
            value = -10 * error.log10().mean().item()
            row = page["results"][name]
            assert row[f"PSNR {blur}"] == pytest.approx(value, abs=1e-3)
            assert 0 < row[f"SSIM {blur}"] < 1
    printed = page["printed"].splitlines()
    line = next(line for line in printed if line.startswith("PnP, DRUNet  "))
    expected = page["results"]["PnP, DRUNet"]["PSNR 5x5"]
    assert float(line.split()[2]) == pytest.approx(expected, abs=6e-4)
