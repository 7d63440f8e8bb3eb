"""Gradient-step PGD: closed forms, gradients, and reports."""

from __future__ import annotations

import copy
import math
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.models.GSPnP import GSPnP
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq
from deepinv_equilibrium.fixed_points import CG, Status
from deepinv_equilibrium.optim import GradientStepPGD

from ...one_test import in_one_test
from ..central_differences import directional_derivative

F64 = torch.float64
KERNEL = torch.full((1, 1, 3, 3), 1 / 9, dtype=F64)


class Shrink(dinv.models.Denoiser):
    r""":math:`N(x) = c x`: the prior is :math:`\frac{1}{2} (1-c)^2 \|x\|^2`."""

    def __init__(self, c: float = 0.4) -> None:
        super().__init__()
        self.c = torch.nn.Parameter(torch.tensor(c, dtype=F64))

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return self.c * x


def small_network(channels: int = 1, seed: int = 0) -> GSPnP:
    torch.manual_seed(seed)
    return dinv.models.GSDRUNet(
        in_channels=channels, out_channels=channels, nb=1, nc=(2, 4, 4, 4)
    )


@pytest.mark.parametrize("stepsize", [0.3, None, 50.0])
def test_quadratic_energy_gives_the_minimiser_and_its_derivatives(
    stepsize: float | None,
) -> None:
    """Backtracking reduces an initial step size that is much too large."""
    physics = dinv.physics.BlurFFT((1, 6, 7), filter=KERNEL)
    denoiser = GSPnP(Shrink(), alpha=0.8)
    model = GradientStepPGD(
        denoiser,
        lambda_reg=0.5,
        stepsize=stepsize,
        max_iter=3000,
        rtol=1e-12,
        adjoint=deq.Implicit(CG(rtol=1e-12)),
    )
    y = torch.rand(2, 1, 6, 7, dtype=F64, requires_grad=True)
    x = model(y, physics)
    assert model.solution is not None
    assert model.solution.converged.all()
    weight = 0.5 * 0.8 * (1 - denoiser.student_grad.model.c) ** 2
    gamma = 1 / weight
    exact = physics.prox_l2(torch.zeros_like(y), y, gamma)
    torch.testing.assert_close(x, exact, rtol=1e-6, atol=1e-8)
    w = torch.rand_like(x)
    ours = torch.autograd.grad((w * x).sum(), [y, denoiser.student_grad.model.c])
    theirs = torch.autograd.grad((w * exact).sum(), [y, denoiser.student_grad.model.c])
    for mine, true in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, true, rtol=1e-5, atol=1e-7)


class Bent(dinv.models.Denoiser):
    """A smooth network with random weights, for which the prior is not convex."""

    def __init__(self, seed: int, scale: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        shape = (2, 4, 1, 3, 3)
        self.weights = scale * torch.randn(shape, generator=generator, dtype=F64) / 3

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        features = torch.sin(3 * torch.conv2d(x, self.weights[0], padding=1))
        return torch.conv_transpose2d(features, self.weights[1], padding=1)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    stepsize=st.sampled_from([1e-2, 1.0, 1e2]),
    scale=st.sampled_from([0.1, 1.0, 5.0]),
    weight=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_energy_of_a_random_network_decreases_sufficiently(
    seed: int, stepsize: float, scale: float, weight: float
) -> None:
    """Energies and steps are computed again in float64."""
    model = GradientStepPGD(
        GSPnP(Bent(seed, scale)),
        eta=0.5,
        stepsize=stepsize,
        lambda_reg=weight,
        max_iter=50,
        rtol=0,
        on_failure="ignore",
    )
    physics = dinv.physics.BlurFFT((1, 5, 6), filter=KERNEL)
    y = torch.rand(2, 1, 5, 6, dtype=F64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        x = model(y, physics)
        energy, _ = model.energy(y, physics).value_and_gradient(x)
    descent = model.solution
    assert descent is not None
    assert bool((descent.largest_increase <= 1e-13).all())
    for i in range(2):
        count = int(descent.iterations[i])
        assert 1 <= int(descent.checked[i]) <= count
        assert float(descent.energy[count, i]) == pytest.approx(float(energy[i]))
        steps = descent.absolute_history[
            :count, i
        ]  # tau_0 / tau times the length of the step
        tau = float(descent.stepsize[i])
        moves = steps * tau / stepsize
        fall = -descent.energy[: count + 1, i].diff()
        # tau never increases: the last one is the smallest.
        rounding = 1e-14 * float(descent.energy[0, i])
        assert bool((fall >= 0.1 / stepsize * moves**2 - rounding).all())
    assert set(descent.status) == {Status.COMPLETED}


def test_gradient_is_that_of_the_prior() -> None:
    model = GradientStepPGD(small_network().double(), lambda_reg=2.0)
    physics = dinv.physics.Denoising()
    x, y, v = torch.rand(3, 2, 1, 8, 8, dtype=F64)

    def prior(x: Tensor) -> Tensor:
        energy, _ = model.energy(y, physics).value_and_gradient(x)
        return energy - model.data_fidelity(x, y, physics)

    with torch.no_grad():
        _, gradient = model.energy(y, physics).value_and_gradient(x)
    central = (prior(x + 1e-6 * v) - prior(x - 1e-6 * v)) / 2e-6
    torch.testing.assert_close(
        (gradient * v).flatten(1).sum(1), central, rtol=1e-6, atol=1e-8
    )
    # deepinv's module computes the same in float32.
    single = copy.deepcopy(model.denoiser).float()
    expected = 2.0 * single.potential_grad(x.float(), 0.03)
    torch.testing.assert_close(gradient.float(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("detach", [True, False])
def test_gradient_of_the_solution_agrees_with_finite_differences(
    detach: bool,
) -> None:
    """The gradient with respect to the weights, through an iterative proximal operator,
    with and without ``detach`` in the denoiser."""
    denoiser = small_network().double()
    denoiser.detach = detach
    physics = dinv.physics.Blur(
        filter=KERNEL, padding="replicate", tol=1e-13, max_iter=200
    )
    model = GradientStepPGD(
        denoiser,
        lambda_reg=0.5,
        max_iter=3000,
        rtol=1e-11,
        adjoint=deq.Implicit(deq.GMRES(rtol=1e-10)),
    )
    y = torch.rand(1, 1, 8, 8, dtype=F64)
    weight = denoiser.student_grad.model.m_tail.weight
    w = torch.rand(1, 1, 8, 8, dtype=F64)
    (gradient,) = torch.autograd.grad((w * model(y, physics)).sum(), weight)
    direction = torch.randn_like(weight)
    central = directional_derivative(
        lambda: (w * model(y, physics)).sum(), weight, direction
    )
    assert float((gradient * direction).sum()) == pytest.approx(central, rel=1e-4)
    assert model.solution is not None
    assert model.solution.converged.all()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("channels", [1, 3])
def test_sample_does_not_depend_on_the_rest_of_the_batch(
    channels: int, dtype: torch.dtype
) -> None:
    """A dark, an ordinary and a very bright sample end with different step sizes."""
    model = GradientStepPGD(
        small_network(channels).to(dtype),
        stepsize=30.0,
        eta=0.5,
        max_iter=25,
        on_failure="ignore",
    )
    physics = dinv.physics.Blur(filter=KERNEL.to(dtype), padding="circular")
    scale = torch.tensor([1e-2, 1.0, 30.0], dtype=dtype)[:, None, None, None]
    y = scale * torch.rand(3, channels, 9, 10, dtype=dtype)
    with torch.no_grad():
        together = model(y, physics)
        batch = model.solution
        assert batch is not None
        for i in range(3):
            alone = model(y[i : i + 1], physics)
            single = model.solution
            assert single is not None
            tolerance = 1e-9 if dtype == F64 else 1e-3
            torch.testing.assert_close(
                together[i], alone[0], rtol=tolerance, atol=tolerance * float(scale[i])
            )
            if dtype == F64:
                assert batch.evaluations[i] == single.evaluations[0]
                assert batch.stepsize[i] == single.stepsize[0]
                assert batch.status[i] is single.status[0]
    tracked = model(y, physics)
    torch.testing.assert_close(tracked, together, rtol=1e-4, atol=1e-5)


def test_float32_decreases_up_to_rounding_and_reports_the_checked_steps() -> None:
    model = GradientStepPGD(small_network(), max_iter=120, rtol=0)
    physics = dinv.physics.BlurFFT((1, 16, 16), filter=KERNEL.float())
    with torch.no_grad():
        model(torch.rand(2, 1, 16, 16), physics)
    descent = model.solution
    assert descent is not None
    assert bool((descent.largest_increase <= 33 * 1.2e-7).all())
    assert bool((descent.checked < descent.iterations).all())
    told = str(descent)
    assert f"{int(descent.checked[0])}/{int(descent.iterations[0])} checked" in told
    assert "within rounding" in told
    assert "certified" not in told


def test_nonfinite_sample_is_marked_and_leaves_the_others_unchanged() -> None:
    denoiser = small_network().double()
    physics = dinv.physics.Denoising()
    y = torch.rand(3, 1, 8, 8, dtype=F64)
    bad = y.clone()
    bad[1, 0, 3, 3] = torch.nan
    model = GradientStepPGD(denoiser, on_failure="ignore")
    grads = []
    for data in (bad, y[[0, 2]]):
        denoiser.zero_grad()
        x = model(data, physics)
        (x[[0, 2]] if data is bad else x).sum().backward()
        grads.append(denoiser.student_grad.model.m_tail.weight.grad.clone())
        if data is bad:
            assert model.solution is not None
            assert model.solution.status[1] is Status.NONFINITE
            assert model.solution.status[0] is Status.CONVERGED
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-8, atol=1e-10)
    loud = GradientStepPGD(denoiser)
    with (
        torch.no_grad(),
        pytest.warns(
            deq.ConvergenceWarning, match=r"descent: at least a tenth.*\n.*NONFINITE"
        ),
    ):
        loud(bad, physics)
    loud.on_failure = "raise"
    with pytest.raises(deq.ConvergenceError, match="descent") as caught:
        loud(bad, physics)
    assert caught.value.solution is loud.solution


def test_backtracking_ends_with_a_wrong_gradient() -> None:
    """The derivative of the network is wrong, so that no step decreases the energy."""

    class Lying(dinv.models.Denoiser):
        def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
            return 2 * x - (1 + 2) * (x - x.detach())  # value 2x, derivative -1

    # The prior is |x - 2x|^2 / 2 with the gradient x. Autograd gives (x - 2x) (1 + 1),
    # an ascent direction.
    model = GradientStepPGD(GSPnP(Lying()), lambda_reg=30.0, on_failure="ignore")
    model(torch.ones(1, 1, 2, 2, dtype=F64), dinv.physics.Denoising())
    assert model.solution is not None
    assert model.solution.status == (Status.DIVERGED,)
    assert bool((model.solution.largest_increase <= 1e-12).all())


def test_trainer_trains_the_model() -> None:
    model = deq.plugins.create(
        "reconstructors",
        "gradient-step-pgd",
        denoiser=small_network(),
        max_iter=20,
        on_failure="ignore",
    )
    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    x = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    data = [{"x": image, "y": physics(image[None])[0]} for image in x]
    before = copy.deepcopy(model.state_dict())
    trainer = dinv.Trainer(
        model=model,
        physics=physics,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        train_dataloader=DataLoader(data, batch_size=2),
        losses=dinv.loss.SupLoss(),
        metrics=[dinv.metric.PSNR(), deq.loss.ObservedRate()],
        device="cpu",
        save_path=None,
        verbose=False,
        show_progress_bar=False,
        epochs=1,
    )
    trainer.train()
    assert math.isfinite(trainer.logs_total_loss_train.avg)
    changed = [
        k for k, v in model.state_dict().items() if not torch.equal(v, before[k])
    ]
    assert len(changed) == len(before)


@in_one_test(
    ("name", "value"),
    [
        ("lambda_reg", 0.0),
        ("lambda_reg", -1.0),
        ("stepsize", math.inf),
        ("stepsize", 0.0),
        ("gamma", 1.0),
        ("eta", 1.0),
        ("eta", 0.0),
        ("sigma_denoiser", -0.1),
        ("sigma_denoiser", math.nan),
        ("rtol", 1.0),
        ("max_iter", 0),
        ("on_failure", "stop"),
    ],
)
def test_constructor_refuses_numbers_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        GradientStepPGD(GSPnP(Shrink()), **{name: value})


def test_constructor_and_forward_refuse_other_types() -> None:
    with pytest.raises(TypeError, match=r"gradient-step denoiser.*got MedianFilter"):
        GradientStepPGD(dinv.models.MedianFilter())
    with pytest.raises(TypeError, match="adjoint must be an Adjoint"):
        GradientStepPGD(GSPnP(Shrink()), adjoint=deq.GMRES())
    with pytest.raises(TypeError, match="'gradient-step-pgd' of deq"):
        GradientStepPGD("gsdrunet")
    with pytest.raises(ValueError, match="Unknown name"):
        deq.plugins.create(
            "reconstructors", "gradient-step-pgd", denoiser="gs-drunet-of-nobody"
        )
    model = GradientStepPGD(GSPnP(Shrink()))
    with pytest.raises(TypeError, match="physics must be a deepinv Physics"):
        model(torch.zeros(1, 1, 2, 2), None)


def test_call_raises_for_a_stacked_physics_without_a_stacked_data_fidelity() -> None:
    physics = dinv.physics.stack(dinv.physics.Denoising(), dinv.physics.Denoising())
    y = physics.A(torch.rand(1, 1, 8, 8))
    model = GradientStepPGD(small_network(), max_iter=1, on_failure="ignore")
    with pytest.raises(TypeError, match=r"TensorList, of which L2 has no value: give"):
        model(y, physics)
    model.data_fidelity = dinv.optim.StackedPhysicsDataFidelity([dinv.optim.L2()] * 2)
    assert model(y, physics).shape == (1, 1, 8, 8)
