from __future__ import annotations

import math
from typing import Any

import pytest

from .gallery_page import run_page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page with a small photo and a short search."""
    folder = tmp_path_factory.mktemp("certified_estimated_observed")
    return run_page(
        "ideas/certified_estimated_observed", folder, SIZE=12, SEARCH=2, STEPS=25
    )


def test_constant_is_between_the_certified_bounds(page: dict[str, Any]) -> None:
    for row in page["numbers"].values():
        assert row["certified lower bound"] <= row["certified upper bound"]
        for name in ("estimate, power iteration", "observed"):
            assert row[name] <= row["certified upper bound"] * (1 + 1e-9)
        assert row["estimate, power iteration"] <= row["estimate, Lanczos"]
        assert row["observed"] <= row["certified lower bound"] + 0.05


def test_estimates_of_the_drunet_hide_that_it_expands(page: dict[str, Any]) -> None:
    row = page["numbers"]["small DRUNet"]
    assert row["certified upper bound"] == math.inf
    assert row["observed"] < 1 < row["certified lower bound"]
    assert row["estimate, Lanczos"] < row["certified lower bound"]


def test_table_has_every_number(page: dict[str, Any]) -> None:
    for row in page["styles"]:
        line = next(
            line for line in page["printed"].splitlines() if line.startswith(row)
        )
        expected = [f"{values[row]:.4f}" for values in page["numbers"].values()]
        assert line.split()[-3:] == expected


def test_each_model_has_its_property_and_keeps_it(page: dict[str, Any]) -> None:
    properties = [c.convergence for c in page["certificates"].values()]
    assert [str(p) for p in properties] == ["contracts", "converges", "decreases"]
    assert all(bool(holds.all()) for holds in page["kept"].values())
    assert page["printed"].count(": True") == 3
    assert float(page["falls"].min()) > 0
    contracting = page["certificates"]["contracting denoiser"]
    assert contracting.contracts
    assert contracting.rate.is_certified
    assert not page["certificates"]["averaged denoiser"].contracts
