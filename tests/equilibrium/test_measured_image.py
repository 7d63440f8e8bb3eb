"""One check of measurements, and that the models make it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.equilibrium.input_checks import measured_image, require_linear

from ..models.images import random_images
from ..models.operators import DOUBLE, Gain

SIZE = (1, 6, 8)


def inpainting() -> dinv.physics.Inpainting:
    return dinv.physics.Inpainting(SIZE, mask=torch.ones(SIZE, dtype=DOUBLE))


def adapted(y: Tensor, physics: Any) -> None:
    deq.adapt(Gain(0.5), y, physics, weight=0.1, max_steps=1)


MODELS: dict[str, Callable[[], Callable[[Tensor, Any], Any]]] = {
    "adapt": lambda: adapted,
    "EquilibriumRegularisation": lambda: deq.plugins.create(
        "reconstructors", "equilibrium-regularisation", denoiser="ridge-prox"
    ),
    "ISTA": lambda: deq.models.ISTA(
        deq.models.DenseFrame(torch.eye(48), SIZE), 0.1, max_iter=2
    ),
    "ReuseAndRegularise": lambda: deq.models.ReuseAndRegularise(
        Gain(0.5), inpainting()
    ),
    "TikhonovInverse": deq.models.TikhonovInverse,
}


@pytest.mark.parametrize("shape", [(1, 1, 1, 8), (1, 1, 6, 1), (1, 1, 6, 7)])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_no_measurement_is_refused(name: str, shape: tuple[int, ...]) -> None:
    """Also what merely broadcasts."""
    y = random_images(0, shape)
    with pytest.raises(
        ValueError, match=r"y of shape \(1, 1, .* is not a measurement of"
    ):
        MODELS[name]()(y, inpainting())


def test_the_image_is_the_adjoint_with_its_graph() -> None:
    y = random_images(1, (2, *SIZE)).requires_grad_()
    image = measured_image(y, inpainting())
    assert torch.equal(image, y)
    assert image.requires_grad


def test_a_physics_that_is_not_linear_is_refused() -> None:
    with pytest.raises(TypeError, match=r"as in model\(y, physics\), got Haze"):
        require_linear(dinv.physics.Haze())
    with pytest.raises(TypeError, match=r"physics\): it is fitted, got NoneType"):
        measured_image(torch.ones(1), None, "it is fitted")


def test_an_adaptation_to_a_physics_that_is_not_linear_checks_too() -> None:
    physics = dinv.physics.Physics(A=lambda x, **_: x.mean(1, keepdim=True).tanh())
    physics.A_adjoint = lambda y, **_: y
    y = random_images(2, (1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\) is no .*\(1, 1, 4, 4\)"):
        adapted(y, physics)
