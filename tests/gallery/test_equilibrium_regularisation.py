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

import deepinv_equilibrium as deq

SCRIPT = Path(__file__).parents[2] / "gallery" / "equilibrium_regularisation.py"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after a short run, what it printed, and its figure."""
    figure = tmp_path_factory.mktemp("regularisation") / "figure.png"
    arguments = ["--size", "16", "--levels", "4", "--seeds", "2"]
    arguments += ["--figure", str(figure)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(str(SCRIPT), run_name="__main__")
    plt.close("all")
    return names | {"figure_path": figure, "printed": printed.getvalue()}


def test_the_truth_fulfils_the_source_condition(page: dict[str, Any]) -> None:
    G, physics, truth = page["monotone"], page["physics"], page["truth"]
    with torch.no_grad():
        torch.testing.assert_close(
            G(truth), physics.A_adjoint(page["w"]), rtol=0, atol=1e-5
        )
    assert page["w_norm"] == pytest.approx(float(page["w"].norm()))
    assert truth.std() > 0.02


def test_noise_has_the_norm_and_the_frequencies_that_are_said(
    page: dict[str, Any],
) -> None:
    for kind in ("white", "worst"):
        e = page["noise"](kind, 0.3, 0.01)
        torch.testing.assert_close(
            e.flatten(1).norm(dim=1), torch.full((2,), 0.3).double()
        )
    energy = page["physics"].U_adjoint(e).abs().square()
    near = (page["eigenvalues"] / 0.01).log().abs() < 2
    assert (energy * near).sum() > 0.99 * energy.sum()


def test_bounds_hold_and_the_rates_are_seen(page: dict[str, Any]) -> None:
    assert (page["distances"] <= page["bounds"][:, None]).all()
    assert (page["errors"] <= page["error_bounds"][:, None]).all()
    results = page["results"]
    assert results["delta / ||w||, worst"]["rate"] > 0.9
    assert results["delta^2, worst"]["rate"] < 0.3
    certificate = page["certificate"]
    assert certificate.stability.kind is deq.certificates.Kind.CERTIFIED
    assert results["stability"]["observed"] <= certificate.stability.value


def test_prints_what_was_computed_and_writes_the_figure(page: dict[str, Any]) -> None:
    rate = page["results"]["delta / ||w||, white"]["rate"]
    assert f"delta / ||w||  white  {rate:5.2f}" in page["printed"]
    assert plt.imread(page["figure_path"]).shape[:2] == (704, 1210)
