from __future__ import annotations

from typing import Any

import pytest

from deepinv_equilibrium.certificates import Kind

from .gallery_page import run_page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("gradient_accuracy")
    return run_page(
        "gradient_accuracy",
        folder,
    )


def test_certified_bounds_exceed_the_errors(page: dict[str, Any]) -> None:
    exactness = page["exact"].a_posteriori
    assert exactness.is_certified
    for rows in page["measurements"].values():
        for row in rows:
            assert row.bounds.kind is Kind.CERTIFIED
            bound = row.bounds.a_posteriori.value + exactness.value
            assert row.error <= bound
            for theorem in ("Theorem 2", "Corollary 1"):
                if theorem in row.bounds.a_priori:
                    assert row.error <= row.bounds.a_priori[theorem].value
    for plan, error in page["planned"].values():
        assert plan.kind is Kind.CERTIFIED
        assert error <= plan.error.value + exactness.value
        assert plan.error.value <= plan.tolerance


def test_errors_costs_and_bounds_compare_as_the_page_says(page: dict[str, Any]) -> None:
    rows, gradient = page["measurements"], page["exact"].gradient_norm
    jfb, ten, layers = rows["JFB"], rows["ReTune(10, T)"], rows["ReTune(K, 3)"]
    for row in jfb[1:]:
        assert row.error / gradient == pytest.approx(0.15, abs=0.005)
    assert all(row.error >= 0.99 * jfb[-1].error for row in rows["SHINE"])
    K10, K20, K30 = layers[2:]
    assert K10.error / gradient == pytest.approx(3e-4, rel=0.2)
    assert 1e2 < K10.error / K20.error < 1e3
    assert 1e2 < K20.error / K30.error < 1e3
    implicit, neumann = rows["implicit"][4], rows["Neumann"][3]
    for row in (implicit, neumann, K20):
        assert row.error / gradient < 1.01e-6
    assert K20.cost == pytest.approx(4 * implicit.cost, rel=0.1)
    assert neumann.cost == pytest.approx(2 * implicit.cost, rel=0.1)

    def looseness(row: Any) -> float:
        return row.bounds.a_posteriori.value / row.error

    for row in (*jfb[3:], *ten[2:], *layers[2:]):
        assert 9 < looseness(row) < 30
    for row in (*rows["Neumann"], *rows["implicit"]):
        assert looseness(row) > 1000
    assert K20.bounds.a_priori["Theorem 2"].value > gradient
    assert K30.bounds.a_priori["Theorem 2"].value < gradient
    assert K20.bounds.a_posteriori.value / gradient < 1e-5


def test_estimated_bounds_are_not_printed_as_certified(page: dict[str, Any]) -> None:
    estimated = page["estimated"]
    assert estimated.kind is Kind.ESTIMATED
    for text in (str(estimated.a_posteriori), str(estimated.from_forward)):
        assert "certified" not in text
        assert text in page["printed"]
    for name in (
        "Lipschitz constant of the Jacobian",
        "Lipschitz constant of the parameter Jacobian",
    ):
        assert estimated.terms[name].value < page["solved"].terms[name].value
