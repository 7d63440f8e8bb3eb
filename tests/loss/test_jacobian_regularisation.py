"""The penalty against dense norms and finite differences, and in deepinv's Trainer."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq
from deepinv_equilibrium.loss import JacobianRegularisation, ObservedRate

from ..one_test import in_one_test
from ..quiet_trainer import train_for_an_epoch

F64 = torch.float64
PHYSICS = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.05))


class Model(torch.nn.Module):
    r"""The step :math:`\tanh(x W^\top) + y` with a given solution."""

    DEQ = deq.Equilibrium()

    def __init__(self, weight: Tensor, x: Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight)
        self.solution = SimpleNamespace(x=x, status=("CONVERGED",) * len(x))

    def fixed_point_problem(self, y: Tensor, physics: Any) -> Any:
        return lambda x: torch.tanh(x @ self.weight.mT) + y, self.solution.x

    def jacobians(self) -> Tensor:
        x = self.solution.x
        slope = 1 - torch.tanh(x @ self.weight.mT) ** 2
        return slope[:, :, None] * self.weight

    def norms(self) -> Tensor:
        return torch.linalg.matrix_norm(self.jacobians(), 2).detach()


def random_model(seed: int, batch: int = 2, n: int = 5) -> Model:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(n, n, generator=generator, dtype=F64)
    return Model(weight, torch.randn(batch, n, generator=generator, dtype=F64) / 3)


@settings(max_examples=30)  # of four samples each
@given(seed=st.integers(0, 10**6), power_steps=st.integers(1, 4))
def test_estimated_norm_is_below_dense_norm_and_close(
    seed: int, power_steps: int
) -> None:
    torch.manual_seed(seed)
    model = random_model(seed, batch=4)
    y = torch.zeros(4, 5, dtype=F64)
    dense = model.norms()
    few = JacobianRegularisation(power_steps=power_steps)
    many = JacobianRegularisation(power_steps=80)
    assert bool((few.spectral_norm(y, PHYSICS, model) <= dense * (1 + 1e-12)).all())
    torch.testing.assert_close(
        many.spectral_norm(y, PHYSICS, model), dense, rtol=3e-2, atol=0
    )


@pytest.mark.parametrize("seed", range(3))
def test_gradient_matches_dense_singular_value_and_finite_differences(
    seed: int,
) -> None:
    torch.manual_seed(seed)
    model = random_model(seed)
    y = torch.zeros(2, 5, dtype=F64)
    loss = JacobianRegularisation(weight=3.0, target=0.1, power_steps=250)
    value = loss(None, None, y, PHYSICS, model).sum()
    (gradient,) = torch.autograd.grad(value, model.weight)
    dense = 3.0 * (torch.linalg.matrix_norm(model.jacobians(), 2) - 0.1) ** 2
    (expected,) = torch.autograd.grad(dense.sum(), model.weight)
    torch.testing.assert_close(value, dense.sum(), rtol=1e-8, atol=0)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)
    direction, h = torch.randn(5, 5, dtype=F64), 1e-5
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            model.weight += sign * h * direction
            values.append(float(loss(None, None, y, PHYSICS, model).sum()))
            model.weight -= sign * h * direction
    slope = (values[0] - values[1]) / (2 * h)
    assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-4)


def test_penalty_is_zero_below_target() -> None:
    model = random_model(0)
    y = torch.zeros(2, 5, dtype=F64)
    dense = model.norms()
    between = float(dense.mean())
    loss = JacobianRegularisation(target=between, power_steps=200)
    value = loss(None, None, y, PHYSICS, model)
    assert (value > 0).tolist() == (dense > between).tolist()
    high = JacobianRegularisation(target=float(dense.max()) + 1)
    value = high(None, None, y, PHYSICS, model)
    (gradient,) = torch.autograd.grad(value.sum(), model.weight)
    assert value.tolist() == [0.0, 0.0]
    assert not gradient.any()


@pytest.mark.parametrize("status", ["NONFINITE", "DIVERGED"])
@pytest.mark.parametrize("place", [0, 4])
def test_samples_that_overflow_do_not_change_the_other(status: str, place: int) -> None:
    """The square root also has infinite derivatives where its argument is 0."""

    class Rooted(Model):
        def fixed_point_problem(self, y: Tensor, physics: Any) -> Any:
            def step(x: Tensor) -> Tensor:
                z = x @ self.weight.mT
                return torch.tanh(z) + z**3 + torch.relu(z).sqrt() * y + y

            return step, self.solution.x

    alone = Rooted(random_model(3).weight.detach(), random_model(3).solution.x[:1])
    good = alone.solution.x
    # The square root is not differentiable at 0: keep the good sample away from it.
    with torch.no_grad():
        alone.weight.abs_()
    good.abs_()
    bad = torch.tensor([math.nan, math.inf, 1e120, -1e200], dtype=F64)
    states = bad[:, None].expand(4, 5)
    states = torch.cat((states[:place], good, states[place:]))
    batch = Rooted(alone.weight.detach().clone(), states)
    statuses = [deq.Status[status]] * 5
    statuses[place] = deq.Status.CONVERGED
    batch.solution.status = tuple(statuses)
    loss = JacobianRegularisation(target=0.1, power_steps=40)
    expected = loss(None, None, torch.ones(1, 5, dtype=F64), PHYSICS, alone)
    value = loss(None, None, torch.ones(5, 5, dtype=F64), PHYSICS, batch)
    assert value.count_nonzero() == 1
    torch.testing.assert_close(value[place], expected[0], rtol=1e-12, atol=0)
    expected.sum().backward()
    value.sum().backward()
    assert alone.weight.grad is not None
    assert bool(alone.weight.grad.any())
    torch.testing.assert_close(batch.weight.grad, alone.weight.grad, rtol=1e-9, atol=0)


@pytest.mark.parametrize(("size", "counts"), [(1e9, True), (1e10, False)])
def test_penalty_is_dropped_when_its_square_overflows(
    size: float, counts: bool
) -> None:
    """In float32 the fourth power of the norm must be below 3.4e38."""
    model = Model(size * torch.eye(5), torch.zeros(2, 5))
    optimizer = torch.optim.Adam(model.parameters())
    value = JacobianRegularisation()(None, None, torch.zeros(2, 5), PHYSICS, model)
    value.mean().backward()
    optimizer.step()
    assert (value > 0).tolist() == [counts] * 2
    assert bool(torch.isfinite(model.weight).all())
    assert bool(torch.isfinite(optimizer.state[model.weight]["exp_avg_sq"]).all())


class Sharpener(dinv.models.Denoiser):
    """A residual network that expands until it is trained."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = torch.nn.Conv2d(channels, 8, 3, padding=1)
        self.outer = torch.nn.Conv2d(8, channels, 3, padding=1)

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return x + 3 * self.outer(torch.tanh(self.inner(x) / (1 + sigma)))


def make_model(name: str = "PGD", channels: int = 1) -> Any:
    torch.manual_seed(0)
    return getattr(deq.optim, name)(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(Sharpener(channels)),
        stepsize=0.5,
        sigma_denoiser=0.05,
        trainable_params=[],
        DEQ=deq.ReTune(layers=1, restarts=6, on_failure="ignore"),
    )


@pytest.mark.parametrize("name", ["PGD", "HQS", "DRS", "ADMM", "PDCP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_penalty_of_each_algorithm_has_finite_gradient(
    name: str, channels: int
) -> None:
    model = make_model(name, channels)
    y = torch.rand(2, channels, 8, 8)
    x = model(y, PHYSICS)
    model.zero_grad()
    loss = JacobianRegularisation(target=0.0, power_steps=2)
    value = loss(x, None, y, PHYSICS, model)
    assert value.shape == (2,)
    value.mean().backward()
    gradient = model.prior[0].denoiser.outer.weight.grad
    assert bool(torch.isfinite(gradient).all())
    assert bool(gradient.any())


def train(losses: list[Any], epochs: int = 8) -> tuple[Any, dinv.Trainer]:
    model = make_model()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 1, 16, 16, generator=generator)
    data = [{"x": image, "y": PHYSICS.A(image[None])[0]} for image in x]
    trainer = dinv.Trainer(
        model=model,
        physics=PHYSICS,
        optimizer=torch.optim.Adam(model.parameters(), lr=5e-3),
        train_dataloader=DataLoader(data, batch_size=2),
        eval_dataloader=DataLoader(data, batch_size=2),
        losses=losses,
        metrics=[ObservedRate(), dinv.metric.PSNR()],
        device="cpu",
        save_path=None,
        verbose=False,
        show_progress_bar=False,
        epochs=epochs,
        eval_interval=1,
    )
    trainer.train()
    return model.eval(), trainer


def estimated(model: Any) -> float:
    y = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    rng = torch.Generator().manual_seed(2)
    return float(deq.estimate_rate(model, y, PHYSICS, steps=15, generator=rng))


def test_training_with_penalty_lowers_estimated_rate() -> None:
    without, _ = train([dinv.loss.SupLoss()])
    penalty = JacobianRegularisation(weight=20.0, target=0.4, power_steps=5)
    with_penalty, trainer = train([dinv.loss.SupLoss(), penalty])
    start = estimated(make_model().eval())
    assert start > 0.7
    assert estimated(with_penalty) < 0.85 * min(start, estimated(without))
    assert all(0 < rate < 2 for rate in trainer.eval_metrics_history["ObservedRate"])
    assert len(trainer.train_metrics_history["ObservedRate"]) == 8


@pytest.mark.parametrize(("factor", "status"), [(2, "DIVERGED"), (16, "NONFINITE")])
def test_training_with_failed_solves_keeps_weights_finite(
    factor: float, status: str
) -> None:
    """An untrained DnCNN with enlarged weights makes the step expand."""
    torch.manual_seed(0)
    denoiser = dinv.models.DnCNN(
        in_channels=1, out_channels=1, depth=20, nf=8, pretrained=None, device="cpu"
    )
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.mul_(factor)
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=0.5,
        sigma_denoiser=0.05,
        trainable_params=[],
        DEQ=deq.Equilibrium(solver=deq.Picard(max_iter=500), on_failure="ignore"),
    )
    data = [{"x": x, "y": x} for x in torch.rand(2, 1, 8, 8)]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = [dinv.loss.SupLoss(), JacobianRegularisation(0.1)]
    train_for_an_epoch(model, PHYSICS, optimizer, data, batch_size=2, losses=losses)
    assert [s.name for s in model.solution.status] == [status] * 2
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
    # An overflow is found without the status too, even where only the norm overflows.
    model.solution = replace(model.solution, status=(deq.Status.DIVERGED,) * 2)
    model.zero_grad()
    y = torch.stack([pair["y"] for pair in data])
    JacobianRegularisation(0.1)(None, None, y, PHYSICS, model).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients  # the Jacobian does not depend on the last bias
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def test_model_without_fitting_solution_is_refused() -> None:
    loss = JacobianRegularisation()
    y = torch.rand(2, 1, 8, 8)
    with pytest.raises(TypeError, match="fixed-point problem"):
        loss(None, None, y, PHYSICS, torch.nn.Identity())
    model = make_model()
    with pytest.raises(ValueError, match=r"call model\(y, physics\) first"):
        loss(None, None, y, PHYSICS, model)
    model(y[:1], PHYSICS)
    with pytest.raises(ValueError, match="does not belong to y, of batch size 2"):
        loss(None, None, y, PHYSICS, model)


@in_one_test(
    ("name", "value"),
    [
        ("weight", 0.0),
        ("weight", math.inf),
        ("target", -0.1),
        ("target", math.nan),
        ("power_steps", 0),
        ("power_steps", 2.5),
    ],
)
def test_arguments_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        JacobianRegularisation(**{name: value})
