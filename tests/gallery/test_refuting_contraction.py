from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from .gallery_page import run_page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run, without the denoisers that iterate."""
    folder = tmp_path_factory.mktemp("refuting_contraction")
    return run_page(
        "refuting_contraction", folder, STEPS=1, PIXELS=8, SEARCH=1, RIDGE={}
    )


def test_pair_of_each_network_has_the_quotient_that_is_found(
    page: dict[str, Any],
) -> None:
    for name, result in page["found"].items():
        network = copy.deepcopy(page["networks"][name]).double()
        with torch.no_grad():
            first, second = map(network, result.pair)
        quotient = (first - second).norm() / (result.pair[0] - result.pair[1]).norm()
        assert 0 < result.lower.value < quotient
        assert result.lower.value == pytest.approx(float(quotient), rel=1e-4)
        assert result.refuted == (result.lower.value > page["claims"][name])
        assert str(result) in page["printed"]


def test_bound_with_both_paths_is_above_the_claim_that_ignores_one(
    page: dict[str, Any],
) -> None:
    network, result = page["reinjected"], page["found"]["re-injection"]
    assert result.claimed == network.claimed() < 1
    assert network.claimed() < result.upper.value
    assert result.lower.value <= result.upper.value


def test_product_of_norms_of_reshaped_kernels_is_below_the_certified_bound(
    page: dict[str, Any],
) -> None:
    result = page["found"]["reshaped kernels"]
    assert result.upper.is_certified
    assert result.upper.value > 1
    for layer in page["networks"]["reshaped kernels"][::2]:
        norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert float(norm) == pytest.approx(1, abs=0.1)


def test_certified_denoisers_survive_and_the_table_has_their_ratios(
    page: dict[str, Any],
) -> None:
    rows = [line for line in page["printed"].splitlines() if line.endswith("survives")]
    assert len(rows) == len(page["table"]) - 1
    for name, result in page["table"].items():
        assert not result.refuted
        if result.claimed is not None:
            assert result.upper.is_certified
            assert result.ratio >= 1
            (row,) = (row for row in rows if row.startswith(f"{name} "))
            assert f"{result.ratio:.4f}" in row
    assert page["table"]["small DRUNet"].upper.is_vacuous
