"""The physics keep the contracts, and wrong ones do not."""

from __future__ import annotations

from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from deepinv_equilibrium import plugins, testing
from deepinv_equilibrium.certificates import Bound, Interval
from deepinv_equilibrium.physics import ChannelwiseBlur, DynamicMultiCoilMRI

from ..one_test import in_one_test
from .named_components import blur, create

ARGUMENTS: dict[str, dict[str, Any]] = {
    "channelwise-blur": {},
    "dynamic-mri": {"img_size": (2, 3, 6, 8), "coils": 2, "acceleration": 2},
}
SIZES = {"channelwise-blur": (3, 25, 26), "dynamic-mri": (2, 3, 6, 8)}


@pytest.mark.parametrize("name", plugins.names("physics"))
def test_named_physics_keeps_the_contracts(name: str) -> None:
    testing.check_physics(create("physics", name, ARGUMENTS), SIZES[name])


@pytest.mark.parametrize(
    "padding", ["circular", "replicate", "reflect", "constant", "valid"]
)
@pytest.mark.parametrize("batch", [1, 2])
def test_blur_with_signed_kernels_keeps_the_contracts(padding: str, batch: int) -> None:
    kernels = torch.rand(batch, 3, 3, 3) - 0.2
    testing.check_physics(ChannelwiseBlur(kernels, padding=padding), (3, 5, 6))


def test_mri_with_maps_and_masks_for_a_batch_keeps_the_contracts() -> None:
    maps = torch.randn(2, 3, 5, 4, dtype=torch.complex64)
    mask = (torch.rand(2, 1, 2, 5, 4) > 0.4).float()
    testing.check_physics(DynamicMultiCoilMRI(mask, coil_maps=maps), (2, 2, 5, 4))


PHYSICS = {
    "blur": (blur((1, 6, 7)), (1, 6, 7)),
    "inpainting": (dinv.physics.Inpainting((1, 5, 5), mask=0.5), (1, 5, 5)),
    "denoising": (dinv.physics.Denoising(), (2, 4, 4)),
    "mri": (
        dinv.physics.MRI(mask=torch.eye(6), img_size=(6, 6)),
        (2, 6, 6),
    ),
    "stack": (
        dinv.physics.StackedLinearPhysics([dinv.physics.Denoising(), blur((1, 5, 6))]),
        (1, 5, 6),
    ),
    "tomography": (
        dinv.physics.Tomography(
            angles=5, img_width=7, normalize=True, adjoint_via_backprop=True
        ),
        (1, 7, 7),
    ),
}


@pytest.mark.parametrize("name", PHYSICS)
def test_physics_of_deepinv_keeps_the_contracts(name: str) -> None:
    physics, img_size = PHYSICS[name]
    contracts = testing.physics_contracts()
    if name == "stack":  # deepinv's iteration warns of lists
        del contracts["has_the_least_squares_prox"]
    for contract in contracts.values():
        assert contract(physics, img_size) == "holds"


class Weighting(LinearPhysics):
    """Multiply by weights and shift by a column, wrong in one way."""

    def __init__(self, wrong: str = "") -> None:
        super().__init__()
        self.wrong = wrong

    def weight(self, x: Tensor) -> Tensor:
        return torch.linspace(0.5, 2.0, x[0].numel()).to(x).reshape(x.shape[1:])

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        y = (self.weight(x) * x).roll(1, -1)
        if self.wrong == "is affine":
            return y + 1
        if self.wrong == "couples samples":
            return y + 0.01 * x.mean(dim=0)
        if self.wrong == "returns float32":
            return y.float()
        return y

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        if self.wrong == "has another adjoint":
            return self.weight(y) * y.roll(1, -1)
        x = self.weight(y) * y.roll(-1, -1)
        return 1.001 * x if self.wrong == "scales its adjoint" else x

    def A_adjoint_A(self, x: Tensor, **kwargs: Any) -> Tensor:
        product = self.weight(x) ** 2 * x
        return 2 * product if self.wrong == "has another product" else product

    def prox_l2(self, z: Tensor, y: Tensor, gamma: Any, **kwargs: Any) -> Tensor:
        if self.wrong == "forgets gamma":
            gamma = 1.0
        right = z + gamma * self.A_adjoint(y)
        return right / (1 + gamma * self.weight(z) ** 2)

    def spectrum(self, img_size: tuple[int, ...]) -> Interval:
        upper = 3.9 if self.wrong == "declares a small spectrum" else 4.0
        lower = 0.3 if self.wrong == "declares a large lower end" else 0.25
        return Interval(
            Bound(lower * (1 - 1e-6), source="declared", is_lower=True),
            Bound(upper * (1 + 1e-6), source="declared"),
        )


@pytest.mark.parametrize("img_size", [(1, 4, 5), (3, 12, 12)])
def test_right_physics_keeps_the_contracts(img_size: tuple[int, ...]) -> None:
    assert len(testing.check_physics(Weighting(), img_size).held) == 7


@in_one_test(
    ("wrong", "contract", "message"),
    [
        ("has another adjoint", "has_the_transposed_adjoint", "differ by"),
        ("scales its adjoint", "has_the_transposed_adjoint", "differ by"),
        ("declares a small spectrum", "has_its_spectrum", "above its bound <= 3.9"),
        ("declares a large lower end", "has_its_spectrum", "below its bound >= "),
        ("is affine", "is_linear", "differs by"),
        ("returns float32", "has_the_right_shapes_and_dtypes", "gives torch.float32"),
        ("couples samples", "keeps_samples_apart", "A of image 0"),
        ("has another product", "has_consistent_products", "A_adjoint_A differs"),
        ("forgets gamma", "has_the_least_squares_prox", "at gamma = 0.5 differs"),
    ],
)
@in_one_test("img_size", [(1, 4, 5), (3, 12, 12)])
def test_wrong_physics_breaks_its_contract(
    wrong: str, contract: str, message: str, img_size: tuple[int, ...]
) -> None:
    with pytest.raises(testing.ContractError, match=message) as caught:
        testing.physics_contracts()[contract](Weighting(wrong), img_size)
    assert caught.value.contract == contract
    with pytest.raises(testing.ContractError):
        testing.check_physics(Weighting(wrong), img_size)


def test_inexact_adjoint_of_tomography_is_found() -> None:
    physics = dinv.physics.Tomography(
        angles=5, img_width=7, normalize=True, adjoint_via_backprop=False
    )
    with pytest.raises(testing.ContractError, match="has_the_transposed_adjoint"):
        testing.check_physics(physics, (1, 7, 7))


def test_what_is_not_linear_is_refused() -> None:
    with pytest.raises(TypeError, match=r"physics must be a deepinv.*, got Physics"):
        testing.check_physics(dinv.physics.Physics(), (1, 4, 4))
