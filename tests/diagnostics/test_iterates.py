from __future__ import annotations

from itertools import islice
from typing import Any

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.diagnostics import Iterates

from ..certificates.fixed_point_models import MODELS, SIZE, inpainting
from ..one_test import in_one_test

PHYSICS = dinv.physics.Denoising()
Y = torch.rand(2, 3, 5, 4, dtype=torch.float64)


def parts(**options: Any) -> dict[str, Any]:
    return {
        "data_fidelity": dinv.optim.L2(),
        "prior": dinv.optim.Tikhonov(),
        "stepsize": 0.5,
        "trainable_params": [],
        **options,
    }


def test_iterates_of_equilibrium_model() -> None:
    model = deq.optim.PGD(**parts(), DEQ=deq.Equilibrium())
    images = list(Iterates(model, Y, PHYSICS, 4))
    x = Y
    for image in images:
        x = (x - 0.5 * (x - Y)) / 1.5
        torch.testing.assert_close(image, x)
    assert len(images) == 4
    assert not images[0].requires_grad


@in_one_test("name", MODELS)
def test_last_iterate_is_image_of_model_with_same_number_of_steps(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name](deq.ReTune(layers=2, restarts=3)).double()
    physics = inpainting()
    y = physics.A(torch.rand(2, *SIZE, dtype=torch.float64))
    with torch.no_grad():
        expected = model(y, physics)
    iterates = Iterates(model, y, physics, 3)
    assert iterates.layers == 2
    images = list(iterates)
    torch.testing.assert_close(images[-1], expected, rtol=0, atol=1e-12)
    assert (images[0] - expected).norm() > 1e-6
    assert all(image.shape == expected.shape for image in images)


def test_iterates_of_model_whose_image_is_an_output_of_its_step() -> None:
    model = deq.optim.DRS(**parts(), DEQ=deq.Equilibrium(deq.Picard(max_iter=100)))
    last = list(Iterates(model, Y, PHYSICS, 60))[-1]
    with torch.no_grad():
        torch.testing.assert_close(last, model(Y, PHYSICS), rtol=0, atol=1e-4)


@pytest.mark.parametrize("package", [dinv.optim, deq.optim])
def test_iterates_of_unfolded_optimiser_beyond_its_layers(package: Any) -> None:
    steps = [0.2, 0.4, 0.8]
    arguments = parts(stepsize=steps, lambda_reg=[1.0, 2.0, 3.0])
    model = package.PGD(**arguments, unfold=True, max_iter=3)
    images = list(Iterates(model, Y, PHYSICS, 5))
    with torch.no_grad():
        torch.testing.assert_close(images[2], model(Y, PHYSICS))
    x = images[2]
    for image in images[3:]:  # with the parameters of the last layer
        x = (x - 0.8 * (x - Y)) / (1 + 0.8 * 3.0)
        torch.testing.assert_close(image, x, rtol=1e-6, atol=1e-8)


def test_images_are_computed_when_requested() -> None:
    model = deq.optim.PGD(**parts(), DEQ=deq.Equilibrium())
    endless = Iterates(model, Y, PHYSICS, 10**9)
    assert len(list(islice(endless, 2))) == 2


def test_layers_is_number_of_iterations_between_two_images() -> None:
    model = deq.optim.PGD(**parts(), DEQ=deq.Equilibrium(layers=3))
    assert Iterates(model, Y, PHYSICS, 2).layers == 3
    plain = deq.optim.PGD(**parts(), max_iter=7)
    assert Iterates(plain, Y, PHYSICS, 2).layers == 1
    tv = deq.plugins.create("reconstructors", "tv-map", in_channels=3, constant=True)
    assert Iterates(tv, Y, PHYSICS, 2).layers == 8


def test_bad_arguments_are_named() -> None:
    with pytest.raises(TypeError, match="fixed-point problem"):
        Iterates(torch.nn.Identity(), Y, PHYSICS, 3)
    model = deq.optim.PGD(**parts(), DEQ=deq.Equilibrium())
    with pytest.raises(ValueError, match="count"):
        Iterates(model, Y, PHYSICS, 0)
