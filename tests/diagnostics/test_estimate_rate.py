"""The estimated local rate against dense Jacobians, and its printed form."""

from __future__ import annotations

from typing import Any

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Kind
from deepinv_equilibrium.certificates.gradients.state_jacobian import StateJacobian
from deepinv_equilibrium.diagnostics import estimate_rate
from deepinv_equilibrium.fixed_points import StateLayout

from ..certificates.fixed_point_models import MODELS, SIZE, inpainting
from .step_model import PHYSICS, StepModel

F64 = torch.float64


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_step(seed: int, batch: int, n: int) -> tuple[Any, Tensor]:
    generator = rng(seed)
    weight = torch.randn(n, n, generator=generator, dtype=F64)
    weight *= 0.95 / float(torch.linalg.matrix_norm(weight, 2))
    y = 2 * torch.randn(batch, n, generator=generator, dtype=F64)
    return lambda x: torch.tanh(x @ weight + y), torch.zeros(batch, n, dtype=F64)


def dense_norm(step: Any, x: Tensor) -> float:
    """The largest norm of the samples' Jacobians."""
    rows = []
    for b in range(len(x)):

        def row(sample: Tensor, b: int = b) -> Tensor:
            return step(torch.cat([x[:b], sample[None], x[b + 1 :]]))[b].flatten()

        jacobian = torch.autograd.functional.jacobian(row, x[b])
        rows.append(torch.linalg.matrix_norm(jacobian.reshape(len(jacobian), -1), 2))
    return float(max(rows))


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 3),
    n=st.integers(1, 12),
    steps=st.integers(3, 30),
)
def test_estimate_is_above_dense_norm_of_every_sample(
    seed: int, batch: int, n: int, steps: int
) -> None:
    step, x0 = random_step(seed, batch, n)
    model = StepModel(step, x0)
    bound = estimate_rate(model, x0, PHYSICS, steps=steps, generator=rng(seed))
    solution = deq.fixed_point(step, x0, model.DEQ.solver)
    truth = dense_norm(step, solution.x)
    assert bound.value >= truth * (1 - 1e-9)
    if steps >= 20:
        assert bound.value <= 1.1 * truth


def test_estimate_names_its_kind_delta_and_point() -> None:
    step, x0 = random_step(0, 2, 8)
    bound = estimate_rate(StepModel(step, x0), x0, PHYSICS, delta=1e-4)
    assert bound.kind is Kind.ESTIMATED
    assert not bound.is_certified
    assert bound.delta == 1e-4
    assert str(bound).startswith("<~ ")
    assert "estimated with failure probability 0.0001 at the solution" in str(bound)
    with pytest.raises(ValueError, match="rate must be certified"):
        deq.Safeguarded(deq.Anderson(), bound)
    elsewhere = estimate_rate(StepModel(step, x0), x0, PHYSICS, x0 + 1)
    assert elsewhere.point == "a given state"
    truth = dense_norm(step, x0 + 1)
    assert truth <= elsewhere.value <= 1.05 * truth


def test_estimate_of_batch_is_largest_of_its_samples() -> None:
    """The slopes are 0.2 and 0.9."""
    slopes = torch.tensor([[0.2], [0.9]], dtype=F64)
    x0 = torch.zeros(2, 5, dtype=F64)
    values = [
        float(estimate_rate(StepModel(lambda x, s=s: s * x + 1, x), x, PHYSICS))
        for s, x in ((slopes, x0), (slopes[:1], x0[:1]), (slopes[1:], x0[1:]))
    ]
    assert values == pytest.approx([0.9, 0.2, 0.9], rel=0.05)
    assert values[0] >= 0.9


class TinyDenoiser(dinv.models.Denoiser):
    """Two layers that depend on the noise level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = torch.nn.Conv2d(channels, 3, 3, padding=1)
        self.outer = torch.nn.Conv2d(3, channels, 3, padding=1)

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return self.outer(torch.relu(self.inner(x))) + x / (1 + sigma)


def make_model(name: str, denoiser: Any) -> Any:
    return getattr(deq.optim, name)(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=0.5,
        sigma_denoiser=0.05,
        DEQ=deq.ReTune(layers=1, restarts=2, on_failure="ignore"),
    )


@pytest.mark.parametrize(
    ("name", "channels"),
    [(name, 1) for name in ("PGD", "HQS", "DRS", "ADMM", "PDCP", "FISTA")]
    + [(name, 3) for name in ("HQS", "DRS", "ADMM")],  # an iterative prox
)
def test_estimate_of_each_algorithm_with_closed_and_iterative_prox(
    name: str, channels: int
) -> None:
    torch.manual_seed(0)
    kernel = torch.full((1, 1, 3, 3), 1 / 9)
    model = make_model(name, TinyDenoiser(channels))
    physics: Any
    if channels == 1:
        physics = dinv.physics.BlurFFT((channels, 4, 5), filter=kernel)
    else:
        physics = dinv.physics.Blur(filter=kernel, padding="circular")
    y = torch.rand(1, channels, 4, 5)
    bound = estimate_rate(model, y, physics, generator=rng(0))
    step, _ = model.fixed_point_problem(y, physics)
    with torch.no_grad():
        model(y, physics)
    state = model.solution.x
    n = StateJacobian(step, state).x.shape[1]
    # All rows at once: the step for a batch of copies.
    step, _ = model.fixed_point_problem(y.expand(n, -1, -1, -1), physics)
    parts = state if isinstance(state, tuple) else (state,)
    copies = tuple(part.expand(n, *part.shape[1:]) for part in parts)
    jacobian = StateJacobian(step, copies if isinstance(state, tuple) else copies[0])
    rows = jacobian.adjoint(torch.eye(n))
    truth = float(torch.linalg.matrix_norm(rows.double(), 2))
    assert truth * (1 - 1e-4) <= bound.value <= 1.05 * truth


def test_estimate_of_drunet() -> None:
    torch.manual_seed(0)
    network = dinv.models.DRUNet(1, 1, nc=(2, 2, 2, 2), nb=1, pretrained=None)
    y = torch.rand(2, 1, 8, 8)
    bound = estimate_rate(make_model("PGD", network), y, PHYSICS, steps=10)
    assert not bound.is_certified
    assert 0 < bound.value < 10


def test_denoiser_that_detaches_its_gradient_is_refused_by_name() -> None:
    denoiser = dinv.models.GSDRUNet(
        in_channels=1, out_channels=1, nc=(2, 2, 2, 2), nb=1
    )
    model = make_model("PGD", denoiser)
    y = torch.rand(1, 1, 8, 8)
    with pytest.raises(ValueError, match=r"'prior\.0\.denoiser'.*detach to False"):
        estimate_rate(model, y, PHYSICS)
    denoiser.detach = False
    assert estimate_rate(model, y, PHYSICS, steps=3).value > 0


def test_jacobian_products_are_adjoint_and_match_finite_differences() -> None:
    def step(state: Any) -> Any:
        u, z = state
        return torch.sin(u) * 0.5 + z.real[:, :3] ** 2, 0.3j * z.conj() + u.sum() / 9

    generator = rng(4)
    u = torch.randn(1, 3, generator=generator, dtype=F64)
    z = torch.complex(*torch.randn(2, 1, 4, generator=generator, dtype=F64))
    jacobian = StateJacobian(step, (u, z))
    v, w = torch.randn(2, 1, 11, generator=generator, dtype=F64)
    product = jacobian.product(v)
    torch.testing.assert_close((product * w).sum(), (v * jacobian.adjoint(w)).sum())

    def packed(x: Tensor) -> Tensor:
        return jacobian.layout.pack(step(jacobian.layout.unpack(x)))

    x, h = jacobian.x.detach(), 1e-6
    central = (packed(x + h * v) - packed(x - h * v)) / (2 * h)
    torch.testing.assert_close(product, central, rtol=1e-8, atol=1e-8)


class OnceDifferentiable(torch.autograd.Function):
    """A cube whose backward is written by hand and cannot be differentiated."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradient

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * tangent


class NeverTwice(torch.autograd.Function):
    """A cube without a forward mode, whose backward cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradient


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_forward_mode_replaces_backward_that_cannot_be_differentiated(
    smooth: float,
) -> None:
    """Alone such a backward raises; in a sum autograd silently drops its term."""
    x0 = torch.full((1, 4), 0.1, dtype=F64)

    def step(x: Tensor) -> Tensor:
        return OnceDifferentiable.apply(x) + smooth * 0.1 * x

    bound = estimate_rate(StepModel(step, x0), x0, PHYSICS, x0 + 0.4)
    truth = 0.75 + smooth * 0.1
    assert truth <= float(bound) <= 1.05 * truth
    for never in (NeverTwice.apply, lambda x: NeverTwice.apply(x) + x / 2):
        with pytest.raises(ValueError, match="neither twice nor in forward mode"):
            estimate_rate(StepModel(never, x0), x0, PHYSICS, x0)


def test_estimate_of_constant_step_is_zero() -> None:
    x0 = torch.zeros(2, 3)
    assert float(estimate_rate(StepModel(torch.sign, x0), x0, PHYSICS, x0 + 1)) == 0
    assert (
        float(estimate_rate(StepModel(lambda x: torch.ones(2, 3), x0), x0, PHYSICS))
        == 0
    )


@pytest.mark.parametrize("name", MODELS)
def test_estimate_of_every_equilibrium_model_against_dense_norm(name: str) -> None:
    torch.manual_seed(0)
    config = deq.Equilibrium(deq.Picard(max_iter=30, rtol=1e-6), on_failure="ignore")
    model, physics = MODELS[name](config).double(), inpainting()
    y = physics.A(torch.rand(1, *SIZE, dtype=F64))
    bound = estimate_rate(model, y, physics, generator=rng(0))
    assert bound.kind is Kind.ESTIMATED
    with torch.no_grad():
        image = model(y, physics)
    assert image.shape == (1, *SIZE)
    layout = StateLayout.of(model.solution.x)
    step, _ = model.fixed_point_problem(y, physics)

    def moved(x: Tensor) -> Tensor:
        return layout.pack(step(layout.unpack(x)))

    packed = layout.pack(model.solution.x)
    jacobian = torch.autograd.functional.jacobian(moved, packed)
    truth = float(torch.linalg.matrix_norm(jacobian[0, :, 0], 2))
    assert truth * (1 - 1e-9) <= bound.value <= 1.05 * truth


def test_bad_arguments_are_named() -> None:
    step, x0 = random_step(0, 2, 8)
    for point in (x0[:1], x0.float(), (x0,)):
        with pytest.raises(ValueError, match="point must be a state of the model"):
            estimate_rate(StepModel(step, x0), x0, PHYSICS, point)
    with pytest.raises(ValueError, match="delta must be in"):
        estimate_rate(StepModel(step, x0), x0, PHYSICS, delta=0.0)
