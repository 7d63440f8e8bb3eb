"""DE-GRAD, DE-PROX and DE-ADMM, compared with closed forms and theorems."""

from __future__ import annotations

from pathlib import Path

import deepinv as dinv
import pytest
import torch
from deepinv.physics import Denoising

import deepinv_equilibrium as deq
from deepinv_equilibrium import plugins
from deepinv_equilibrium.models import BoundedDnCNN

from ..dense_jacobian import dense_jacobian
from ..quiet_trainer import train_for_an_epoch

NAMES = ["de-grad", "de-prox", "de-admm"]
OPTIMIZERS = dict(
    zip(NAMES, (deq.optim.GD, deq.optim.PGD, deq.optim.ADMM), strict=True)
)
DOUBLE = {"dtype": torch.float64}


class Gain(dinv.models.Denoiser):
    r"""The linear denoiser :math:`c x`."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain, **DOUBLE))

    def forward(self, x: torch.Tensor, sigma: object) -> torch.Tensor:
        return self.gain * x


def closed_form(name: str, c: float, eta: float) -> float:
    """Return x / y at the fixed point for A = I and D(x) = c x."""
    if name == "de-grad":  # x - y + (x - c x) = 0
        return 1 / (2 - c)
    return c * eta / (1 - c + c * eta)  # x = c (x - eta (x - y))


def network(in_channels: int = 1, **arguments: object) -> BoundedDnCNN:
    torch.manual_seed(0)
    return BoundedDnCNN(in_channels, depth=3, filters=4, **arguments)


def contractive(in_channels: int = 1, epsilon: float = 0.8) -> BoundedDnCNN:
    return network(in_channels, epsilon=epsilon, residual=False)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 3])
def test_fixed_point_and_gradient_have_closed_forms(name: str, batch: int) -> None:
    c, eta = 0.9, 0.4
    denoiser = Gain(c)
    model = plugins.create(
        "reconstructors",
        name,
        denoiser=denoiser,
        stepsize=eta,
        solver=deq.Anderson(history_size=5, rtol=1e-13),
        adjoint=deq.Implicit(deq.Anderson(history_size=5, rtol=1e-13)),
        on_failure="raise",
    )
    assert type(model) is OPTIMIZERS[name]
    y = torch.rand(batch, 2, 4, 3, **DOUBLE)
    x = model(y, Denoising())
    gain = closed_form(name, c, eta)
    # The step size is stored in float32.
    torch.testing.assert_close(x, gain * y, rtol=1e-7, atol=0)
    x.sum().backward()
    h = 1e-6
    slope = (closed_form(name, c + h, eta) - closed_form(name, c - h, eta)) / (2 * h)
    assert denoiser.gain.grad.item() == pytest.approx(slope * y.sum().item(), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_default_settings_are_those_of_the_paper(name: str) -> None:
    model = plugins.create("reconstructors", name, denoiser=Gain(0.5))
    expected = deq.Anderson(history_size=5, beta=1.0, max_iter=100, rtol=1e-5)
    assert model.DEQ_config.solver == expected
    assert model.DEQ_config.adjoint == deq.Implicit(expected)
    learned = [key for key, _ in model.named_parameters()]
    assert learned == ["prior.0.denoiser.gain"]
    trained = plugins.create(
        "reconstructors", name, denoiser=Gain(0.5), trainable_params=["stepsize"]
    )
    assert any("stepsize" in key for key, _ in trained.named_parameters())


@pytest.mark.parametrize("name", NAMES)
def test_preset_raises_for_unknown_argument_and_other_denoiser(name: str) -> None:
    with pytest.raises(TypeError, match=r"'stepsiz'; did you mean 'stepsize'"):
        plugins.create("reconstructors", name, denoiser=Gain(0.5), stepsiz=1.0)
    with pytest.raises(TypeError, match="denoiser must be an instance of"):
        plugins.create("reconstructors", name, denoiser=torch.nn.Identity())


@pytest.mark.parametrize("epsilon", [0.5, 0.8, 0.99])
@pytest.mark.parametrize("eta", [0.2, 0.5])
def test_certified_rate_of_de_grad_is_that_of_theorem_1(
    epsilon: float, eta: float
) -> None:
    mask = (torch.arange(64).reshape(8, 8) % 3 == 0).double()
    physics = dinv.physics.MRI(mask=mask)  # mu = 0, L = 1
    denoiser = contractive(2, epsilon).double()
    model = plugins.create("reconstructors", "de-grad", denoiser=denoiser, stepsize=eta)
    rate = deq.certify(model, physics, (2, 8, 8)).rate
    assert rate.is_certified
    residual = deq.lipschitz(denoiser).value  # of S - I = -D
    assert residual <= epsilon * (1 + 1e-10)
    theorem = 1 - eta + eta * residual
    assert rate.value == pytest.approx(theorem, rel=1e-6)
    step, x0 = model.fixed_point_problem(
        physics.A(torch.rand(1, 2, 8, 8, **DOUBLE)), physics
    )
    norm = torch.linalg.matrix_norm(dense_jacobian(step, x0), 2)
    assert norm <= rate.value < 1


def test_step_of_de_grad_has_the_gradient_of_half_the_squared_error() -> None:
    # x - eta (A^T(Ax - y) + S(x)) with S = I - D.
    denoiser, eta = contractive(2).double(), 0.5
    physics = dinv.physics.MRI(mask=torch.ones(6, 6, **DOUBLE))
    y = physics.A(torch.rand(1, 2, 6, 6, **DOUBLE))
    model = plugins.create("reconstructors", "de-grad", denoiser=denoiser)
    step, _ = model.fixed_point_problem(y, physics)
    x = torch.rand(1, 2, 6, 6, **DOUBLE)
    gradient = physics.A_adjoint(physics.A(x) - y)
    expected = x - eta * (gradient + x - denoiser(x))
    torch.testing.assert_close(step(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["de-prox", "de-admm"])
def test_residual_network_is_certified_if_mu_is_positive(name: str) -> None:
    kernel = torch.zeros(1, 1, 3, 3)
    kernel[0, 0, 1] = torch.tensor([0.1, 0.8, 0.1])
    blur = dinv.physics.BlurFFT((1, 8, 8), filter=kernel)  # mu = .36, L = 1
    denoiser = network(epsilon=0.2)
    model = plugins.create("reconstructors", name, denoiser=denoiser)
    rate = deq.certify(model, blur, (1, 8, 8)).rate
    assert rate.is_certified
    assert rate.value < 1
    inpainting = dinv.physics.Inpainting((1, 8, 8), mask=0.5)  # mu = 0
    assert not deq.certify(model, inpainting, (1, 8, 8)).contracts


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_model_trains_saves_loads_and_treats_samples_separately(
    name: str, channels: int, tmp_path: Path
) -> None:
    def build() -> torch.nn.Module:
        denoiser = (
            contractive(channels)
            if name == "de-grad"
            else network(channels, epsilon=0.2)
        )
        return plugins.create(
            "reconstructors", name, denoiser=denoiser, on_failure="raise"
        )

    torch.manual_seed(0)
    x = torch.rand(4, channels, 6, 5)
    physics = Denoising(dinv.physics.GaussianNoise(0.1))
    pairs = [{"x": image, "y": physics(image[None])[0]} for image in x]
    model = build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    trained = train_for_an_epoch(model, physics, optimizer, pairs, batch_size=2)
    key = "prior.0.denoiser.layers.0.weight"
    assert not torch.equal(before[key], trained.state_dict()[key])

    torch.save(trained.state_dict(), tmp_path / "model.pt")
    twin = build()
    twin.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    y = torch.stack([pair["y"] for pair in pairs])
    with torch.no_grad():
        together = trained(y, physics)
        assert torch.equal(twin(y, physics), together)
        alone = torch.cat([trained(y[i : i + 1], physics) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)
