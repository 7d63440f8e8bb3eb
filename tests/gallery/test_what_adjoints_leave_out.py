from __future__ import annotations

from typing import Any

import pytest
import torch

from .gallery_page import run_page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page with two ridges."""
    folder = tmp_path_factory.mktemp("what_adjoints_leave_out")
    return run_page(
        "ideas/what_adjoints_leave_out", folder, KAPPAS=(1.0, 0.1), DRAWS=300
    )


def test_series_approaches_the_exact_solution(page: dict[str, Any]) -> None:
    errors = [
        page["relative_error"](value, page["exact_v"])
        for value in page["sums"].values()
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-2


def test_jacobian_free_keeps_one_pixel(page: dict[str, Any]) -> None:
    spike = page["sums"][0]
    assert spike.nonzero().tolist() == [[page["pixel"]]]
    assert int((page["exact_v"] > 1e-3 * page["exact_v"].max()).sum()) > 20


def test_steps_of_jacobian_free_are_terms_of_the_series(page: dict[str, Any]) -> None:
    step, fixed = page["step"], page["fixed"]
    cotangent = (fixed - page["truth"]).flatten()
    total = torch.zeros_like(cotangent)
    for _ in range(5):
        total = cotangent + page["jacobian"].T @ total
    expected = torch.autograd.grad(
        step(fixed), page["theta"], total.reshape(fixed.shape)
    )[0]
    found = page["gradients"]["JacobianFree(5)"][-1]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_implicit_gradient_is_that_of_the_exact_jacobian(page: dict[str, Any]) -> None:
    for name, limit in {"Implicit()": 5e-3, "JacobianFree()": 1.0}.items():
        for value, exact in zip(page["gradients"][name], page["exact"], strict=True):
            assert page["relative_error"](value, exact) < limit


def test_errors_grow_with_the_rate_and_shrink_with_the_order(
    page: dict[str, Any],
) -> None:
    assert page["rates"] == sorted(page["rates"])
    names = ("JacobianFree()", "JacobianFree(5)", "ReTune(10, 10)", "Neumann(20)")
    for measure in (page["relative_error"], page["angle"]):
        table = [
            [
                measure(*pair)
                for pair in zip(page["gradients"][name], page["exact"], strict=True)
            ]
            for name in names
        ]
        assert all(row == sorted(row) for row in table)
        assert [row[-1] for row in table] == sorted(
            (row[-1] for row in table), reverse=True
        )


def test_sign_of_one_parameter_may_be_wrong(page: dict[str, Any]) -> None:
    for rate, scalars in page["signs"].items():
        assert scalars[0] * scalars[1] < 0
        line = next(
            row
            for row in page["printed"].splitlines()
            if row.startswith(f"{rate:.3f}      ")
        )
        assert "wrong sign" in line
    for kind in ("orthogonal", "symmetric"):
        values = [page["frequencies"][kind, rate] for rate in (0.5, 0.9, 0.99)]
        assert values == sorted(values)
        assert values[0] > 0
