from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from deepinv_equilibrium import Status

from .gallery_page import run_page

ROWS = ("defaults", "(b)", "control", "(c)")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("quickstart")
    return run_page(
        "quickstart",
        folder,
        LAYERS=2,
        RESTARTS=2,
        STEPS_B=2,
        STEPS_C=1,
        SIZE=32,
        CROP=32,
    )


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([w.flatten() for w in model.prior.parameters()])


def test_each_model_learns_its_parameters_only(page: dict[str, Any]):
    defaults, b, control, c = (page["models"][name] for name in ROWS)
    for name in ("stepsize", "g_param"):
        values = [m.params_algo[name][0].item() for m in (defaults, b, control, c)]
        assert len(set(values[:3])) == 3  # (b) learns them, and the control goes on
        assert values[3] == values[1]
    assert torch.equal(weights(b), weights(defaults))
    assert torch.equal(weights(control), weights(defaults))
    assert not torch.equal(weights(c), weights(defaults))


def test_train_limits_the_step_size(page: dict[str, Any]):
    model = page["build"](page["denoiser"], restarts=1)
    parameters = list(model.params_algo.parameters())
    page["train"](model, parameters, lr=1.0, steps=1, seed=0)
    # One step of Adam would reach exp(1).
    assert math.isclose(model.params_algo["stepsize"][0].item(), 1.8, rel_tol=1e-6)


def test_restore_reports_every_photo(page: dict[str, Any]):
    assert page["photos"].names == ("chelsea", "retina", "coins", "moon", "page")
    for name in ROWS:
        for restarts, (restored, solution) in (
            (2, page["at_t"][name]),
            (8, page["at_4t"][name]),
        ):
            assert restored.shape == (5, 3, 32, 32)
            assert solution.status == (Status.COMPLETED,) * 5
            assert solution.evaluations.tolist() == [restarts] * 5
            assert solution.history.shape == (restarts, 5)


def test_page_prints_the_psnr_of_its_images(page: dict[str, Any]):
    rows = {
        name: line.split()[1:]
        for line in page["printed"].splitlines()
        for name in ("degraded", *ROWS)
        if line.startswith(f"{name} ")
    }
    truth, images = page["truth"], {"degraded": [page["measured"]]}
    for name in ROWS:
        images[name] = [page["at_t"][name][0], page["at_4t"][name][0]]
    for name, restored in images.items():
        errors = [(x - truth).square().mean((1, 2, 3)) for x in restored]
        psnr = [-10 * error.log10().mean().item() for error in errors]
        printed = [float(value) for value in rows[name][: len(psnr)]]
        assert printed == pytest.approx(psnr, abs=6e-3)
    assert str(page["at_4t"]["(c)"][1]) in page["printed"]
