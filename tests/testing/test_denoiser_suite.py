"""The denoisers keep the contracts, and wrong ones do not."""

from __future__ import annotations

import math
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

from deepinv_equilibrium import plugins, testing
from deepinv_equilibrium.certificates import Bound
from deepinv_equilibrium.models import ConvexPotentialDenoiser

from ..one_test import in_one_test
from .named_components import DOWNLOADED, create

NAMES = [name for name in plugins.names("denoisers") if name not in DOWNLOADED]
TINY = {"pretrained": None, "generators": 1, "kernel_size": 3}


def arguments(channels: int) -> dict[str, dict[str, Any]]:
    """Arguments of the denoisers: few filters, where the bundled weights need many
    iterations."""
    torch.manual_seed(0)
    return {
        "bounded-dncnn": {"in_channels": channels, "depth": 4, "filters": 6},
        "convex-potential": {"in_channels": channels},
        "ridge-prox": {
            "in_channels": channels,
            "smoothness": 2.0,
            "hidden_channels": (),
            **TINY,
        },
        "small-drunet": {"in_channels": channels},
        # No float32 result meets this tolerance.
        "weighted-tv": {"tol": 1e-6, "on_failure": "ignore"},
    }


# Accuracy of those that iterate.
RTOL = {"ridge-prox": 1e-8, "weighted-tv": 1e-3}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_named_denoiser_keeps_the_contracts(name: str, channels: int) -> None:
    denoiser = create("denoisers", name, arguments(channels))
    size = (channels, 2, 3) if name in RTOL else (channels, 5, 6)
    report = testing.check_denoiser(denoiser, size, rtol=RTOL.get(name, 0.0))
    certified = report.notes["respects_its_lipschitz_bound"] == "holds"
    assert certified == (name != "small-drunet")


@pytest.mark.parametrize(
    "denoiser",
    [
        ConvexPotentialDenoiser(1, firmly_nonexpansive=True),
        ConvexPotentialDenoiser(1, contraction=0.8, layers=2, **TINY),
    ],
    ids=["firm", "contraction"],
)
def test_declared_constants_are_checked(denoiser: dinv.models.Denoiser) -> None:
    testing.check_denoiser(denoiser, (1, 3, 3))


def test_large_images_are_checked_by_a_power_iteration() -> None:
    denoiser = ConvexPotentialDenoiser(1, firmly_nonexpansive=True)
    report = testing.check_denoiser(denoiser, (1, 12, 13))
    assert "is_firmly_nonexpansive_as_declared" in report.held


class Stretch(dinv.models.Denoiser):
    r""":math:`x \mapsto s\,x` plus a small bend, wrong in one way."""

    def __init__(self, wrong: str = "", scale: float = 0.9) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))
        self.wrong = wrong

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        level = torch.as_tensor(sigma, dtype=x.dtype)
        if level.ndim and self.wrong != "broadcasts noise levels":
            level = level.reshape(-1, 1, 1, 1)
        if self.wrong == "uses the first noise level":
            level = level.flatten()[0]
        if self.wrong == "changes its input":
            x.mul_(0.5)
        result = self.scale * x + 0.01 * torch.sin(level * x)
        if self.wrong == "couples samples":
            result = result + 1e-6 * x.mean()
        if self.wrong == "stretches one direction":
            weight = torch.zeros_like(x[0])
            weight[0, 1, 1], weight[0, 1, 2] = 1.0, -1.0
            result = result + 0.5 * weight * (weight * x).sum((1, 2, 3), True)
        if self.wrong == "returns float32":
            result = result.float()
        if self.wrong == "detaches":
            result = result.detach() + 0.5 * (result - result.detach())
        if self.wrong == "crops":
            result = result[..., 1:]
        return result

    def lipschitz_bound(self, img_size: Any = None) -> Bound:
        return Bound(0.95, source="declared")

    def residual_bound(self, img_size: Any = None) -> Bound:
        value = 0.05 if self.wrong == "declares a small residual" else 0.2
        return Bound(value, source="declared")

    @property
    def is_firmly_nonexpansive(self) -> bool:
        return self.wrong == "declares to be firm"


@in_one_test(
    ("wrong", "contract", "message"),
    [
        ("stretches one direction", "respects_its_lipschitz_bound", "more than 0.95"),
        ("declares a small residual", "respects_its_residual_bound", "D - I at sigma"),
        ("uses the first noise level", "takes_noise_levels_of_every_form", "differ"),
        (
            "broadcasts noise levels",
            "takes_noise_levels_of_every_form",
            "raise|diff",
        ),
        ("couples samples", "keeps_samples_apart", "image 0 alone differs"),
        ("returns float32", "returns_images", "in torch.float64 give torch.float32"),
        ("crops", "returns_images", "images of shape .* give"),
        ("changes its input", "returns_images", "changed in place"),
        ("detaches", "has_the_derivative_of_its_values", "in a random direction"),
    ],
)
@in_one_test("size", [(1, 5, 4), (1, 7, 9)])
def test_wrong_denoiser_breaks_its_contract(
    wrong: str, contract: str, message: str, size: tuple[int, ...]
) -> None:
    assert testing.denoiser_contracts()[contract](Stretch(), size) == "holds"
    with pytest.raises(testing.ContractError, match=message) as caught:
        testing.check_denoiser(Stretch(wrong), size)
    assert caught.value.contract == contract


def test_false_declaration_of_firm_nonexpansiveness_is_found() -> None:
    # Averaged with a rotation, which is nonexpansive.
    denoiser = Stretch("declares to be firm", scale=-0.9)
    with pytest.raises(testing.ContractError, match=r"2 D - I at sigma = 0\.005 moves"):
        testing.check_denoiser(denoiser, (1, 4, 4))


def test_given_bound_is_checked_in_the_place_of_the_declared_one() -> None:
    contract = testing.denoiser_contracts()["respects_its_lipschitz_bound"]
    assert contract(Stretch(scale=1.5), (1, 4, 4), bound=1.52) == "holds"
    with pytest.raises(testing.ContractError, match=r"more than 0\.8 \(given as bound"):
        contract(Stretch(), (1, 4, 4), bound=0.8)
    assert contract(Stretch(), (1, 4, 4), bound=math.inf) == "holds"


def test_denoiser_without_a_bound_is_reported() -> None:
    report = testing.check_denoiser(dinv.models.MedianFilter(), (1, 9, 9))
    note = report.notes["respects_its_lipschitz_bound"]
    assert note.startswith("does not apply: a MedianFilter cannot be certified")


def test_arguments_that_are_wrong_are_named() -> None:
    with pytest.raises(TypeError, match="denoiser must be a deepinv"):
        testing.check_denoiser(torch.nn.Identity(), (1, 4, 4))
    with pytest.raises(ValueError, match=r"sigma must be positive .* got 0.0"):
        testing.check_denoiser(Stretch(), (1, 4, 4), sigma=0.0)
    with pytest.raises(TypeError, match="img_size must be a tuple"):
        testing.check_denoiser(Stretch(), 4)


class Scaled(dinv.models.Denoiser):
    """A matrix times 2, which declares to be a proximal operator."""

    def __init__(self, matrix: Tensor, convexity: float) -> None:
        super().__init__()
        self.register_buffer("matrix", 2 * matrix)
        self.convexity = convexity

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        return (x.flatten(1) @ self.matrix.to(x).T).reshape(x.shape)

    def convexity_bound(self, img_size: tuple[int, ...]) -> Bound:
        return Bound(self.convexity, is_lower=True)


@pytest.mark.parametrize(
    ("name", "convexity", "message"),
    [
        ("symmetric", -0.5, None),
        ("symmetric", -0.4, r"2 \(1 \+ m\) D - I at"),
        ("indefinite", -0.5, r"2 \(1 \+ m\) D - I at"),
        ("rotation", -0.5, "the Jacobian is not symmetric"),
    ],
)
def test_declared_proximal_operator_is_one(
    name: str, convexity: float, message: str | None
) -> None:
    eye = torch.eye(4, dtype=torch.float64)
    swap = eye[[1, 0, 3, 2]]
    turned = torch.zeros_like(eye)
    turned[0, 1], turned[1, 0] = 0.5, -0.5
    matrix = {
        "symmetric": (eye + swap) / 2,
        "indefinite": swap,
        "rotation": 0.5 * eye + turned / 2,
    }[name]
    contract = testing.denoiser_contracts()["is_a_proximal_operator_as_declared"]
    denoiser = Scaled(matrix, convexity)
    if message is None:
        assert contract(denoiser, (1, 2, 2)) == "holds"
        return
    with pytest.raises(testing.ContractError, match=message):
        contract(denoiser, (1, 2, 2))
