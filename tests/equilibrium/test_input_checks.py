"""Wrong inputs that people give to models, and what each is told."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import deepinv as dinv
import numpy as np
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq

from .named_models import ARGUMENTS, IMAGE, Shrinkage, build, physics

NAMES = sorted(ARGUMENTS)
# Learned models that are no equilibria make the checks that concern them, too.
LEARNED: dict[str, Callable[[], Any]] = {
    "learned-gradient-descent": lambda: deq.models.LearnedGradientDescent(2),
    "learned-primal-dual": lambda: deq.models.LearnedPrimalDual(2),
    "learned-pdhg": lambda: deq.models.LearnedPDHG(2),
    "fbp-unet": deq.models.FBPUNet,
    "tikhonov-inverse": deq.models.TikhonovInverse,
}
ALL = [*NAMES, *LEARNED]


def make(name: str) -> Any:
    return LEARNED[name]() if name in LEARNED else build(name)


def images(batch: int = 2) -> Tensor:
    return torch.rand(batch, *IMAGE)


def drunet(channels: int = 1, **arguments: Any) -> Any:
    denoiser = dinv.models.DRUNet(
        channels, channels, nc=(4, 4, 4, 4), nb=1, pretrained=None
    )
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        DEQ=deq.ReTune(layers=1, restarts=2),
        **{"sigma_denoiser": 0.1, **arguments},
    )


# The wrong call, the error, and what its message must say: argument and value, remedy.
CALLS: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "y is None": (
        lambda model: model(None, physics()),
        TypeError,
        r"y must be a torch.Tensor.*got None",
    ),
    "y is a numpy array": (
        lambda model: model(np.zeros((1, *IMAGE)), physics()),
        TypeError,
        r"y must be .*got ndarray.*torch.from_numpy\(y\)",
    ),
    "y is uint8": (
        lambda model: model((255 * images()).to(torch.uint8), physics()),
        TypeError,
        r"y must have a floating-point dtype, got torch.uint8.*y.float\(\) / 255",
    ),
    "y is int64": (
        lambda model: model(images().long(), physics()),
        TypeError,
        r"y must have a floating-point dtype, got torch.int64.*y.float\(\) / 255",
    ),
    "y and physics are swapped": (
        lambda model: model(physics(), images()),
        TypeError,
        r"arguments are swapped; call model\(y, physics\)",
    ),
    "physics is None": (
        lambda model: model(images(), None),
        TypeError,
        r"physics must be a deepinv \w*[pP]hysics, as in model\(y, physics\), got None",
    ),
    "physics is of another size": (
        lambda model: model(torch.rand(2, 1, 5, 7), physics()),
        ValueError,
        r"y of shape \(2, 1, 5, 7\) is not a measurement of this Inpainting",
    ),
    "y would be broadcast": (
        lambda model: model(torch.rand(2, 1, 1, 8), physics()),
        ValueError,
        r"y of shape \(2, 1, 1, 8\) is not a measurement .*physics of this",
    ),
    "an option of the call is misspelt": (
        lambda model: model(images(), physics(), obsrver=None),
        TypeError,
        r"takes no argument 'obsrver'",
    ),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_call_names_argument_value_and_remedy(name: str, call: str) -> None:
    wrong, error, message = CALLS[call]
    with pytest.raises(error, match=f"(?s){message}"):
        wrong(make(name))


# ISTA reconstructs signals and vectors too, and TikhonovInverse any state.
@pytest.mark.parametrize("name", sorted({*ALL} - {"ista", "tikhonov-inverse"}))
def test_an_image_without_batch_axis_is_told_to_add_it(name: str) -> None:
    learned = r"must (have|be a real tensor of) shape \(B, "
    pattern = learned if name in LEARNED else r"shape \(B, C, H, W\).*y\[None\]"
    with pytest.raises(ValueError, match=f"(?s){pattern}"):
        make(name)(images(1)[0], dinv.physics.Denoising())


# Inputs that do not fit the network of a model.
NETWORKS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "other dtype": (
        lambda: drunet()(images().double(), dinv.physics.Denoising()),
        TypeError,
        r"y has the dtype torch.float64.*torch.float32.*y.to\(torch.float32\)",
    ),
    "other device": (
        lambda: drunet().to("meta")(images(), dinv.physics.Denoising()),
        TypeError,
        r"y is on cpu.*on meta.*model.to\(y.device\)",
    ),
    "other channels": (
        lambda: drunet()(torch.rand(2, 3, 6, 8), dinv.physics.Denoising()),
        ValueError,
        r"images of y have . channels.*in_channels=",
    ),
    "complex y in a real denoiser": (
        lambda: drunet()(images().to(torch.complex64), dinv.physics.Denoising()),
        TypeError,
        r"y is complex.*real.*two channels",
    ),
    "sigma is missing": (
        lambda: drunet(sigma_denoiser=None)(images(), dinv.physics.Denoising()),
        TypeError,
        r"sigma_denoiser is missing, and DRUNet needs it.*sigma_denoiser=0.03",
    ),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_an_input_that_does_not_fit_the_network_is_explained(case: str) -> None:
    wrong, error, message = NETWORKS[case]
    with pytest.raises(error, match=f"(?s){message}") as caught:
        wrong()
    assert caught.value.__cause__ is not None


# Wrong constructors.
OPTIMISERS = ("PGD", "GD", "HQS", "ADMM", "DRS", "PDCP", "MD", "PMD", "FISTA")
PARTS: dict[str, Callable[[], Any]] = {
    "data_fidelity": dinv.optim.L2,
    "prior": dinv.optim.Tikhonov,
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prior": None}, ValueError, r"prior is missing.*PnP\(denoiser\).*ZeroPrior"),
        ({"data_fidelity": None}, ValueError, r"data_fidelity is missing.*L2\(\)"),
        ({"prior": Shrinkage}, TypeError, r"denoiser Shrinkage.*PnP\(denoiser\)"),
        ({"prior": dinv.optim.L2}, TypeError, r"prior must be a .*Prior.*got L2"),
        ({"data_fidelity": Shrinkage}, TypeError, r"data_fidelity"),
        ({"DEQ": lambda: "Picard"}, TypeError, r"DEQ must be Equilibrium\("),
        ({"DEQ": deq.Picard}, TypeError, r"DEQ must be Equilibrium\("),
        ({"stepsze": int}, TypeError, r"no argument 'stepsze'; did you mean 'steps"),
        ({"stepsize": str}, (TypeError, ValueError), "stepsize"),
        ({"stepsize": lambda: -1.0}, ValueError, "stepsize"),
        ({"lambda_reg": lambda: float("nan")}, ValueError, "lambda"),
        ({"max_iter": lambda: 5}, ValueError, r"max_iter=5 beside DEQ"),
    ],
)
def test_a_wrong_optimiser_names_argument_value_and_remedy(
    optimiser: str, arguments: dict[str, Any], error: Any, message: str
) -> None:
    given = {"DEQ": deq.Equilibrium, **PARTS, **arguments}
    built = {name: make and make() for name, make in given.items()}
    with pytest.raises(error, match=f"(?s){message}"):
        getattr(deq.optim, optimiser)(**built)


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_option_of_every_constructor_is_refused(name: str) -> None:
    for option in ("DEQq", "show_progres_bar", "sigma_denoisr"):
        with pytest.raises(TypeError, match=option):
            deq.plugins.create(
                "reconstructors", name, **ARGUMENTS[name](), **{option: 1}
            )


@pytest.mark.parametrize(
    "component",
    [
        deq.models.TVMapReconstructor,
        deq.models.WaveletReconstructor,
        deq.models.ISTA,
        deq.models.EquilibriumRegularisation,
        deq.models.ReuseAndRegularise,
    ],
)
def test_a_misspelt_option_of_a_class_suggests_the_right_one(component: Any) -> None:
    with pytest.raises(TypeError, match="did you mean 'DEQ'"):
        component(DEq=deq.Equilibrium())


@pytest.mark.parametrize(
    "component",
    [
        deq.optim.RED,
        deq.optim.NetworkResidualPrior,
        lambda name: deq.models.EquilibriumRegularisation(name),
    ],
)
def test_a_name_in_the_place_of_a_denoiser_is_told_how_to_create_it(
    component: Callable[[Any], Any],
) -> None:
    with pytest.raises(TypeError, match=r"plugins.create\('denoisers', 'ridge-prox'\)"):
        component("ridge-prox")


# Values in other units: a warning, once a model.
def test_images_in_0_255_are_warned_of_once() -> None:
    model = drunet()
    with pytest.warns(UserWarning, match=r"values up to about 2\d\d.*divide y by 255"):
        model(255 * torch.rand(2, 1, 16, 16), dinv.physics.Denoising())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(255 * torch.rand(2, 1, 16, 16), dinv.physics.Denoising())


def test_images_in_0_1_and_an_unnormalised_operator_are_not_warned_of() -> None:
    operator = dinv.physics.LinearPhysics(
        A=lambda x, **_: 30 * x, A_adjoint=lambda y, **_: 30 * y
    )
    model = build("deq-hqs")
    model.DEQ = deq.Equilibrium(deq.Anderson(rtol=1e-3))
    model(30 * images(), operator)


def test_a_noise_level_above_1_is_warned_of_once() -> None:
    model = drunet(sigma_denoiser=12.75)
    with pytest.warns(UserWarning, match=r"sigma_denoiser=12.75.*divide .* by 255"):
        model(images(), dinv.physics.Denoising())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(images(), dinv.physics.Denoising())
