from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

import deepinv_equilibrium as deq

from .gallery_page import run_page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("adaptation")
    settings = {"STEPS": 3, "UNROLLED_STEPS": 2, "ADAPT_STEPS": 10, "SIZE": 16}
    with warnings.catch_warnings():
        # So few steps do not converge.
        warnings.simplefilter("ignore", deq.ConvergenceWarning)
        return run_page("adaptation", folder, **settings)


def test_update_parameters_computes_the_filter_from_the_width(
    page: dict[str, Any],
) -> None:
    blur = page["GaussianBlur"](1.0, 16, 0)
    width = torch.tensor(1.5, requires_grad=True)
    blur.update_parameters(width=width)
    x = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(blur.A(x), page["GaussianBlur"](1.5, 16, 0).A(x))
    (gradient,) = torch.autograd.grad(blur.A(x).square().sum(), width)
    assert gradient != 0


def test_results_hold_the_psnr_of_the_images(page: dict[str, Any]) -> None:
    for name, image in page["images"].items():
        expected = page["psnr"](image, page["truth"]).mean().item()
        assert page["results"][name]["PSNR"] == pytest.approx(expected)
        assert f"{name:24s}{expected:7.2f} PSNR" in page["printed"]
    for name in ("network", "unrolled"):
        adapted = page["adapted"][name]
        trained, other = page["models"][name], page["oracles"][name]
        pairs = zip(trained.parameters(), adapted.model.parameters(), strict=True)
        moved = sum(float((p - q).detach().square().sum()) for p, q in pairs)
        assert moved == pytest.approx(float(adapted.penalty[adapted.kept]), rel=1e-3)
        assert any(
            not torch.equal(p, q)
            for p, q in zip(trained.parameters(), other.parameters(), strict=True)
        )


def test_only_the_unrolled_model_depends_on_the_physics(
    page: dict[str, Any],
) -> None:
    images = page["images"]
    assert torch.equal(images["network, old operator"], images["network, naive"])
    assert not torch.equal(images["unrolled, old operator"], images["unrolled, naive"])
