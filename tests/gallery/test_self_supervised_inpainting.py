from __future__ import annotations

from typing import Any

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq

from .gallery_page import run_page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("self_supervised_inpainting")
    return run_page(
        "self_supervised_inpainting", folder, STEPS=2, SIZE=16, COUNT=4, LARGE=24
    )


def test_self_supervised_trainings_see_measurements_only(page: dict[str, Any]) -> None:
    for name in ("implicit", "Jacobian-free"):
        _, data, losses = page["TRAININGS"][name]
        assert all(set(sample) == {"y"} for sample in data)
        assert [type(loss) for loss in losses] == [
            dinv.loss.MCLoss,
            dinv.loss.EILoss,
        ]


def test_training_is_better_than_the_random_weights_from_which_it_starts(
    page: dict[str, Any],
) -> None:
    results = page["results"]
    for name in page["TRAININGS"]:
        assert results[name]["PSNR"] > results["untrained"]["PSNR"]
    assert results["untrained"]["PSNR"] > results["masked"]["PSNR"] + 5
    assert f"{results['implicit']['PSNR']:8.2f}" in page["printed"]


def test_each_training_has_its_gradient_and_the_certificate(
    page: dict[str, Any],
) -> None:
    for name, (adjoint, *_) in page["TRAININGS"].items():
        model = page["models"][name]
        assert model.DEQ.adjoint == adjoint
        certificate = deq.certify(model, page["physics"], (1, 24, 24))
        assert certificate.rate.value < 0.951
    weights = [
        torch.cat([p.flatten() for p in page["models"][name].parameters()])
        for name in ("implicit", "Jacobian-free", "supervised")
    ]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
