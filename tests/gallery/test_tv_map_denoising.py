from __future__ import annotations

from typing import Any

import pytest
import torch

from deepinv_equilibrium import Status

from .gallery_page import run_page

ROWS = ("noisy", "scalar", "oracle", "map")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("tv_map_denoising")
    return run_page(
        "tv_map_denoising", folder, STEPS=1, SIZE=16, WEIGHTS=20, RATIO=1.16
    )


def psnr(images: torch.Tensor, truth: torch.Tensor) -> list[float]:
    values = -10 * (images - truth).square().mean((1, 2, 3)).log10()
    return [*values.tolist(), values.mean().item()]


def test_train_changes_weights_and_step_sizes(page: dict[str, Any]) -> None:
    assert page["one_weight"].weights != pytest.approx((0.08,), rel=1e-3)
    torch.manual_seed(0)
    untrained = page["deq"].models.UNetTVMap(1, (0, 0), initial_weight=0.15)
    for before, after in zip(
        untrained.parameters(), page["unet"].parameters(), strict=True
    ):
        assert not torch.equal(before, after)
    fresh = page["deq"].models.TVMapReconstructor(untrained, max_iter=1)
    for model in page["models"].values():
        for name, before in fresh.step_sizes.named_parameters():
            assert model.step_sizes.get_parameter(name) != before


def test_denoiser_solves_both_maps_to_the_tolerance(page: dict[str, Any]) -> None:
    assert set(page["solved"]) == {"scalar", "map"}
    for name, solved in page["solved"].items():
        assert solved.status == (Status.CONVERGED,) * 5
        assert (solved.residual <= 1e-5).all()
        weight = page["models"][name].parameter_map(page["measured"], page["physics"])
        assert torch.equal(weight, page["maps"][name])


def test_page_prints_every_photo_of_every_weight(page: dict[str, Any]) -> None:
    rows: dict[str, list[list[float]]] = {name: [] for name in ROWS}
    for line in page["printed"].splitlines():
        name, *values = line.split() or [""]
        if name in ROWS and len(values) == 6:
            rows[name].append([float(value) for value in values])
    truth = page["truth"]
    images = {name: solved.x for name, solved in page["solved"].items()}
    images |= {"noisy": page["measured"], "oracle": page["oracle"]}
    for name in ROWS:
        in_decibels, similarity = rows[name]
        assert in_decibels == pytest.approx(psnr(images[name], truth), abs=6e-3)
        assert all(0 < value <= 1 for value in similarity)


def test_oracle_has_the_best_score_of_each_photo(page: dict[str, Any]) -> None:
    tried, best, grid = page["tried"][:, 0], page["best"], page["grid"]
    torch.testing.assert_close(tried.amax(0), page["results"]["oracle"][0])
    assert (grid.min() < best).all()
    assert (best < grid.max()).all()
    for photo, weight in enumerate(best):
        nearby = page["denoiser"](page["measured"][photo, None], weight)
        value = psnr(nearby, page["truth"][photo, None])[0]
        assert value == pytest.approx(tried[:, photo].max().item(), abs=1e-2)


def test_every_configuration_approaches_the_minimiser(page: dict[str, Any]) -> None:
    distances = {
        line[:20].strip(): float(line.split()[-1])
        for line in page["printed"].splitlines()
        if line.startswith(("unrolled", "ReTune", "implicit"))
    }
    unrolled = [distances[f"unrolled, {n}"] for n in (16, 48, 128, 512)]
    assert unrolled == sorted(unrolled, reverse=True)
    assert distances["ReTune, 64 times 8"] == unrolled[-1]
    assert distances["implicit"] < 0.1
    assert page["model"].solution.status == (Status.CONVERGED,)
