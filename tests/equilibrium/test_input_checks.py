"""Wrong inputs of models, and the errors and warnings that name the remedy."""

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
from deepinv_equilibrium.equilibrium.input_checks import measured_image, require_linear

from ..models.operators import Gain
from ..one_test import in_one_test
from .named_models import ARGUMENTS, IMAGE, Shrinkage, build, physics

NAMES = sorted(ARGUMENTS)
# Models that are not equilibrium models, but check their input in the same way.
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


# Each wrong call with its error, and with the argument, value and remedy that the
# message must contain.
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


@in_one_test("name", ALL)
@in_one_test("call", CALLS)
def test_call_raises_for_wrong_input_and_names_the_remedy(name: str, call: str) -> None:
    wrong, error, message = CALLS[call]
    with pytest.raises(error, match=f"(?s){message}"):
        wrong(make(name))


# ISTA accepts signals and vectors, and TikhonovInverse tensors of any shape.
@in_one_test("name", sorted({*ALL} - {"ista", "tikhonov-inverse"}))
def test_call_raises_for_image_without_batch_axis(name: str) -> None:
    learned = r"must (have|be a real tensor of) shape \(B, "
    pattern = learned if name in LEARNED else r"shape \(B, C, H, W\).*y\[None\]"
    with pytest.raises(ValueError, match=f"(?s){pattern}"):
        make(name)(images(1)[0], dinv.physics.Denoising())


# Inputs that do not fit the network of a model: the model fails, and explains why.
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
def test_call_explains_failure_for_input_that_does_not_fit_the_network(
    case: str,
) -> None:
    wrong, error, message = NETWORKS[case]
    with pytest.raises(error, match=f"(?s){message}") as caught:
        wrong()
    assert caught.value.__cause__ is not None


OPTIMISERS = ("PGD", "GD", "HQS", "ADMM", "DRS", "PDCP", "MD", "PMD", "FISTA")
PARTS: dict[str, Callable[[], Any]] = {
    "data_fidelity": dinv.optim.L2,
    "prior": dinv.optim.Tikhonov,
}


class Broken(dinv.models.DRUNet):
    """A denoiser whose error has nothing to do with its input."""

    def forward(self, x: Tensor, sigma: Any = None, **kwargs: Any) -> Tensor:
        return self.undefined(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_call_does_not_blame_the_input_for_an_error_of_the_denoiser(
    dtype: torch.dtype,
) -> None:
    denoiser = Broken(1, 1, nc=(2, 2, 2, 2), nb=1, pretrained=None)
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        DEQ=deq.ReTune(layers=1, restarts=2),
    )
    with pytest.raises(
        AttributeError, match=r"^'Broken' object has no .* 'undefined'$"
    ):
        model(images().to(dtype), dinv.physics.Denoising())


@in_one_test("optimiser", OPTIMISERS)
@in_one_test(
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
def test_constructor_of_optimiser_raises_for_wrong_arguments(
    optimiser: str, arguments: dict[str, Any], error: Any, message: str
) -> None:
    given = {"DEQ": deq.Equilibrium, **PARTS, **arguments}
    built = {name: make and make() for name, make in given.items()}
    with pytest.raises(error, match=f"(?s){message}"):
        getattr(deq.optim, optimiser)(**built)


@in_one_test("name", NAMES)
def test_registry_raises_for_misspelt_arguments(name: str) -> None:
    for option in ("DEQq", "show_progres_bar", "sigma_denoisr"):
        with pytest.raises(TypeError, match=option):
            deq.plugins.create(
                "reconstructors", name, **ARGUMENTS[name](), **{option: 1}
            )


@in_one_test(
    "component",
    [
        deq.models.TVMapReconstructor,
        deq.models.WaveletReconstructor,
        deq.models.ISTA,
        deq.models.EquilibriumRegularisation,
        deq.models.ReuseAndRegularise,
    ],
)
def test_constructor_suggests_the_closest_argument(component: Any) -> None:
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
def test_constructor_raises_for_name_of_denoiser_and_names_the_registry(
    component: Callable[[Any], Any],
) -> None:
    with pytest.raises(TypeError, match=r"plugins.create\('denoisers', 'ridge-prox'\)"):
        component("ridge-prox")


def test_model_warns_once_of_images_in_0_255() -> None:
    model = drunet()
    with pytest.warns(UserWarning, match=r"values up to about 2\d\d.*divide y by 255"):
        model(255 * torch.rand(2, 1, 16, 16), dinv.physics.Denoising())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(255 * torch.rand(2, 1, 16, 16), dinv.physics.Denoising())


def test_model_does_not_warn_of_images_in_0_1_with_a_large_operator() -> None:
    operator = dinv.physics.LinearPhysics(
        A=lambda x, **_: 30 * x, A_adjoint=lambda y, **_: 30 * y
    )
    model = build("deq-hqs")
    model.DEQ = deq.Equilibrium(deq.Anderson(rtol=1e-3))
    model(30 * images(), operator)


def test_model_warns_once_of_noise_level_above_1() -> None:
    model = drunet(sigma_denoiser=12.75)
    with pytest.warns(UserWarning, match=r"sigma_denoiser=12.75.*divide .* by 255"):
        model(images(), dinv.physics.Denoising())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(images(), dinv.physics.Denoising())


@pytest.mark.parametrize("shape", [(1, 1, 1, 8), (1, 1, 6, 1), (1, 1, 6, 7)])
def test_measured_image_raises_for_other_shape_even_if_it_broadcasts(
    shape: tuple[int, ...],
) -> None:
    with pytest.raises(ValueError, match=r"y of shape \(1, 1, .* is not a measurement"):
        measured_image(torch.rand(shape), physics())


def test_measured_image_is_the_adjoint_with_its_graph() -> None:
    y = images().requires_grad_()
    image = measured_image(y, physics())
    assert torch.equal(image, physics().A_adjoint(y))
    assert image.requires_grad


def test_require_linear_raises_for_other_physics() -> None:
    with pytest.raises(TypeError, match=r"as in model\(y, physics\), got Haze"):
        require_linear(dinv.physics.Haze())
    with pytest.raises(TypeError, match=r"physics\): it is fitted, got NoneType"):
        measured_image(torch.ones(1), None, "it is fitted")


@pytest.mark.parametrize("shape", [(1, 1, 1, 8), (1, 1, 6, 1), (1, 1, 6, 7)])
def test_adapt_raises_for_measurement_of_other_shape(shape: tuple[int, ...]) -> None:
    y, operator = torch.rand(shape).double(), physics().double()
    with pytest.raises(ValueError, match=r"y of shape \(1, 1, .* is not a measurement"):
        deq.adapt(Gain(0.5), y, operator, weight=0.1, max_steps=1)


def test_adapt_to_nonlinear_physics_raises_for_measurement_of_other_shape() -> None:
    mean = dinv.physics.Physics(A=lambda x, **_: x.mean(1, keepdim=True).tanh())
    mean.A_adjoint = lambda y, **_: y
    y = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\) is not a .*\(1, 1, 4, 4\)"):
        deq.adapt(Gain(0.5), y, mean, weight=0.1, max_steps=1)


@pytest.mark.parametrize(
    ("y", "remedy"),
    [
        (torch.rand(1, 1, 8, 8).double(), r"which is torch\.float64, with y\.to"),
        (torch.rand(1, 8, 8), r"with y\[None\] for one image"),
        (torch.rand(8, 8), r"with y\[None\] for one image"),
    ],
    ids=["float64", "no batch axis", "no channel axis"],
)
def test_an_operator_that_fails_is_met_with_the_remedy_of_the_cause(
    y: torch.Tensor, remedy: str
) -> None:
    physics = dinv.physics.Blur(torch.ones(1, 1, 3, 3) / 9, padding="circular")
    with pytest.raises(ValueError, match=rf"A_adjoint fails: .*[^.]\. .*{remedy}"):
        measured_image(y, physics)


def test_complex_measurements_of_a_scan_are_two_channels() -> None:
    mask = torch.ones(1, 1, 8, 8)
    physics = dinv.physics.MRI(mask=mask, img_size=(8, 8))
    with pytest.raises(ValueError, match=r"two channels: MRI\.from_torch_complex\(y\)"):
        measured_image(torch.rand(1, 8, 8, dtype=torch.complex64), physics)
