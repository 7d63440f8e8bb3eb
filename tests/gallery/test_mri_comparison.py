from __future__ import annotations

from typing import Any

import pytest
import torch

import deepinv_equilibrium as deq

from .gallery_page import run_page

METHODS = ["zero-filled", "TV", "PnP", "DU-PROX", "DE-PROX", "DE-GRAD"]
LEARNED = METHODS[3:]
STEPS, LAYERS, SIZE = 1, 2, 16


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("mri_comparison")
    return run_page(
        "mri_comparison",
        folder,
        DENOISER_STEPS=2,
        STEPS=STEPS,
        LAYERS=LAYERS,
        SIZE=SIZE,
        TV_ITERATIONS=30,
    )


def test_mask_has_a_quarter_of_the_coefficients_and_the_centre(
    page: dict[str, Any],
) -> None:
    mask = page["mask"]
    assert mask.mean().item() == pytest.approx(0.25)
    assert mask[SIZE // 2 - 1 : SIZE // 2 + 1, SIZE // 2 - 1 : SIZE // 2 + 1].all()


def test_training_images_differ_from_test_and_validation(page: dict[str, Any]) -> None:
    trained = torch.stack(page["training"])
    for image in (*page["truth"], *page["validation"]):
        assert (trained - image).flatten(1).norm(dim=1).min() > 0.1
    assert page["magnitude"](page["truth"]).max() <= 1 + 1e-6


def test_train_changes_copies_of_the_denoiser(page: dict[str, Any]) -> None:
    start = page["denoiser"].state_dict()
    for name in ("DU-PROX", "DE-PROX"):
        learned = page["models"][name].prior[0].denoiser.state_dict()
        assert learned.keys() == start.keys()
        assert any(not torch.equal(learned[key], start[key]) for key in start)
    assert page["models"]["PnP"].prior[0].denoiser is page["denoiser"]


def test_tv_and_pnp_are_the_best_on_validation_images(page: dict[str, Any]) -> None:
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


def test_certify_proves_a_rate_for_de_grad_only(page: dict[str, Any]) -> None:
    physics = page["physics"]
    rate = deq.certify(page["certified"], physics, (2, SIZE, SIZE)).rate
    assert rate.is_certified
    assert page["results"]["DE-GRAD"]["rate"] == pytest.approx(rate.value)
    assert rate.value < 1
    other = deq.certify(page["models"]["DE-PROX"], physics, (2, SIZE, SIZE))
    assert not other.contracts


def test_results_hold_the_measures_of_the_images(page: dict[str, Any]) -> None:
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


def test_unrolled_model_equals_its_plain_iteration(page: dict[str, Any]) -> None:
    row = page["results"]["DU-PROX"]
    mean = (row["PSNR slice"] + 3 * row["PSNR phantoms"]) / 4
    assert row[f"PSNR after {LAYERS}"] == pytest.approx(mean, abs=1e-4)
    assert {f"PSNR after {n}" for n in (1, LAYERS, 2 * LAYERS, 10 * LAYERS)} <= set(row)


def test_de_admm_solves_the_equation_of_de_prox(page: dict[str, Any]) -> None:
    prox, admm = page["prox"], page["admm"]
    assert float(admm.params_algo["stepsize"][0]) == pytest.approx(
        prox.params_algo["stepsize"][0].item()
    )
    assert admm.prior[0].denoiser is prox.prior[0].denoiser
    assert f"at most {page['gap'].max():.1%} from DE-PROX" in page["printed"]
    converged = admm.solution.converged & prox.solution.converged
    assert (page["gap"].cpu()[converged] < 0.05).all()
    assert "asymmetry" in page["printed"]
