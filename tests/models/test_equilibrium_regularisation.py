"""Equilibrium regularisation: solution, gradients, certificate and checks."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.models import Denoiser
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound, Kind
from deepinv_equilibrium.models import (
    ConvexPotentialDenoiser,
    EquilibriumRegularisation,
    SmallDRUNet,
)

from ..dense_jacobian import dense_jacobian
from ..quiet_trainer import train_for_an_epoch

SOLVER = deq.Anderson(rtol=1e-13, max_iter=500)
ADJOINT = deq.Implicit(deq.GMRES(rtol=1e-12))


class Shrinkage(Denoiser):
    """The denoiser q x, for which the solution has a closed form."""

    def __init__(self, q: float) -> None:
        super().__init__()
        self.q = torch.nn.Parameter(torch.tensor(q, dtype=torch.float64))

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        return self.q * x

    def lipschitz_bound(self, img_size: Any = None) -> Bound:
        return Bound(abs(float(self.q.detach())), source="shrinkage")


def random_denoiser(in_channels: int = 1, contraction: float = 0.9) -> Denoiser:
    denoiser = ConvexPotentialDenoiser(
        in_channels, contraction=contraction, pretrained=None, layers=2, kernel_size=3
    )
    return denoiser.double()


def build(denoiser: Denoiser, alpha: float = 0.1, **options: Any) -> Any:
    options = {"DEQ": deq.Equilibrium(SOLVER, ADJOINT), **options}
    return EquilibriumRegularisation(denoiser, alpha, **options).double()


KERNEL = dinv.physics.functional.gaussian_blur(sigma=(0.6, 0.6)).double()


def blur(size: tuple[int, ...]) -> dinv.physics.Physics:
    """Return a blur whose proximal operator has a closed form."""
    return dinv.physics.BlurFFT(size, filter=KERNEL)


def reflecting_blur() -> dinv.physics.Physics:
    """Return a blur whose proximal operator is computed iteratively."""
    return dinv.physics.Blur(KERNEL, padding="reflect", tol=1e-13, max_iter=500)


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64)


def test_solution_and_gradients_have_closed_forms_for_a_linear_denoiser() -> None:
    q, alpha = 0.4, 0.3
    model, y = build(Shrinkage(q), alpha), images(2, 1, 5, 4)
    mask = (torch.rand(1, 5, 4, dtype=torch.float64) > 0.5).double()
    physics = dinv.physics.Inpainting((1, 5, 4), mask=mask)
    x = model(y, physics)
    expected = mask * y / (mask + model.alpha * (1 - q))
    torch.testing.assert_close(x, expected, rtol=1e-12, atol=1e-14)
    x.sum().backward()
    shift = model.alpha * (1 - q)
    slope = -(mask * y / (mask + shift) ** 2).sum()
    expected_q, expected_log = -model.alpha * slope, shift * slope
    torch.testing.assert_close(model.denoiser.q.grad, expected_q)
    torch.testing.assert_close(model.log_alpha.grad, expected_log)


@pytest.mark.parametrize("physics", [blur((3, 5, 6)), reflecting_blur()])
def test_solution_satisfies_the_equation(physics: Any) -> None:
    model, x = build(random_denoiser(3), 0.05), images(2, 3, 5, 6)
    y = physics.A(x)
    with torch.no_grad():
        solution = model(y, physics)
        data = physics.A_adjoint(physics.A(solution) - y)
        G = solution - model.denoiser(solution, model.sigma_denoiser)
    torch.testing.assert_close(data, -model.alpha * G, rtol=1e-7, atol=1e-11)
    assert bool(model.solution.converged.all())


@pytest.mark.parametrize("physics", [blur((1, 4, 5)), reflecting_blur()])
def test_gradients_agree_with_finite_differences(physics: Any) -> None:
    model, y = build(random_denoiser(), 0.2), images(1, 1, 4, 5).requires_grad_()
    target = images(1, 1, 4, 5)

    def loss() -> Tensor:
        return ((model(y, physics) - target) ** 2).sum()

    inputs = [y, *model.parameters()]
    gradients = torch.autograd.grad(loss(), inputs)
    directions = [torch.randn_like(value) for value in inputs]
    products = zip(gradients, directions, strict=True)
    product = torch.stack([(g * d).sum() for g, d in products]).sum()
    values, h = [], 1e-5
    with torch.no_grad():
        for shift in (h, -2 * h):
            for value, direction in zip(inputs, directions, strict=True):
                value += shift * direction
            values.append(loss())
    slope = (values[0] - values[1]) / (2 * h)
    torch.testing.assert_close(product, slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("closed", [True, False])
def test_certificate_bounds_dense_jacobians(closed: bool) -> None:
    size = (1, 6, 5)
    physics = blur(size) if closed else reflecting_blur()
    model = build(random_denoiser(contraction=0.8), 0.5)
    certificate = deq.certify(model, physics, size)
    assert certificate.rate.kind is (Kind.CERTIFIED if closed else Kind.ESTIMATED)
    assert certificate.rate.value < 0.8 + 1e-12
    assert certificate.stability.is_certified
    assert certificate.stability.value <= 1 / (2 * math.sqrt(0.5 * 0.2)) + 1e-6
    y = images(1, *size)
    step, _ = model.fixed_point_problem(y, physics)
    with torch.no_grad():
        x = model(y, physics)
    local = torch.linalg.matrix_norm(dense_jacobian(step, x), 2)
    assert local <= certificate.rate.value + 1e-12
    moves = dense_jacobian(lambda v: model(v, physics), y)
    assert torch.linalg.matrix_norm(moves, 2) <= certificate.stability.value


@pytest.mark.parametrize("alpha", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("closed", [True, False])
def test_certified_sensitivity_is_close_to_the_norm_of_a_dense_jacobian(
    closed: bool, alpha: float
) -> None:
    torch.manual_seed(0)
    size = (1, 8, 8)
    physics = blur(size) if closed else reflecting_blur()
    config = deq.Equilibrium(SOLVER, ADJOINT, layers=2)
    model = build(random_denoiser(), alpha, DEQ=config)
    layers = deq.certify(model, physics, size).contraction.layers
    assert len(layers) == 2
    model.DEQ = deq.Equilibrium(SOLVER, ADJOINT)
    x, y = images(1, *size), images(1, *size)

    def moved(y: Tensor) -> Tensor:
        return model.fixed_point_problem(y, physics)[0](x.expand_as(y))

    truth = float(torch.linalg.matrix_norm(dense_jacobian(moved, y), 2))
    for layer in layers:
        assert truth <= layer.sensitivity.value * (1 + 1e-9)
        assert layer.sensitivity.value <= 1.5 * truth


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.floats(0.02, 3.0), st.floats(0.2, 0.95))
def test_certificate_bounds_jacobians_of_random_networks(
    seed: int, alpha: float, contraction: float
) -> None:
    torch.manual_seed(seed)
    size = (1, 4, 5)
    physics, model = blur(size), build(random_denoiser(1, contraction), alpha)
    certificate = deq.certify(model, physics, size)
    assert certificate.rate.is_certified
    assert certificate.stability.is_certified
    y, x = 3 * torch.randn(2, 1, *size, dtype=torch.float64)
    step, _ = model.fixed_point_problem(y, physics)
    norm = torch.linalg.matrix_norm(dense_jacobian(step, x), 2)
    assert norm <= certificate.rate.value * (1 + 1e-10)
    moves = dense_jacobian(lambda v: model(v, physics), y)
    assert torch.linalg.matrix_norm(moves, 2) <= certificate.stability.value + 1e-9


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.floats(1e-9, 1e-3))
def test_rate_bounds_the_step_of_a_float32_weight_and_a_float32_mask(
    seed: int, shrinkage: float
) -> None:
    r"""With :math:`N = (1 - \epsilon) I` the step multiplies each pixel by a number
    that rounding in float32 would make 1."""

    class Scaling(dinv.models.Denoiser):
        def forward(self, x: Tensor, sigma: Any = None, **kwargs: Any) -> Tensor:
            return (1 - shrinkage) * x

        def lipschitz_bound(self, img_size: Any = None) -> Bound:
            return Bound(1 - shrinkage)

    torch.manual_seed(seed)
    size = (1, 2, 3)
    mask = torch.rand(size) * (torch.rand(size) > 0.3)
    physics = dinv.physics.Inpainting(size, mask=mask)
    model = deq.models.EquilibriumRegularisation(Scaling(), float(torch.rand(())) + 0.1)
    eye = torch.eye(6, dtype=torch.float64).reshape(6, *size)
    step, _ = model.fixed_point_problem(0 * eye, physics)
    with torch.no_grad():
        truth = torch.linalg.matrix_norm(step(eye).flatten(1), 2)
    rate = deq.certify(model, physics, size).rate
    assert rate.is_certified
    assert truth <= rate.value


def test_layers_multiply_the_rate_and_do_not_change_the_solution() -> None:
    physics, y = blur((1, 8, 8)), images(1, 1, 8, 8)
    denoiser = random_denoiser()
    one = build(denoiser)
    three = build(denoiser, DEQ=deq.Equilibrium(SOLVER, ADJOINT, layers=3))
    with torch.no_grad():
        torch.testing.assert_close(one(y, physics), three(y, physics))
    rates = [deq.certify(m, physics, (1, 8, 8)).rate.value for m in (one, three)]
    assert rates[1] == pytest.approx(rates[0] ** 3)


def test_error_bound_holds_under_the_source_condition() -> None:
    size = (1, 8, 7)
    physics = blur(size)
    model = build(random_denoiser())
    w = 0.1 * torch.randn(1, *size, dtype=torch.float64)
    noise = torch.randn(1, *size, dtype=torch.float64)
    with torch.no_grad():
        truth = images(1, *size)
        for _ in range(400):
            truth = physics.A_adjoint(w) + model.denoiser(truth, model.sigma_denoiser)
        for delta in (1e-1, 1e-2):
            model.alpha = deq.certificates.parameter_choice(delta, float(w.norm()))
            y = physics.A(truth) + delta * noise / noise.norm()
            bound = model.error_bound(delta, float(w.norm()), size)
            assert bound.is_certified
            assert (model(y, physics) - truth).norm() <= bound.value


def test_samples_are_independent() -> None:
    physics, y = reflecting_blur(), images(2, 1, 5, 5)
    model = build(random_denoiser())
    with torch.no_grad():
        together = model(y, physics)
        alone = torch.cat([model(sample[None], physics) for sample in y])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-10)


def test_result_has_the_precision_of_the_measurement() -> None:
    model, physics = build(random_denoiser(3)), dinv.physics.Denoising()
    y = images(1, 3, 7, 8)
    with torch.no_grad():
        expected = model(y, physics)
        model.float().DEQ = deq.Equilibrium(deq.Anderson(rtol=1e-6))
        x = model(y.float(), physics)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.double(), expected, rtol=0, atol=1e-5)


def test_alpha_can_be_trained_saved_and_set(tmp_path: Path) -> None:
    physics = dinv.physics.Denoising()
    denoiser = ConvexPotentialDenoiser(
        1, contraction=0.9, pretrained=None, layers=1, kernel_size=3
    )
    model = EquilibriumRegularisation(denoiser, alpha=0.3)
    assert model.alpha == pytest.approx(0.3)
    before = copy.deepcopy(model.state_dict())
    pairs = [{"x": torch.rand(1, 8, 8), "y": torch.rand(1, 8, 8)} for _ in range(2)]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    train_for_an_epoch(model, physics, optimizer, pairs, batch_size=2)
    assert all(
        not torch.equal(before[name], value)
        for name, value in model.state_dict().items()
        if value.is_floating_point()
    )
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = EquilibriumRegularisation(copy.deepcopy(denoiser), alpha=1.0)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert other.alpha == model.alpha
    model.alpha = 0.7
    assert model.alpha == pytest.approx(0.7)


def test_check_of_certificate_raises_after_alpha_has_changed() -> None:
    model, physics = build(random_denoiser()), dinv.physics.Denoising()
    certificate = deq.certify(model, physics, (1, 8, 8))
    model.alpha = 0.2
    with pytest.raises(ValueError, match="log_alpha"):
        certificate.check(model, physics)


def test_registry_creates_model_from_name_of_denoiser() -> None:
    model = deq.plugins.create(
        "reconstructors", "equilibrium-regularisation", denoiser="ridge-prox"
    )
    assert isinstance(model, EquilibriumRegularisation)
    assert deq.lipschitz(model.denoiser).value == pytest.approx(0.9)


def test_constructor_and_call_raise_for_wrong_arguments() -> None:
    model, y = build(Shrinkage(0.5)), images(1, 1, 4, 4)
    with pytest.raises(ValueError, match="strictly contractive"):
        EquilibriumRegularisation(ConvexPotentialDenoiser(1))
    with pytest.raises(ValueError, match="cannot be certified"):
        EquilibriumRegularisation(SmallDRUNet(1))
    for alpha in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="alpha must be in"):
            model.alpha = alpha
    with pytest.raises(ValueError, match="sigma_denoiser must be in"):
        build(Shrinkage(0.5), sigma_denoiser=-0.1)
    with pytest.raises(TypeError, match="DEQ must be"):
        build(Shrinkage(0.5), DEQ=True)
    with pytest.raises(TypeError, match="must be a deepinv Physics"):
        model(y, torch.nn.Identity())
    with pytest.raises(TypeError, match="takes no argument 'init'"):
        model(y, dinv.physics.Denoising(), init=y)
