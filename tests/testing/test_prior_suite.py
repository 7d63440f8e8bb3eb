"""The priors keep the contracts, and wrong ones do not."""

from __future__ import annotations

from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

from deepinv_equilibrium import plugins, testing
from deepinv_equilibrium.certificates import Bound, Interval

from ..one_test import in_one_test
from .named_components import create, small_denoiser, softplus_network

SIZES = {1: (1, 3, 4), 3: (3, 2, 2)}


def arguments(channels: int) -> dict[str, dict[str, Any]]:
    """Arguments of the priors."""
    torch.manual_seed(0)
    # Fixed weights, whose filters are normalised once.
    denoiser = small_denoiser(channels).requires_grad_(False)
    small_ridge: dict[str, Any] = {
        "pretrained": None,
        "smoothness": 2.0,
        "hidden_channels": (),
        "generators": 2,
        "kernel_size": 3,
    }
    return {
        "channelwise": {
            "prior": create(
                "priors", "ridge-regulariser", {"ridge-regulariser": small_ridge}
            )
        },
        "network-residual": {"denoiser": denoiser},
        "red": {"denoiser": denoiser},
        "ridge-regulariser": {"in_channels": channels, **small_ridge},
        "scalar-network": {"network": softplus_network(channels)},
        "smoothed-tv": {"smoothing": 0.1},
        "weighted-tv": {"tol": 1e-7},
        "weighted-wavelet": {
            "channels": None if channels == 1 else channels,
            "levels": 2,
            "wavelet": "db2",
        },
    }


# What is said of each: what its methods take, convexity, accuracy of prox.
NOISE_LEVEL = {"parameters": (0.1,)}
DECLARED: dict[str, dict[str, Any]] = {
    "channelwise": {**NOISE_LEVEL, "convex": True, "rtol": 1e-8},
    "network-residual": NOISE_LEVEL,
    "nonnegative-tikhonov": {"convex": True},
    "nonnegativity": {"convex": True},
    "red": NOISE_LEVEL,
    "ridge-regulariser": {**NOISE_LEVEL, "convex": True, "rtol": 1e-8},
    "smoothed-tv": {"convex": True, "rtol": 1e-9},
    "weighted-tv": {**NOISE_LEVEL, "convex": True, "rtol": 3e-4},
    "weighted-wavelet": {"convex": True},
}


# The priors on total variation treat the channels of an image apart.
CASES = [
    (name, channels)
    for name in plugins.names("priors")
    for channels in ((1,) if name in ("smoothed-tv", "weighted-tv") else (1, 3))
]


@pytest.mark.parametrize(("name", "channels"), CASES)
def test_named_prior_keeps_the_contracts(name: str, channels: int) -> None:
    prior = create("priors", name, arguments(channels))
    declared = DECLARED.get(name, {})
    report = testing.check_prior(prior, SIZES[channels], **declared)
    if declared.get("convex"):
        assert "has_the_minimising_prox" in report.held


@pytest.mark.parametrize(
    "prior",
    [dinv.optim.Tikhonov(), dinv.optim.L1Prior(), dinv.optim.ZeroPrior()],
    ids=lambda prior: type(prior).__name__,
)
def test_prior_of_deepinv_keeps_the_contracts(prior: dinv.optim.Prior) -> None:
    report = testing.check_prior(prior, (3, 3, 4), convex=True)
    assert "has_the_minimising_prox" in report.held


def test_what_a_prior_lacks_or_refuses_is_reported() -> None:
    notes = testing.check_prior(
        dinv.optim.PnP(small_denoiser()), (1, 4, 4), parameters=(0.1,)
    ).notes
    assert notes["has_the_minimising_prox"].endswith("(explicit_prior=False)")
    assert notes["meets_the_optimality_condition"].endswith("does not define grad")
    assert notes["keeps_samples_apart"] == "holds"
    tv = plugins.create("priors", "weighted-tv")
    notes = testing.check_prior(tv, (1, 4, 4), parameters=(0.1,), rtol=1e-2).notes
    assert "grad is refused: total variation has no" in (
        notes["has_the_gradient_of_its_values"]
    )


class Quadratic(dinv.optim.Prior):
    r""":math:`g(x) = \tfrac12 \sum_i w_i x_i^2`, wrong in one way."""

    def __init__(self, wrong: str = "") -> None:
        super().__init__()
        self.explicit_prior = True
        self.wrong = wrong

    def weight(self, x: Tensor) -> Tensor:
        size = x[0].numel()
        return torch.linspace(0.5, 2.0, size).to(x).reshape(x.shape[1:])

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        energy = 0.5 * (self.weight(x) * x.square()).flatten(1).sum(dim=1)
        if self.wrong == "sums samples":
            return energy.sum()
        if self.wrong == "is concave":
            return -0.1 * energy
        return energy

    def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        gradient = self.weight(x) * x
        if self.wrong == "has twice the gradient":
            return 2 * gradient
        if self.wrong == "is concave":
            return -0.1 * gradient
        if self.wrong == "couples samples":
            return gradient + 1e-3 * x.mean()
        return gradient

    def prox(
        self, x: Tensor, *args: Any, gamma: float | Tensor = 1.0, **kwargs: Any
    ) -> Tensor:
        if self.wrong == "forgets gamma":
            gamma = 1.0
        if self.wrong == "has a weight that is 1 % too large":
            gamma = 1.01 * gamma
        if self.wrong == "averages gamma" and isinstance(gamma, Tensor):
            gamma = gamma.mean()
        denominator = 1 + gamma * self.weight(x)
        if self.wrong == "steps along the gradient":
            return x - gamma * self.grad(x)
        if self.wrong == "is concave":
            denominator = 1 - 0.1 * gamma * self.weight(x)
        result = x / denominator
        if self.wrong == "detaches":
            return result.detach() + 0.5 * (result - result.detach())
        return result

    def gradient_bounds(self, img_size: Any) -> Interval:
        upper = 1.5 if self.wrong == "declares a small curvature" else 2.0
        return Interval(Bound(0.5, is_lower=True), Bound(upper, source="declared"))

    def lipschitz_bound(self, img_size: Any) -> Bound:
        value = 0.3 if self.wrong == "declares a small bound of prox" else 1 / 1.5
        return Bound(value, source="declared")


@in_one_test(
    ("wrong", "contract", "message"),
    [
        ("sums samples", "returns_one_number_a_sample", r"has shape \(\), not"),
        ("has twice the gradient", "has_the_gradient_of_its_values", "grad in a rand"),
        ("has twice the gradient", "meets_the_optimality_condition", "gamma grad"),
        ("forgets gamma", "has_the_minimising_prox", "is not the minimiser"),
        (
            "has a weight that is 1 % too large",
            "has_the_minimising_prox",
            "is not the minimiser",
        ),
        ("steps along the gradient", "has_the_minimising_prox", "not the minimiser"),
        ("averages gamma", "takes_a_weight_for_each_sample", "a gamma of its own"),
        ("couples samples", "keeps_samples_apart", "grad of image 0"),
        ("is concave", "is_convex_as_declared", "exceeds the mean of both"),
        ("declares a small curvature", "respects_its_gradient_bounds", "more than 1.5"),
        ("declares a small bound of prox", "respects_its_prox_bounds", "more than 0.3"),
        ("detaches", "has_the_derivative_of_its_prox", "the derivative of prox"),
    ],
)
@in_one_test("convex", [False, True])
def test_wrong_prior_breaks_its_contract(
    wrong: str, contract: str, message: str, convex: bool
) -> None:
    arguments = {"img_size": (2, 3, 4), "convex": convex or wrong == "is concave"}
    check = testing.prior_contracts()[contract]
    assert check(Quadratic(), **arguments) == "holds"
    with pytest.raises(testing.ContractError, match=message) as caught:
        check(Quadratic(wrong), **arguments)
    assert caught.value.contract == contract


class L1(dinv.optim.L1Prior):
    """The norm with the soft threshold of another weight."""

    def prox(self, x: Tensor, *args: Any, gamma: Any = 1.0, **kwargs: Any) -> Tensor:
        return super().prox(x, gamma=1.1 * gamma)


@pytest.mark.parametrize("convex", [False, True])
def test_soft_threshold_of_the_wrong_weight_is_not_the_minimiser(convex: bool) -> None:
    with pytest.raises(testing.ContractError, match=r"gamma=0\.3.* not the minimiser"):
        testing.check_prior(L1(), (1, 4, 4), convex=convex)


def test_what_is_not_a_prior_is_refused_with_a_remedy() -> None:
    with pytest.raises(TypeError, match=r"deepinv\.optim\.PnP\(denoiser\)"):
        testing.check_prior(small_denoiser(), (1, 4, 4))
