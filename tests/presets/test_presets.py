"""The registered reconstructors against the closed forms of a linear denoiser."""

from __future__ import annotations

import deepinv as dinv
import pytest
import torch
from deepinv.physics import Denoising

import deepinv_equilibrium as deq
from deepinv_equilibrium import plugins
from deepinv_equilibrium.models import ConvexPotentialDenoiser
from deepinv_equilibrium.presets import certified_deq_pgd

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
    """The gain x / y at the fixed point, for A = I and D(x) = c x."""
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
def test_the_fixed_point_is_that_of_the_named_algorithm(
    name: str, arguments: dict[str, float], y: torch.Tensor
) -> None:
    if name == "deq-pdcp":
        # deepinv rounds 1 / 0.9 to float32 in its proximal map; 1 / 0.5 is exact.
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


def test_retune_applies_layers_times_restarts_iterations(y: torch.Tensor) -> None:
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
def test_the_denoiser_and_the_default_parameters_are_learned(
    name: str, y: torch.Tensor
) -> None:
    denoiser = Wiener(0.9)
    model = plugins.create("reconstructors", name, denoiser=denoiser)
    model(y, Denoising()).square().sum().backward()
    gradients = {key: p.grad for key, p in model.named_parameters()}
    learned = {key.split(".")[1] for key in gradients if key.startswith("params_algo")}
    assert learned == {"stepsize", "g_param"}
    assert denoiser.weight.grad > 0  # less shrinkage, more energy
    assert any(p is denoiser.weight for p in model.parameters())


@pytest.mark.parametrize("name", EQUILIBRIA)
def test_the_configuration_reaches_the_model(name: str) -> None:
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


def test_the_default_steps_of_the_primal_dual_method_are_admissible() -> None:
    model = plugins.create("reconstructors", "deq-pdcp", denoiser=Wiener())
    tau, sigma = (
        float(torch.as_tensor(model.params_algo[key][0]).detach())
        for key in ("stepsize", "stepsize_dual")
    )
    assert 0 < tau * sigma < 1


def test_the_denoiser_can_be_given_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {kind: {} for kind in plugins.KINDS})
    plugins.register("denoisers", "wiener", Wiener)
    model = plugins.create("reconstructors", "retune-pgd", denoiser="wiener")
    assert type(model.prior[0].denoiser) is Wiener


@pytest.mark.parametrize("name", ["retune-pgd", "deq-drs"])
def test_a_bad_denoiser_is_named(name: str) -> None:
    for bad in (torch.nn.Identity(), Wiener, 3):
        with pytest.raises(TypeError, match="denoiser must be an instance of"):
            plugins.create("reconstructors", name, denoiser=bad)
    with pytest.raises(ValueError, match=r"'drunnet'.*Did you mean 'drunet'"):
        plugins.create("reconstructors", name, denoiser="drunnet")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_unknown_argument_is_named(name: str) -> None:
    with pytest.raises(TypeError, match=r"'stepsiz'; did you mean 'stepsize'"):
        plugins.create("reconstructors", name, denoiser=Wiener(), stepsiz=1.0)


@pytest.mark.parametrize("name", [*EQUILIBRIA, "certified-deq-pgd"])
def test_the_arguments_of_the_preset_are_among_the_known(name: str) -> None:
    denoiser = contractive(contraction=0.9)
    with pytest.raises(TypeError, match=r"'sovler'; did you mean 'solver'") as caught:
        plugins.create("reconstructors", name, denoiser=denoiser, sovler=1)
    known = str(caught.value).partition("It has: ")[2].rstrip(".").split(", ")
    own = ["solver", "adjoint", "layers", "on_failure", "stepsize", "trainable_params"]
    assert {*own} <= {*known}
    assert len(known) == len({*known})
    with pytest.raises(TypeError, match="takes no argument 'prior'"):
        plugins.create("reconstructors", name, denoiser=denoiser, prior=None)


def test_the_arguments_of_retune_are_among_the_known() -> None:
    with pytest.raises(TypeError, match=r"'restart'; did you mean 'restarts'"):
        plugins.create("reconstructors", "retune-pgd", denoiser=Wiener(), restart=3)


def test_a_preset_is_trained_by_the_trainer() -> None:
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


def contractive(**arguments: float) -> ConvexPotentialDenoiser:
    torch.manual_seed(0)
    return ConvexPotentialDenoiser(pretrained=None, **arguments).double()


def test_the_certified_preset_is_a_contraction_with_one_fixed_point(
    y: torch.Tensor,
) -> None:
    denoiser = contractive(contraction=0.9)
    model = plugins.create(
        "reconstructors",
        "certified-deq-pgd",
        denoiser=denoiser,
        solver=deq.Anderson(rtol=1e-12, max_iter=300),
        on_failure="raise",
        stepsize=0.5,
    )
    assert type(model) is deq.optim.PGD
    x = model(y, Denoising())
    # deepinv keeps the noise level in float32.
    expected = denoiser((x + y) / 2, 0.03)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-7)
    x.square().sum().backward()
    learned = {key for key, p in model.named_parameters() if p.grad is not None}
    assert any(key.startswith("params_algo.g_param") for key in learned)
    assert not any("stepsize" in key for key in learned)
    assert all(p.grad is not None for p in denoiser.parameters())


def test_the_certified_preset_takes_the_bundled_denoiser() -> None:
    for contraction in (0.99, 0.9):
        model = certified_deq_pgd(contraction=contraction)
        denoiser = model.prior[0].denoiser
        assert type(denoiser) is ConvexPotentialDenoiser
        bound = deq.lipschitz(denoiser)
        assert bound.is_certified
        assert bound.value == pytest.approx(contraction, rel=1e-11)


@pytest.mark.parametrize(
    ("denoiser", "message"),
    [
        (contractive(), "denoiser must be proved to be strictly contractive.*<= 1 "),
        (Wiener(0.5), "Wiener cannot be certified"),
    ],
)
def test_the_certified_preset_refuses_what_is_not_contractive(
    denoiser: dinv.models.Denoiser, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        certified_deq_pgd(denoiser)


def test_the_certified_preset_names_a_bad_denoiser() -> None:
    with pytest.raises(TypeError, match="denoiser must be an instance of"):
        certified_deq_pgd(torch.nn.Identity())
    with pytest.raises(ValueError, match=r"contraction must be in \(0, 1\], got 2"):
        certified_deq_pgd(contraction=2.0)


@pytest.mark.parametrize(
    "physics",
    [
        dinv.physics.Inpainting((3, 12, 12), mask=0.5),
        dinv.physics.BlurFFT((3, 12, 12), filter=torch.full((1, 1, 3, 3), 1 / 9)),
    ],
)
def test_the_certified_preset_is_certified(physics: dinv.physics.Physics) -> None:
    model = certified_deq_pgd(contractive(contraction=0.9))
    certificate = deq.certify(model, physics, (3, 12, 12))
    assert certificate.rate.is_certified
    assert certificate.rate.value == pytest.approx(0.9, rel=1e-6)


def test_the_certified_rate_is_near_the_norm_of_the_jacobian() -> None:
    img_size = (1, 24, 24)
    kernel = dinv.physics.functional.gaussian_blur(sigma=(1.0, 1.0)).double()
    physics = dinv.physics.BlurFFT(img_size, filter=kernel)
    model = certified_deq_pgd(
        ConvexPotentialDenoiser(1, contraction=0.9), sigma_denoiser=0.01
    ).double()
    rate = deq.certify(model, physics, img_size).rate
    assert rate.is_certified

    photo = deq.datasets.Photos("test", grey=True, img_size=24)[0]["x"][None].double()
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    y = physics.A(photo) + 0.05 * noise.double()
    step, _ = model.fixed_point_problem(y, physics)
    with torch.no_grad():
        solution = model(y, physics)
    jacobian = torch.autograd.functional.jacobian(step, solution)
    norm = torch.linalg.matrix_norm(jacobian.reshape(24**2, 24**2), 2).item()
    assert norm <= rate.value <= 1.1 * norm


def test_its_certified_rate_makes_a_safeguarded_solver() -> None:
    img_size = (1, 24, 24)
    kernel = dinv.physics.functional.gaussian_blur(sigma=(1.0, 1.0))
    physics = dinv.physics.BlurFFT(img_size, filter=kernel)
    denoiser = ConvexPotentialDenoiser(1, contraction=0.99)
    rate = deq.certify(certified_deq_pgd(denoiser), physics, img_size).rate
    solver = deq.Safeguarded(deq.Anderson(), rate, rtol=1e-5)
    model = certified_deq_pgd(denoiser, solver=solver)
    y = physics.A(torch.rand(2, *img_size, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        model(y, physics)
    assert model.solution.converged.all()
    assert (model.solution.evaluations < solver.evaluations_to(1e-5)).all()
