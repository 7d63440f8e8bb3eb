from __future__ import annotations

import contextlib
import io
import json
import runpy
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

import deepinv_equilibrium as deq

SCRIPT = Path(__file__).parents[2] / "gallery" / "mri_comparison.py"
RECORD = SCRIPT.parent / "experiments" / "mri_comparison.json"
METHODS = ["zero-filled", "TV", "PnP", "DU-PROX", "DE-PROX", "DE-GRAD"]
LEARNED = METHODS[3:]
STEPS, LAYERS, SIZE = 1, 2, 16


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after a short run, what it printed, and its figure."""
    figure = tmp_path_factory.mktemp("mri_comparison") / "figure.png"
    arguments = ["--denoiser-steps", "2", "--steps", str(STEPS)]
    arguments += ["--layers", str(LAYERS), "--size", str(SIZE)]
    arguments += ["--figure", str(figure)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(str(SCRIPT), run_name="__main__")
    plt.close("all")
    return names | {"figure_path": figure, "printed": printed.getvalue()}


def test_a_quarter_is_measured_and_the_centre_is(page: dict[str, Any]) -> None:
    mask = page["mask"]
    assert mask.mean().item() == pytest.approx(0.25)
    assert mask[SIZE // 2 - 1 : SIZE // 2 + 1, SIZE // 2 - 1 : SIZE // 2 + 1].all()


def test_nothing_is_trained_on_what_is_tested(page: dict[str, Any]) -> None:
    trained = torch.stack([sample["x"] for sample in page["training"]])
    for image in (*page["truth"], *page["validation"]):
        assert (trained - image).flatten(1).norm(dim=1).min() > 0.1
    assert page["magnitude"](page["truth"]).max() <= 1 + 1e-6


def test_the_networks_start_alike_and_learn(page: dict[str, Any]) -> None:
    start = page["denoiser"].state_dict()
    for name in ("DU-PROX", "DE-PROX"):
        learned = page["models"][name].prior[0].denoiser.state_dict()
        assert learned.keys() == start.keys()
        assert any(not torch.equal(learned[key], start[key]) for key in start)
    assert page["models"]["PnP"].prior[0].denoiser is page["denoiser"]


def test_choices_are_made_on_validation_images(page: dict[str, Any]) -> None:
    for name, candidates in (("TV", page["tried"]), ("PnP", page["plugs"])):
        chosen = page["models"][name]
        index = candidates.index(chosen)
        other = candidates[index - 1]
        assert page["validate"](chosen) > page["validate"](other)
    with torch.no_grad():
        x = page["magnitude"](
            page["models"]["TV"](page["to_validate"], page["physics"])
        )
    target = page["magnitude"](page["validation"])
    error = (x - target).square().mean((1, 2, 3))
    values = 10 * (target.amax((1, 2, 3)).square() / error).log10()
    value = page["validate"](page["models"]["TV"])
    assert value == pytest.approx(values.mean().item(), abs=1e-3)


def test_only_de_grad_is_certified(page: dict[str, Any]) -> None:
    physics = page["physics"]
    rate = deq.certify(page["certified"], physics, (2, SIZE, SIZE)).rate
    assert rate.is_certified
    assert page["results"]["DE-GRAD"]["rate"] == pytest.approx(rate.value)
    assert rate.value < 1
    other = deq.certify(page["models"]["DE-PROX"], physics, (2, SIZE, SIZE))
    assert not other.contracts


def test_the_numbers_are_those_of_the_images(page: dict[str, Any]) -> None:
    assert list(page["results"]) == METHODS
    for name, x in page["reconstructed"].items():
        error = (page["magnitude"](x) - page["target"]).square().mean((1, 2, 3))
        values = 10 * (page["target"].amax((1, 2, 3)).square() / error).log10()
        row = page["results"][name]
        assert row["PSNR slice"] == pytest.approx(values[0].item(), abs=1e-3)
        assert row["PSNR phantoms"] == pytest.approx(values[1:].mean().item(), abs=1e-3)
        line = next(
            line
            for line in page["printed"].splitlines()
            if line.startswith(f"{name} ") and len(line.split()) == 5
        )
        assert float(line.split()[1]) == pytest.approx(row["PSNR slice"], abs=6e-4)


def test_the_unrolled_model_is_its_own_iteration(page: dict[str, Any]) -> None:
    row = page["results"]["DU-PROX"]
    mean = (row["PSNR slice"] + 3 * row["PSNR phantoms"]) / 4
    assert row[f"PSNR after {LAYERS}"] == pytest.approx(mean, abs=1e-4)
    assert {f"PSNR after {n}" for n in (1, LAYERS, 2 * LAYERS, 10 * LAYERS)} <= set(row)


def test_prints_the_record_of_the_longer_run(page: dict[str, Any]) -> None:
    record = json.loads(RECORD.read_text("utf-8"))
    assert len(record["seeds"]) >= 3
    assert list(record["results"]) == METHODS
    assert record["command"] in page["printed"]
    values = record["results"]["DE-PROX"]["PSNR slice"]
    mean, spread = statistics.mean(values), statistics.stdev(values)
    line = f"DE-PROX{mean:12.3f} +- {spread:.3f} "
    assert line in page["printed"]


def test_writes_the_figure(page: dict[str, Any]) -> None:
    assert plt.imread(page["figure_path"]).shape[:2] == (528, 1650)
    assert f"{page['figure_path']}, " in page["printed"]


def test_de_admm_solves_the_equation_of_de_prox(page: dict[str, Any]) -> None:
    prox, admm = page["prox"], page["admm"]
    assert float(admm.params_algo["stepsize"][0]) == pytest.approx(
        prox.params_algo["stepsize"][0].item()
    )
    assert admm.prior[0].denoiser is prox.prior[0].denoiser
    assert f"{page['gap'].max():.1%} from DE-PROX at most" in page["printed"]
    converged = admm.solution.converged & prox.solution.converged
    assert (page["gap"].cpu()[converged] < 0.05).all()
    assert "asymmetry" in page["printed"]
