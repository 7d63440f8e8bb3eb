from __future__ import annotations

import contextlib
import io
import json
import runpy
import statistics
import sys
import warnings
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

import deepinv_equilibrium as deq

GALLERY = Path(__file__).parents[2] / "gallery"
SCRIPT = GALLERY / "adaptation.py"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after a short run, what it printed, and its figure."""
    figure = tmp_path_factory.mktemp("adaptation") / "figure.png"
    arguments = ["--steps", "3", "--unrolled-steps", "2", "--adapt-steps", "10"]
    arguments += ["--size", "16"]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # So few steps end nowhere.
        warnings.simplefilter("ignore", deq.ConvergenceWarning)
        patch.setattr(sys, "argv", [str(SCRIPT), *arguments, "--figure", str(figure)])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(str(SCRIPT), run_name="__main__")
    plt.close("all")
    return names | {"figure_path": figure, "printed": printed.getvalue()}


def test_the_width_is_a_parameter_of_the_operator(page: dict[str, Any]) -> None:
    blur = page["GaussianBlur"](1.0, 16, 0)
    width = torch.tensor(1.5, requires_grad=True)
    blur.update_parameters(width=width)
    x = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(blur.A(x), page["GaussianBlur"](1.5, 16, 0).A(x))
    (gradient,) = torch.autograd.grad(blur.A(x).square().sum(), width)
    assert gradient != 0


def test_results_are_those_of_the_images(page: dict[str, Any]) -> None:
    for name, image in page["images"].items():
        expected = page["psnr"](image, page["truth"]).mean().item()
        assert page["results"][name]["PSNR"] == pytest.approx(expected)
        assert f"{name:24s}{expected:7.2f} PSNR" in page["printed"]
    for name in ("network", "unrolled"):
        adapted = page["adapted"][name]
        trained, other = page["models"][name], page["oracles"][name]
        pairs = zip(trained.parameters(), adapted.model.parameters(), strict=True)
        moved = sum(float((p - q).detach().square().sum()) for p, q in pairs)
        assert moved == pytest.approx(float(adapted.penalty[adapted.kept]), rel=1e-3)
        assert any(
            not torch.equal(p, q)
            for p, q in zip(trained.parameters(), other.parameters(), strict=True)
        )


def test_the_network_is_not_told_and_the_unrolled_model_is(
    page: dict[str, Any],
) -> None:
    images = page["images"]
    assert torch.equal(images["network, not told"], images["network, naive"])
    assert not torch.equal(images["unrolled, not told"], images["unrolled, naive"])


def test_prints_the_orderings_over_seeds(page: dict[str, Any]) -> None:
    record = json.loads((GALLERY / "experiments" / "adaptation.json").read_text())
    assert len(record["seeds"]) >= 3
    assert {*record["results"]} == {*page["results"]}
    found = record["results"].items()
    values = {name: next(iter(measures.values())) for name, measures in found}
    for name, numbers in values.items():
        mean, deviation = statistics.mean(numbers), statistics.stdev(numbers)
        assert f"{name:26s}{mean:7.2f} +- {deviation:.2f}" in page["printed"]
    adapted, naive = values["network, adapted"], values["network, naive"]
    gains = [a - b for a, b in zip(adapted, naive, strict=True)]
    assert (
        "network, adapted > network, naive: "
        f"{sum(gain > 0 for gain in gains)} of {len(gains)} seeds, "
        f"{statistics.mean(gains):+.2f} dB"
    ) in page["printed"]


def test_writes_the_figure(page: dict[str, Any]) -> None:
    assert plt.imread(page["figure_path"]).shape[:2] == (704, 1430)
    assert f"{page['figure_path']}, " in page["printed"]
