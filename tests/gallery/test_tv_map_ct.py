from __future__ import annotations

from typing import Any

import deepinv as dinv
import pytest
import torch

from deepinv_equilibrium.certificates import AdjointMismatchError

from .gallery_page import run_page

STEPS, ITERATIONS, WEIGHTS, SIZE = 1, 8, 3, 32


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("tv_map_ct")
    return run_page(
        "tv_map_ct",
        folder,
        STEPS=STEPS,
        ITERATIONS=ITERATIONS,
        WEIGHTS=WEIGHTS,
        SIZE=SIZE,
    )


def rows(page: dict[str, Any], title: str) -> list[list[float]]:
    """The numbers of a printed table: a row for each image, and the two means."""
    lines = page["printed"].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(title)) + 1
    assert lines[first - 1].split()[-4:] == ["FBP", "scalar", "oracle", "map"]
    return [
        [float(value) for value in line.split()[-4:]] for line in lines[first:][:10]
    ]


def test_train_changes_both_models_and_uses_no_test_image(
    page: dict[str, Any],
) -> None:
    untrained = page["build"](page["one_weight"]).step_sizes.state_dict()
    for model in page["models"].values():
        for name, value in model.step_sizes.state_dict().items():
            assert not torch.equal(value, untrained[name])
    assert page["one_weight"].weights[0] != pytest.approx(0.0013, rel=1e-5)
    assert len(page["ellipses"]) == 4 * STEPS
    trained = torch.stack([sample["x"] for sample in page["ellipses"]])
    for image in page["truth"]:
        assert (trained - image).flatten(1).norm(dim=1).min() > 1


def test_norm_is_certified_and_models_refuse_an_inexact_adjoint(
    page: dict[str, Any],
) -> None:
    assert "squared norm <= 1.00098 (certified" in page["printed"]
    fast = dinv.physics.Tomography(
        24, SIZE, circle=True, normalize=True, adjoint_via_backprop=False
    )
    with pytest.raises(AdjointMismatchError):
        page["models"]["scalar"](page["measured"], fast)


def test_oracle_has_the_best_score_of_each_image(page: dict[str, Any]) -> None:
    grid, truth = page["grid"], page["truth"]
    assert len(grid) == WEIGHTS
    assert grid[1] / grid[0] == pytest.approx(1.2)
    metrics = (page["psnr"], page["ssim"])
    for measure, values in zip(metrics, page["results"]["oracle"], strict=True):
        tried = [
            measure(page["reconstruct"](page["with_weight"](w), ITERATIONS), truth)
            for w in grid
        ]
        torch.testing.assert_close(values, torch.stack(tried).amax(0))
    assert page["with_weight"](0.002).tv_map.weights[0] == pytest.approx(0.002)


def test_page_prints_every_image_and_both_means(page: dict[str, Any]) -> None:
    measures = (("PSNR", page["psnr"], 0.006), ("SSIM", page["ssim"], 6e-4))
    for title, measure, rounding in measures:
        printed = rows(page, title)
        for column, name in enumerate(("FBP", "scalar", "map")):
            values = measure(page["images"][name], page["truth"]).tolist()
            values += [sum(values[:6]) / 6, sum(values[6:]) / 2]
            column = 3 if name == "map" else column
            for row, value in zip(printed, values, strict=True):
                assert row[column] == pytest.approx(value, abs=rounding)
