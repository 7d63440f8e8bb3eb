"""Properties that all reconstructions by learned iterations share."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import AdjointMismatchError
from deepinv_equilibrium.certificates.spectra.double_precision import double_copy
from deepinv_equilibrium.models import (
    LearnedGradientDescent,
    LearnedPDHG,
    LearnedPrimalDual,
)
from deepinv_equilibrium.models.tomography.learned_iterations import LearnedIterations
from deepinv_equilibrium.optim.total_variation import differences, differences_adjoint

from ...one_test import in_one_test
from ...quiet_trainer import train_for_an_epoch
from ..images import random_images

SIZE = 8


def directions(x: Tensor) -> Tensor:
    """Finite differences, with the directions among the channels."""
    return differences(x).flatten(1, 2)


def directions_adjoint(u: Tensor) -> Tensor:
    return differences_adjoint(u.unflatten(1, (-1, 2)))


def pdhg_of_differences(in_channels: int = 1, **arguments: Any) -> LearnedPDHG:
    return LearnedPDHG(
        in_channels=in_channels,
        data_channels=2 * in_channels,
        K=directions,
        K_adjoint=directions_adjoint,
        **arguments,
    )


NAMED: dict[str, Callable[..., LearnedIterations]] = {
    "learned-gradient-descent": LearnedGradientDescent,
    "learned-primal-dual": LearnedPrimalDual,
    "learned-pdhg": LearnedPDHG,
}
KINDS = NAMED | {"learned-pdhg of differences": pdhg_of_differences}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def small(kind: str, **arguments: object) -> LearnedIterations:
    """A model of two iterations with few filters, in double precision."""
    arguments = {"iterations": 2, "filters": 4, **arguments}
    return KINDS[kind](**arguments).double()


@functools.cache
def scan() -> dinv.physics.Tomography:
    """A normalised scan in double precision, which deepinv cannot construct."""
    return double_copy(dinv.physics.Tomography(5, SIZE, circle=True, normalize=True))


def scaled(factor: float) -> dinv.physics.LinearPhysics:
    """The same operator in another unit, with a filtered back-projection."""
    original = scan()
    physics = dinv.physics.LinearPhysics(
        A=lambda x, **_: factor * original.A(x),
        A_adjoint=lambda y, **_: factor * original.A_adjoint(y),
    )
    physics.fbp = lambda y: original.fbp(y) / factor
    return physics


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_forward_reconstructs_grey_and_colour_samples_independently(
    kind: str, channels: int, tied: bool
) -> None:
    model = small(kind, in_channels=channels, tied=tied)
    y = scan().A(random_images(0, (3, channels, SIZE, SIZE)))
    with torch.no_grad():
        x = model(y, scan())
        alone = torch.cat([model(sample[None], scan()) for sample in y])
        model.eval()
        assert model(y, scan()).equal(x)
    assert x.shape == (3, channels, SIZE, SIZE)
    torch.testing.assert_close(x, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("factor", [1e-3, 40.0])
def test_forward_does_not_change_with_the_unit_of_the_measurement(
    kind: str, factor: float
) -> None:
    model = small(kind)
    y = scan().A(random_images(1, (2, 1, SIZE, SIZE)))
    with torch.no_grad():
        expected = model(y, scaled(1.0))
        x = model(factor * y, scaled(factor))
    assert expected.norm() > 1e-3
    torch.testing.assert_close(x, expected, rtol=1e-8, atol=1e-10)


def test_forward_accepts_any_linear_physics_and_image_size(kind: str) -> None:
    mask = (torch.rand(1, 5, 7) > 0.3).double()
    physics = dinv.physics.Inpainting((1, 5, 7), mask=mask)
    y = physics.A(random_images(2, (2, 1, 5, 7)))
    assert small(kind)(y, physics).shape == (2, 1, 5, 7)


def test_gradients_agree_with_finite_differences(kind: str) -> None:
    model = small(kind, filters=3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    mask = torch.tensor([[[1.0, 0.7, 0.0, 1.0], [0.5, 1.0, 1.0, 0.2]]]).double()
    physics = dinv.physics.Inpainting((1, 2, 4), mask=mask)
    y = physics.A(random_images(3, (1, 1, 2, 4))).requires_grad_()
    names = [name for name, _ in model.named_parameters()]

    def of(y: Tensor, *values: Tensor) -> Tensor:
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(model, parameters, (y, physics))

    values = [p.detach().clone().requires_grad_() for p in model.parameters()]
    assert torch.autograd.gradcheck(of, (y, *values), fast_mode=True)


def test_iterations_can_be_changed_for_tied_models_only(kind: str) -> None:
    tied, untied = small(kind, tied=True), small(kind, tied=False)
    assert (len(tied.layers), len(untied.layers)) == (1, 2)
    y = scan().A(random_images(4, (1, 1, SIZE, SIZE)))
    with torch.no_grad():
        two = tied(y, scan())
        tied.iterations = 5
        assert not tied(y, scan()).equal(two)
        for layer in untied.layers:
            layer.load_state_dict(tied.layers[0].state_dict())
        torch.testing.assert_close(untied(y, scan()), two)
    with pytest.raises(ValueError, match=r"iterations must stay 2.*got 3"):
        untied.iterations = 3
    with pytest.raises(ValueError, match="iterations must be an integer >= 1"):
        tied.iterations = 0


def test_loaded_model_reconstructs_as_the_saved_one(kind: str, tmp_path: Path) -> None:
    model, other = small(kind), small(kind)
    y = scan().A(random_images(5, (1, 1, SIZE, SIZE)))
    with torch.no_grad():
        assert not other(y, scan()).equal(model(y, scan()))
        torch.save(model.state_dict(), tmp_path / "model.pt")
        other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
        assert other(y, scan()).equal(model(y, scan()))


@pytest.mark.parametrize("kind", NAMED)
def test_create_by_name_returns_a_model_that_trains(kind: str) -> None:
    physics = dinv.physics.Tomography(5, SIZE, circle=True, normalize=True)
    x = random_images(6, (4, 1, SIZE, SIZE)).float()
    pairs = [{"x": image, "y": physics.A(image[None])[0]} for image in x]
    model = deq.plugins.create("reconstructors", kind, iterations=2, filters=4)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_for_an_epoch(model, physics, optimizer, pairs, 2)
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert bool(torch.isfinite(parameter).all())
        assert not parameter.equal(old)


def test_forward_raises_for_bad_input(kind: str) -> None:
    model, physics = small(kind), scan()
    y = physics.A(random_images(7, (1, 1, SIZE, SIZE)))
    with pytest.raises(TypeError, match=r"must be a deepinv Physics.*got str"):
        model(y, "scan")
    with pytest.raises(TypeError, match=r"must be a deepinv LinearPhysics.*got Haze"):
        model(y, dinv.physics.Haze())
    with pytest.raises(TypeError, match="the arguments are swapped"):
        model(physics, y)
    with pytest.raises(TypeError, match=r"y must be a torch.Tensor.*got None"):
        model(None, physics)
    stacked = dinv.physics.stack(physics, physics)
    with pytest.raises(TypeError, match=r"y must be one tensor.*takes no stacked"):
        model(dinv.utils.TensorList([y, y]), stacked)
    with pytest.raises(TypeError, match=r"takes no argument 'sigma'"):
        model(y, physics, sigma=0.1)
    with pytest.raises(TypeError, match=r"float64, and the weights of torch\.float32"):
        model.float()(y, physics)
    model.double()
    with pytest.raises(ValueError, match="is not a measurement of this Tomography"):
        model(y[..., :-1], physics)
    with pytest.raises(ValueError, match=r"\(B, 1, H, W\)"):
        model(y.expand(1, 2, -1, -1), physics)
    with pytest.raises(ValueError, match=r"NaN or infinite values.*samples \[0\]"):
        model(y * torch.nan, physics)
    fast = dinv.physics.Tomography(
        5, SIZE, circle=True, normalize=True, adjoint_via_backprop=False
    )
    with pytest.raises(AdjointMismatchError):
        model.float()(y.float(), fast)


@in_one_test("name", ["iterations", "filters", "in_channels"])
@in_one_test("value", [0, 1.5, True])
def test_constructor_raises_unless_counts_are_positive_integers(
    kind: str, name: str, value: object
) -> None:
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1"):
        small(kind, **{name: value})
