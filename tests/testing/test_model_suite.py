"""The named reconstructors keep the contracts, and wrong ones do not."""

from __future__ import annotations

from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium import plugins, testing

from ..one_test import in_one_test
from .named_components import COLOUR, GREY, blur, create, model_arguments

NAMES = plugins.names("reconstructors")

# Their descents converge slowly; tests of their own check the gradients.
INEXACT = {"deq-md": False}


def physics_for(name: str, img_size: tuple[int, ...]) -> dinv.physics.LinearPhysics:
    if name == "fbp-unet":
        return dinv.physics.Tomography(
            angles=6,
            img_width=img_size[-1],
            normalize=True,
            adjoint_via_backprop=True,
        )
    if name == "deq-md":
        return blur(img_size, dinv.physics.PoissonNoise(0.1))
    return blur(img_size)


@pytest.mark.parametrize("name", NAMES)
def test_named_model_keeps_the_contracts(name: str) -> None:
    model = create("reconstructors", name, model_arguments(GREY))
    arguments = (model, physics_for(name, GREY), GREY, INEXACT.get(name), 1e-6)
    testing.check_model(*arguments)


@pytest.mark.parametrize("name", NAMES)
def test_named_model_reconstructs_colour_images(name: str) -> None:
    model = create("reconstructors", name, model_arguments(COLOUR))
    contract = testing.model_contracts()["returns_images"]
    if name == "fbp-unet":
        physics = dinv.physics.Tomography(
            angles=6, img_width=COLOUR[-1], normalize=True, adjoint_via_backprop=True
        )
    else:
        physics = physics_for(name, COLOUR)
    assert contract(model, physics, COLOUR) == "holds"


SIZE = (1, 5, 6)


class Filtered(dinv.models.Reconstructor):
    """A trained filter and gain after the adjoint; wrong in one way that is chosen."""

    def __init__(self, wrong: str = "") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.filter = nn.Conv2d(1, 1, 3, padding=1)
        self.gain = nn.Parameter(torch.tensor(0.7))
        self.register_buffer("calls", torch.zeros(()))
        self.wrong = wrong

    def forward(self, y: Tensor, physics: Any) -> Tensor:
        if self.wrong != "accepts anything":
            if not isinstance(physics, dinv.physics.Physics):
                raise TypeError(f"physics must be a Physics, got {type(physics)}.")
            if not isinstance(y, Tensor) or not y.is_floating_point():
                raise TypeError("y must be a floating-point tensor.")
            if y.ndim != 4 or y.shape[1:] != SIZE:
                raise ValueError(f"y must be a batch of images of size {SIZE}.")
        x = physics.A_adjoint(y)
        if self.wrong == "couples samples":
            x = x - 0.1 * x.mean()
        if self.wrong == "counts calls":
            self.calls += 1
        if self.wrong == "is random":
            x = x + 0.01 * torch.randn_like(x)
        gain = self.gain
        if self.wrong == "cuts a gradient":
            gain = gain.detach()
        if self.wrong == "doubles a gradient":
            gain = 2 * gain - gain.detach()
        x = torch.sigmoid(self.filter(gain * x))
        return x.float() if self.wrong == "returns float32" else x

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if self.wrong == "drops a parameter":
            state_dict = {**state_dict, f"{prefix}gain": self.gain.detach()}
        super()._load_from_state_dict(state_dict, prefix, *args)


def test_right_model_keeps_the_contracts() -> None:
    report = testing.check_model(Filtered(), blur(SIZE), SIZE)
    assert len(report.held) == 5
    assert report.notes["fills_its_solution"].endswith("not a model at equilibrium")


@in_one_test(
    ("wrong", "contract", "message"),
    [
        ("couples samples", "keeps_samples_apart", "image 0 alone differs by"),
        ("counts calls", "returns_images", "the call changes 'calls'"),
        ("is random", "returns_images", "the result of a second call differs"),
        ("returns float32", "returns_images", "in torch.float64 give torch.float32"),
        ("cuts a gradient", "has_the_gradient_of_its_values", "change of gain is 0 by"),
        ("doubles a gradient", "has_the_gradient_of_its_values", "change of gain is"),
        ("drops a parameter", "restores_its_state", "were changed and loaded again"),
        ("accepts anything", "refuses_wrong_input", "y = None raises"),
    ],
)
def test_wrong_model_breaks_its_contract(
    wrong: str,
    contract: str,
    message: str,
) -> None:
    with pytest.raises(testing.ContractError, match=message) as caught:
        testing.check_model(Filtered(wrong), blur(SIZE), SIZE)
    assert caught.value.contract == contract


class Averaging(deq.equilibrium.EquilibriumModel):
    r"""The fixed point of :math:`x \mapsto c x + A^\top y`."""

    rate = 0.5
    fills = True

    def fixed_point_problem(self, y: Any, physics: Any) -> Any:
        start = physics.A_adjoint(y)
        return lambda x: self.rate * x + start, start

    def _report(self, step: Any, solution: Any) -> None:
        if self.fills:
            super()._report(step, solution)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [("rate", 1.5, "the statuses are"), ("fills", False, "solution is None")],
)
def test_model_without_a_converged_solution_breaks_its_contract(
    attribute: str,
    value: Any,
    message: str,
) -> None:
    contract = testing.model_contracts()["fills_its_solution"]
    model = Averaging(DEQ=deq.Equilibrium(deq.Picard(), on_failure="ignore"))
    assert contract(model, blur(SIZE), SIZE) == "holds"
    setattr(model, attribute, value)
    with pytest.raises(testing.ContractError, match=message):
        contract(model, blur(SIZE), SIZE)


def test_arguments_of_the_wrong_type_are_named() -> None:
    with pytest.raises(TypeError, match="model must be a deepinv"):
        testing.check_model(nn.Identity(), blur(SIZE), SIZE)
    with pytest.raises(TypeError, match="physics must be a deepinv"):
        testing.check_model(Filtered(), None, SIZE)
    with pytest.raises(ValueError, match="img_size must hold positive integers"):
        testing.check_model(Filtered(), blur(SIZE), (0, 3))
