from __future__ import annotations

import math
import random
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.optim.optim_iterators import PGDIteration
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound, Interval, Kind

from ...one_test import in_one_test
from ..certified_models import (
    IMAGE,
    SCHEMES,
    MatrixDenoiser,
    basis,
    contraction,
    dense_jacobian,
    random_model,
    random_physics,
)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**9), scheme=st.sampled_from(SCHEMES))
def test_rate_bounds_dense_jacobian(seed: int, scheme: str) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    physics = random_physics(rng, closed_form=scheme not in ("PGD", "GD"))
    model = random_model(rng, scheme, physics)
    rate = contraction(model, physics).rate
    truth = torch.linalg.matrix_norm(dense_jacobian(model, physics), 2)
    assert rate.is_certified
    assert truth <= rate.value * (1 + 1e-12)


# The images are not in [0, 1].
@pytest.mark.filterwarnings("ignore:.*expect images in")
@settings(max_examples=40)
@given(seed=st.integers(0, 10**9), scheme=st.sampled_from(SCHEMES))
def test_residuals_and_stability_stay_within_their_bounds(
    seed: int, scheme: str
) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    physics = random_physics(rng)
    solver = deq.Picard(max_iter=600, rtol=1e-13)
    model = random_model(rng, scheme, physics, solver)
    known = contraction(model, physics)
    if not known.rate.value < 0.95:
        return
    # The reconstruction is linear in the data; unit vectors give its matrix.
    images, _ = basis(physics)
    y = images.reshape(physics.A(images).shape)
    start = torch.randn(len(y), *IMAGE, dtype=torch.float64)
    with torch.no_grad():
        matrix = model(y, physics, init=(start, torch.randn_like(start))).flatten(1).T
    history = model.solution.absolute_history
    envelope = (
        known.residual_factor.value
        * history[0]
        * torch.pow(
            torch.tensor(known.rate.value, dtype=torch.float64),
            torch.arange(len(history))[:, None],
        )
    )
    floor = 1e-12 * (history[0].max() + matrix.abs().max())
    assert not bool((history > envelope + floor).any())
    assert torch.linalg.matrix_norm(matrix, 2) <= known.stability.value * (1 + 1e-9)


def model_of(algorithm: str = "PGD", **arguments: Any) -> deq.optim.PGD:
    defaults: dict[str, Any] = {
        "data_fidelity": dinv.optim.L2(),
        "prior": dinv.optim.Tikhonov(),
        "stepsize": 0.5,
        "trainable_params": [],
        "DEQ": deq.Equilibrium(),
    }
    return getattr(deq.optim, algorithm)(**{**defaults, **arguments})


def half_mask() -> dinv.physics.Inpainting:
    mask = torch.full(IMAGE, 0.5, dtype=torch.float64)
    mask[0, 0, 0] = 1
    return dinv.physics.Inpainting(IMAGE, mask=mask)


class UnknownDenoiser(dinv.models.Denoiser):
    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return torch.sin(x)


class ConvexPrior(dinv.optim.Prior):
    """The function log cosh with the gradient tanh, whose derivative is in [0, 1]."""

    def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return torch.tanh(x)

    def gradient_bounds(self, img_size: Any = None) -> Interval:
        return Interval(Bound(0.0, is_lower=True), Bound(1.0))


class Scaled(dinv.optim.L2):
    """A subclass with another gradient than L2."""

    def grad(self, *args: Any, **kwargs: Any) -> Tensor:
        return 100 * super().grad(*args, **kwargs)


class WrongAdjoint(dinv.physics.Inpainting):
    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        return 1.1 * y


@in_one_test(
    ("arguments", "reason"),
    [
        ({"prior": dinv.optim.PnP(UnknownDenoiser())}, "UnknownDenoiser"),
        (
            {"prior": dinv.optim.TVPrior()},
            "proximal operator of TVPrior: an iteration stopped early",
        ),
        (
            {"prior": deq.optim.WeightedTVPrior()},
            "proximal operator of WeightedTVPrior: an iteration stopped early",
        ),
        (
            {"prior": dinv.optim.RED(UnknownDenoiser())},
            "proximal operator of RED: nothing is known; known are those of Tikhonov",
        ),
        ({"data_fidelity": dinv.optim.PoissonLikelihood()}, "PoissonLikelihood"),
        ({"data_fidelity": Scaled()}, "Scaled"),
        ({"g_first": True}, "g_first"),
        ({"stepsize": torch.full((1, 1, 3, 4), 0.5)}, r"stepsize has the shape"),
        ({"algorithm": "FISTA"}, "FISTA"),
        ({"algorithm": "PDCP"}, "PDCP"),
        ({"algorithm": "MD"}, "MD"),
        ({"algorithm": "PMD"}, "PMD"),
        ({"algorithm": "GD", "prior": dinv.optim.TVPrior()}, "gradient of TVPrior"),
        (
            {"algorithm": "ADMM", "params_algo": {"beta": 0.5, "stepsize": 1.0}},
            "beta = 0.5",
        ),
        (
            {"algorithm": "HQS", "data_fidelity": dinv.optim.L1()},
            "data fidelity L1",
        ),
    ],
)
def test_rate_is_vacuous_and_names_the_uncertified_part(
    arguments: dict[str, Any], reason: str
) -> None:
    known = contraction(model_of(**arguments), half_mask())
    assert known.rate.value == math.inf
    assert reason in known.rate.source
    assert known.stability.is_vacuous


def test_rate_is_vacuous_for_wrong_adjoint_or_nonlinear_operator() -> None:
    wrong = WrongAdjoint(IMAGE, mask=half_mask().mask)
    assert "A_adjoint" in contraction(model_of(), wrong).rate.source
    nonlinear = dinv.physics.Physics(A=lambda x: x**2)
    assert "not linear" in contraction(model_of(), nonlinear).rate.source


@pytest.mark.parametrize("declares", ["firm", "residual"])
def test_rate_uses_the_declarations_of_the_denoiser(declares: str) -> None:
    eye = torch.eye(12, dtype=torch.float64)
    matrix = {"firm": eye, "residual": 1.1 * eye}[declares]
    model = model_of("DRS", prior=dinv.optim.PnP(MatrixDenoiser(matrix, declares)))
    rate = contraction(model, half_mask()).rate.value
    c = (1 - 0.125) / (1 + 0.125)
    # The second value, 1/(1 + tau mu) + eps c, is smaller than the bound of Ryu.
    expected = {"firm": 0.5 + c / 2, "residual": 1 / 1.125 + 0.1 * c}[declares]
    assert rate == pytest.approx(expected, rel=1e-9)


def test_rate_uses_the_declared_curvature_of_a_convex_prior() -> None:
    model = model_of("GD", prior=ConvexPrior(), lambda_reg=0.5)
    known = contraction(model, half_mask())
    assert known.rate.value == pytest.approx(1 - 0.5 * 0.25, rel=1e-9)
    assert [term.symbol for term in known.terms] == [
        "mu",
        "L",
        "m",
        "L_R",
        "tau",
        "lambda",
    ]


def test_soft_thresholding_is_firmly_nonexpansive() -> None:
    known = contraction(model_of("DRS", prior=dinv.optim.L1Prior()), half_mask())
    c = (1 - 0.125) / (1 + 0.125)
    assert known.rate.value == pytest.approx(0.5 + c / 2, rel=1e-9)


def test_rate_uses_sigma_kappa_and_trained_step_sizes() -> None:
    """A trained step size is the exponential of a float32 parameter."""
    model = model_of(
        data_fidelity=deq.optim.RidgeL2(sigma=2.0, kappa=0.1),
        trainable_params=["stepsize"],
        lambda_reg=0.25,
    )
    with torch.no_grad():
        model.params_algo["stepsize"].get_parameter("0").fill_(-0.3)
    tau = model.params_algo["stepsize"][0].item()
    known = contraction(model, half_mask())
    expected = (1 - tau * (0.0625 + 0.1)) / (1 + 0.25 * tau)
    assert known.rate.value == pytest.approx(expected, rel=1e-9)
    values = {term.symbol: term.bound.value for term in known.terms}
    assert values["mu"] == pytest.approx(0.1625)
    assert values["L"] == pytest.approx(0.35)
    assert values["tau"] == tau


def test_rate_is_estimated_if_the_spectrum_is() -> None:
    matrix = torch.randn(12, 12, dtype=torch.float64) / 8
    physics = dinv.physics.LinearPhysics(
        A=lambda x: x.flatten(1) @ matrix.T.to(x),
        A_adjoint=lambda y: (y @ matrix.to(y)).reshape(-1, *IMAGE),
        img_size=IMAGE,
    )
    rate = contraction(model_of(prior=dinv.optim.Tikhonov()), physics).rate
    assert rate.kind is Kind.ESTIMATED
    assert rate.delta > 0


def test_constants_of_shared_parts_are_computed_once() -> None:
    class Counted(MatrixDenoiser):
        reads = 0

        def lipschitz_bound(self, img_size: Any = None) -> Bound:
            type(self).reads += 1
            return Bound(0.5)

    prior = dinv.optim.PnP(Counted(torch.eye(12)))
    model = model_of(prior=prior, DEQ=deq.Equilibrium(layers=5))
    known = contraction(model, half_mask())
    assert Counted.reads == 1
    assert len(known.layers) == 5
    assert known.rate.value == pytest.approx((0.5 * (1 - 0.125)) ** 5, rel=1e-9)


def test_notes_name_an_iterative_proximal_operator() -> None:
    physics = dinv.physics.Blur(filter=torch.full((1, 1, 3, 3), 1 / 9), padding="valid")
    ridge = deq.optim.RidgeL2(kappa=0.1)
    notes = {
        name: contraction(model_of(name, data_fidelity=ridge), physics).notes
        for name in ("HQS", "PGD")
    }
    assert any("iteratively" in note for note in notes["HQS"])
    assert not any("iteratively" in note for note in notes["PGD"])


def test_rate_is_estimated_for_an_iterative_proximal_operator() -> None:
    kernel = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    physics = dinv.physics.Blur(filter=kernel / kernel.sum(), padding="replicate")
    model = model_of("HQS", data_fidelity=deq.optim.RidgeL2(kappa=0.2), stepsize=10.0)
    known = contraction(model, physics)
    assert known.rate.kind is known.stability.kind is Kind.ESTIMATED
    assert "iterative" in known.rate.source
    circular = deq.physics.ChannelwiseBlur(kernel, padding="circular")
    for closed in (
        dinv.physics.BlurFFT(IMAGE, filter=kernel),
        dinv.physics.Downsampling(
            (3, 4, 4), filter=kernel, factor=2, padding="circular"
        ),
        circular,
    ):
        size = getattr(closed, "imsize", IMAGE)
        assert model.contraction(closed, size).rate.is_certified
    circular.prox_l2 = circular.prox_l2
    assert not contraction(model, circular).rate.is_certified


def test_rate_is_vacuous_if_a_method_was_replaced_on_an_instance() -> None:
    fidelity = dinv.optim.L2()
    model = model_of(data_fidelity=fidelity)
    assert contraction(model, half_mask()).rate.is_certified
    fidelity.grad = lambda x, *args, **kwargs: 10 * x
    known = contraction(model, half_mask())
    assert known.rate.is_vacuous
    assert "its grad was replaced on the instance" in known.rate.source


class FirmDenoiser(dinv.models.Denoiser):
    is_firmly_nonexpansive = True

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Identity()

    def forward(self, x: Tensor, sigma: Any = None) -> Tensor:
        return self.inner(x) / 2

    def residual_bound(self, img_size: Any = None) -> Bound:
        return Bound(0.5)


class TripledDenoiser(FirmDenoiser):
    def forward(self, x: Tensor, sigma: Any = None) -> Tensor:
        return 3 * super().forward(x, sigma)


class Annotated(FirmDenoiser):
    def extra_repr(self) -> str:
        return "the same map"


@pytest.mark.parametrize("algorithm", ["PGD", "GD", "DRS"])
def test_declarations_are_void_if_forward_is_overridden(algorithm: str) -> None:
    implicit = dinv.optim.RED if algorithm == "GD" else dinv.optim.PnP

    def rate(denoiser: dinv.models.Denoiser) -> Bound:
        model = model_of(algorithm, prior=implicit(denoiser))
        return contraction(model, half_mask()).rate

    assert rate(FirmDenoiser()).value < math.inf
    assert rate(Annotated()).value < math.inf
    assert rate(TripledDenoiser()).is_vacuous
    hooked = FirmDenoiser()
    hooked.inner.register_forward_hook(lambda module, args, output: 3 * output)
    assert "forward hooks" in rate(hooked).source
    function = implicit(lambda x, sigma: x)
    unknown = contraction(model_of(algorithm, prior=function), half_mask()).rate
    assert "must be a torch.nn.Module" in unknown.source
    replaced = FirmDenoiser()
    replaced.forward = lambda x, sigma=None: 3 * x
    assert "forward was replaced" in rate(replaced).source


def test_gradient_bounds_are_void_if_grad_is_overridden() -> None:
    class Quadratic(dinv.optim.Prior):
        def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return x

        def gradient_bounds(self, img_size: Any = None) -> Interval:
            return Interval(Bound(1.0, is_lower=True), Bound(1.0))

    class Tenfold(Quadratic):
        def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return 10 * x

    def rate(prior: dinv.optim.Prior) -> Bound:
        return contraction(model_of("GD", prior=prior), half_mask()).rate

    assert rate(Quadratic()).value < math.inf
    assert "gradient of Tenfold" in rate(Tenfold()).source


@pytest.mark.parametrize("value", [-0.5, math.inf, math.nan])
def test_rate_is_vacuous_for_step_sizes_out_of_range(value: float) -> None:
    model = model_of(stepsize=0.5, trainable_params=[])
    model.params_algo["stepsize"][0] = value
    known = contraction(model, half_mask())
    assert known.rate.is_vacuous
    assert f"stepsize is {value}" in known.rate.source


def test_rate_is_vacuous_for_several_noise_levels() -> None:
    fidelity = dinv.optim.L2(sigma=torch.tensor([0.5, 1.0]))
    known = contraction(model_of(data_fidelity=fidelity), half_mask())
    assert "several values of sigma" in known.rate.source


@pytest.mark.parametrize("when", ["at the construction", "later"])
def test_stability_is_vacuous_for_a_custom_output(when: str) -> None:
    def output(X: dict[str, Any]) -> Any:
        return 5 * X["est"][0]

    model = model_of(**({} if when == "later" else {"get_output": output}))
    model.get_output = output
    known = contraction(model, half_mask())
    assert known.rate.value < 1
    assert "get_output" in known.stability.source


def test_rate_is_vacuous_for_a_subclass_of_the_iterator() -> None:
    class Doubled(PGDIteration):
        def forward(self, X: Any, *args: Any, **kwargs: Any) -> Any:
            X = super().forward(X, *args, **kwargs)
            return {"est": (2 * X["est"][0],), "cost": None}

    model = model_of()
    model.fixed_point.iterator.__class__ = Doubled
    assert "Doubled" in contraction(model, half_mask()).rate.source
