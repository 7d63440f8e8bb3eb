from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from .gallery_page import run_page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("tv_map_dynamic_mri")
    return run_page(
        "tv_map_dynamic_mri",
        folder,
        FIRST_STEPS=2,
        STEPS=1,
        PHANTOMS=2,
        ITERATIONS=4,
        SIZE=(2, 4, 32, 32),
    )


def test_find_edges_changes_every_weight_of_the_map(page: dict[str, Any]) -> None:
    model = page["build"](copy.deepcopy(page["unet"]))
    page["find_edges"](model)
    for name, weight in model.tv_map.named_parameters():
        assert not torch.equal(weight, page["unet"].get_parameter(name))


def test_train_changes_the_weights_but_no_step_size(page: dict[str, Any]) -> None:
    for name, lr in (("scalar", 3e-2), ("pair", 3e-2), ("map", 4e-4)):
        model = page["build"](copy.deepcopy(page["models"][name].tv_map))
        page["train"](name, model, lr, 1)
        for key, weight in model.named_parameters():
            same = torch.equal(weight, page["models"][name].get_parameter(key))
            assert same == key.startswith("step_sizes.")


def test_page_prints_every_phantom_of_every_model(page: dict[str, Any]) -> None:
    rows = [
        (name, [float(value) for value in values])
        for name, *values in map(str.split, page["printed"].splitlines())
        if name in page["results"] and len(values) == 3
    ]
    assert [name for name, _ in rows] == 2 * list(page["results"])
    truth = page["truth"].norm(dim=1)
    for name, image in page["images"].items():
        error = (image.norm(dim=1) - truth).square().mean((1, 2, 3))
        psnr = (-10 * error.log10()).tolist()
        assert dict(rows[:5])[name] == pytest.approx([*psnr, sum(psnr) / 2], abs=6e-3)


def test_oracle_has_the_best_score_of_the_grid(page: dict[str, Any]) -> None:
    for metric in (0, 1):
        for phantom in (0, 1):
            best = page["results"]["oracle"][metric, phantom]
            tried = [scores[metric, phantom] for scores in page["tried"]]
            assert len(tried) == 12
            assert best == max(tried) > min(tried)
