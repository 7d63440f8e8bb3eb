from __future__ import annotations

import contextlib
import io
import runpy
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "gallery" / "projected_gradient.py"
STEPS, LAYERS = 3, 2


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after a short run, what it printed, and its figure."""
    figure = tmp_path_factory.mktemp("projected_gradient") / "figure.png"
    arguments = ["--steps", str(STEPS), "--layers", str(LAYERS)]
    arguments += ["--figure", str(figure)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(str(SCRIPT), run_name="__main__")
    plt.close("all")
    return names | {"figure_path": figure, "printed": printed.getvalue()}


def test_the_certificate_is_printed_and_holds(page: dict[str, Any]) -> None:
    assert "rho <= 0.950001 (certified" in page["printed"]
    assert page["trained"].rate.is_certified
    assert page["trained"].rate.value < 1
    assert page["distance"] < 1e-4


def test_both_models_learn_and_the_classical_one_does_not(page: dict[str, Any]) -> None:
    for name in ("unrolled", "equilibrium"):
        weights = page["learned"](page[name], "lambda")
        assert all(weight != page["WEIGHT"] for weight in weights)
    assert len(page["learned"](page["unrolled"], "stepsize")) == LAYERS
    assert page["equilibrium"].params_algo["stepsize"] == [page["TAU"]]
    assert not [p for p in page["classical"].parameters() if p.requires_grad]


def test_the_numbers_are_those_of_the_images(page: dict[str, Any]) -> None:
    assert list(page["results"]) == ["FBP", "classical", "unrolled", "equilibrium"]
    for name, row in page["results"].items():
        value = page["psnr"](page["images"][name], page["truth"]).mean().item()
        assert row["PSNR"] == value
        assert f"{value:.2f} dB" in page["printed"]
    assert page["curves"]["unrolled"][0] == pytest.approx(
        page["results"]["unrolled"]["PSNR"], abs=1e-3
    )
    assert torch.isfinite(torch.tensor(page["curves"]["equilibrium"])).all()


def test_writes_the_figure(page: dict[str, Any]) -> None:
    assert plt.imread(page["figure_path"]).shape[:2] == (330, 1760)
