"""Plug-and-play presets, compared with closed forms for a linear denoiser."""

from __future__ import annotations

import deepinv as dinv
import pytest
import torch
from deepinv.physics import Denoising

import deepinv_equilibrium as deq
from deepinv_equilibrium import plugins

from ..one_test import in_one_test
from ..quiet_trainer import train_for_an_epoch

EQUILIBRIA = ["deq-pgd", "deq-gd", "deq-hqs", "deq-admm", "deq-drs", "deq-pdcp"]
OPTIMIZERS = {
    name: getattr(deq.optim, name.split("-")[1].upper())
    for name in [*EQUILIBRIA, "retune-pgd"]
}


class Wiener(dinv.models.Denoiser):
    r"""The linear denoiser :math:`w x / (1 + \sigma^2)`."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight, dtype=torch.float64))

    def forward(self, x: torch.Tensor, sigma, **kwargs) -> torch.Tensor:
        return self.weight * x / (1 + sigma**2)


def closed_form(name: str, c: float, tau: float, lam: float = 1.0) -> float:
    """Return x / y at the fixed point for A = I and D(x) = c x."""
    if name == "deq-gd":  # x - y + lam (x - c x) = 0
        return 1 / (1 + lam * (1 - c))
    if name == "deq-hqs":  # x = c (x + tau y) / (1 + tau)
        return c * tau / (1 + tau - c)
    return c * tau / (1 - c + c * tau)  # x = c (x - tau (x - y))


@pytest.fixture
def y() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", EQUILIBRIA)
@pytest.mark.parametrize("arguments", [{}, {"stepsize": 0.4, "sigma_denoiser": 0.5}])
def test_fixed_point_has_the_closed_form_of_the_algorithm(
    name: str, arguments: dict[str, float], y: torch.Tensor
) -> None:
    if name == "deq-pdcp":
        # deepinv rounds 1 / 0.9 in its proximal operator to float32; 1 / 0.5 is exact.
        arguments = {**arguments, "stepsize_dual": 0.5}
    model = plugins.create(
        "reconstructors",
        name,
        denoiser=Wiener(),
        solver=deq.Anderson(rtol=1e-13, max_iter=500),
        on_failure="raise",
        trainable_params=[],
        **arguments,
    )
    assert type(model) is OPTIMIZERS[name]
    sigma = arguments.get("sigma_denoiser", 0.03)
    tau = arguments.get("stepsize", 1.0)
    gain = closed_form(name, 1 / (1 + sigma**2), tau)
    torch.testing.assert_close(model(y, Denoising()), gain * y, rtol=1e-9, atol=1e-12)


def test_retune_makes_layers_times_restarts_iterations(y: torch.Tensor) -> None:
    arguments = {"stepsize": 0.4, "sigma_denoiser": 0.5, "trainable_params": []}
    model = plugins.create(
        "reconstructors",
        "retune-pgd",
        denoiser=Wiener(),
        layers=3,
        restarts=2,
        **arguments,
    )
    assert type(model) is deq.optim.PGD
    x = y
    for _ in range(6):
        x = (x - 0.4 * (x - y)) / 1.25
    torch.testing.assert_close(model(y, Denoising()), x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradient_reaches_denoiser_step_size_and_noise_level(
    name: str, y: torch.Tensor
) -> None:
    denoiser = Wiener(0.9)
    model = plugins.create("reconstructors", name, denoiser=denoiser)
    model(y, Denoising()).square().sum().backward()
    gradients = {key: p.grad for key, p in model.named_parameters()}
    learned = {key.split(".")[1] for key in gradients if key.startswith("params_algo")}
    assert learned == {"stepsize", "g_param"}
    assert denoiser.weight.grad > 0  # a larger weight increases the energy
    assert any(p is denoiser.weight for p in model.parameters())


@in_one_test("name", EQUILIBRIA)
def test_preset_passes_the_configuration_to_the_model(name: str) -> None:
    solver, adjoint = deq.Picard(max_iter=7), deq.JacobianFree()
    model = plugins.create(
        "reconstructors",
        name,
        denoiser=Wiener(),
        solver=solver,
        adjoint=adjoint,
        layers=2,
        on_failure="ignore",
    )
    configuration = model.DEQ_config
    assert (configuration.solver, configuration.adjoint) == (solver, adjoint)
    assert (configuration.layers, configuration.on_failure) == (2, "ignore")


def test_default_step_sizes_of_pdcp_have_a_product_below_1() -> None:
    model = plugins.create("reconstructors", "deq-pdcp", denoiser=Wiener())
    tau, sigma = (
        float(torch.as_tensor(model.params_algo[key][0]).detach())
        for key in ("stepsize", "stepsize_dual")
    )
    assert 0 < tau * sigma < 1


def test_preset_creates_denoiser_from_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {kind: {} for kind in plugins.KINDS})
    plugins.register("denoisers", "wiener", Wiener)
    model = plugins.create("reconstructors", "retune-pgd", denoiser="wiener")
    assert type(model.prior[0].denoiser) is Wiener


@pytest.mark.parametrize("name", ["retune-pgd", "deq-drs"])
def test_preset_raises_for_other_denoiser_or_unknown_name(name: str) -> None:
    for bad in (torch.nn.Identity(), Wiener, 3):
        with pytest.raises(TypeError, match="denoiser must be an instance of"):
            plugins.create("reconstructors", name, denoiser=bad)
    with pytest.raises(ValueError, match=r"'drunnet'.*Did you mean 'drunet'"):
        plugins.create("reconstructors", name, denoiser="drunnet")


@in_one_test("name", OPTIMIZERS)
def test_preset_raises_for_unknown_argument_and_suggests_the_closest(name: str) -> None:
    with pytest.raises(TypeError, match=r"'stepsiz'; did you mean 'stepsize'"):
        plugins.create("reconstructors", name, denoiser=Wiener(), stepsiz=1.0)


@in_one_test("name", [*EQUILIBRIA, "certified-deq-pgd"])
def test_message_about_unknown_argument_lists_arguments_of_preset_and_model(
    name: str,
) -> None:
    denoiser = "ridge-prox"
    with pytest.raises(TypeError, match=r"'sovler'; did you mean 'solver'") as caught:
        plugins.create("reconstructors", name, denoiser=denoiser, sovler=1)
    known = str(caught.value).partition("It has: ")[2].rstrip(".").split(", ")
    own = ["solver", "adjoint", "layers", "on_failure", "stepsize", "trainable_params"]
    assert {*own} <= {*known}
    assert len(known) == len({*known})
    with pytest.raises(TypeError, match="takes no argument 'prior'"):
        plugins.create("reconstructors", name, denoiser=denoiser, prior=None)


def test_message_about_unknown_argument_lists_arguments_of_retune() -> None:
    with pytest.raises(TypeError, match=r"'restart'; did you mean 'restarts'"):
        plugins.create("reconstructors", "retune-pgd", denoiser=Wiener(), restart=3)


def test_trainer_updates_denoiser_and_step_size() -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 1, 8, 8)
    physics = Denoising(dinv.physics.GaussianNoise(0.1))
    y = physics(x)
    pairs = [{"x": x[i], "y": y[i]} for i in range(len(x))]
    model = plugins.create(
        "reconstructors", "retune-pgd", denoiser=Wiener().float(), layers=2, restarts=3
    )
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    trained = train_for_an_epoch(model, physics, optimizer, pairs, batch_size=2)
    after = trained.state_dict()
    assert after.keys() == before.keys()
    for key in ("prior.0.denoiser.weight", "params_algo.stepsize.0"):
        assert not torch.equal(after[key], before[key])
