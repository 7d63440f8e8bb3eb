from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound, UncertifiableModuleError
from deepinv_equilibrium.models import (
    BoundedConvolution,
    BoundedDnCNN,
    ConvexPotentialDenoiser,
    ConvexPotentialLayer,
)
from deepinv_equilibrium.optim.contraction.prior_constants import (
    ProxConstants,
)


class TenfoldNetwork(BoundedDnCNN):
    def _network(self, x: Tensor) -> Tensor:
        return 10 * super()._network(x)


class TenfoldCall(BoundedDnCNN):
    def __call__(self, *args: Any) -> Any:
        return 10 * super().__call__(*args)


class NoConvolutions(BoundedDnCNN):
    @property
    def _convolutions(self) -> list[Any]:
        return [lambda x: 10 * x, lambda x: x]


class Kept(BoundedDnCNN):
    """A subclass that adds a method and declares a weaker residual bound."""

    def count(self) -> int:
        return len(self.layers)

    def residual_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        return Bound(2 * super().residual_bound(img_size).value)


class TenfoldConvolution(BoundedConvolution):
    def forward(self, x: Tensor) -> Tensor:
        return 10 * super().forward(x)


class TenfoldPotential(ConvexPotentialLayer):
    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return 10 * super().forward(x, sigma)


def make(kind: type[BoundedDnCNN]) -> BoundedDnCNN:
    torch.manual_seed(0)
    return kind(1, depth=2, filters=2).double()


@pytest.mark.parametrize("kind", [TenfoldNetwork, TenfoldCall, NoConvolutions])
def test_subclass_that_overrides_a_method_loses_the_declaration(
    kind: type[BoundedDnCNN],
) -> None:
    denoiser = make(kind)
    with pytest.raises(UncertifiableModuleError, match="register_lipschitz_rule"):
        deq.lipschitz(denoiser)
    with pytest.raises(UncertifiableModuleError, match="'0', a"):
        deq.lipschitz(nn.Sequential(denoiser))
    constants = ProxConstants.of_denoiser(denoiser, (1, 8, 8))
    assert constants.lipschitz.is_vacuous
    assert constants.residual.is_vacuous


def test_subclass_with_new_methods_and_declarations_keeps_the_declaration() -> None:
    kept, base = make(Kept), make(BoundedDnCNN)
    assert deq.lipschitz(kept) == deq.lipschitz(base)
    residual = ProxConstants.of_denoiser(kept, (1, 8, 8)).residual
    assert residual.value == 2 * base.residual_bound().value


def test_bounded_dncnn_refuses_another_layer() -> None:
    denoiser = make(BoundedDnCNN)
    denoiser.layers[1] = TenfoldConvolution(2, 1).double()
    message = "'layers.1', a TenfoldConvolution,.* Put a BoundedConvolution"
    with pytest.raises(UncertifiableModuleError, match=message):
        deq.lipschitz(denoiser)
    with pytest.raises(UncertifiableModuleError, match="a TenfoldConvolution cannot"):
        denoiser.residual_bound()
    constants = ProxConstants.of_denoiser(denoiser, (1, 8, 8))
    assert constants.lipschitz.is_vacuous
    assert "TenfoldConvolution" in constants.residual.source


@pytest.mark.parametrize("firmly_nonexpansive", [True, False])
def test_convex_potential_denoiser_refuses_another_layer(
    firmly_nonexpansive: bool,
) -> None:
    denoiser = ConvexPotentialDenoiser(
        1,
        pretrained=None,
        layers=1,
        generators=2,
        firmly_nonexpansive=firmly_nonexpansive,
    )
    assert denoiser.is_firmly_nonexpansive
    denoiser.layers[0] = TenfoldPotential(1, 2, 5, relaxation=1.0)
    assert not denoiser.is_firmly_nonexpansive
    with pytest.raises(UncertifiableModuleError, match="Put a ConvexPotentialLayer"):
        deq.lipschitz(denoiser)


def test_parametrised_module_keeps_the_declaration() -> None:
    block = deq.certificates.Residual(nn.Conv2d(1, 1, 3))
    expected = deq.lipschitz(block)
    block.register_parameter("unused", nn.Parameter(torch.ones(2, 2)))
    nn.utils.parametrize.register_parametrization(block, "unused", nn.Identity())
    assert deq.lipschitz(block) == expected
