from __future__ import annotations

from typing import Any

import pytest

from .gallery_page import run_page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page."""
    return run_page("ideas/errors_in_papers", tmp_path_factory.mktemp("errors"))


def test_every_statement_is_violated_and_in_the_table(page: dict[str, Any]) -> None:
    lines = page["printed"].splitlines()
    for name, finding in page["findings"].items():
        if name == "strong convexity":
            assert finding.computed < 0.9 * finding.stated
        else:
            assert finding.computed > 1.05 * finding.stated
        ending = f"{finding.stated:8.3f} {finding.computed:9.3f}"
        assert any(line.startswith(finding.where) and ending in line for line in lines)


def test_corrected_bound_holds_and_the_stated_one_does_not(
    page: dict[str, Any],
) -> None:
    rows = zip(page["errors"], page["stated"], page["corrected"], strict=True)
    for restarts, (error, stated, corrected) in enumerate(rows, 1):
        assert error <= corrected * (1 + 1e-9)
        if restarts <= 4:
            assert error > stated
    assert page["errors"][0] == pytest.approx(11.2337, abs=1e-3)


def test_corrected_conditions_converge(page: dict[str, Any]) -> None:
    for curves in page["cases"].values():
        wrong, right = curves.values()
        assert wrong[-1] > wrong[0]
        assert right[-1] < right[0]


def test_constants_of_the_package_hold(page: dict[str, Any]) -> None:
    lower = page["spectrum"].lower
    assert lower.is_certified
    assert lower.value <= page["smallest"] * (1 + 1e-9)
    assert lower.value == pytest.approx(0.04)
    assert page["certified"].value >= page["true_norm"] > 2.9
    assert page["bound"] >= page["step_factor"]
    moves = page["de_grad"][r"$A^\top(Ax - d)$"]
    assert moves[1] / moves[0] <= page["gamma"] < 1
