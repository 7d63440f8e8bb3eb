"""The adapter of iterators: kinds of input, its domain, and metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.optim.iteration_step import IterationStep

from ..one_test import in_one_test
from .problems import plain_optimiser

F64 = torch.float64


def blur(channels: int, size: tuple[int, int], dtype: torch.dtype) -> Any:
    filter_ = torch.tensor([[0.0, 0.1, 0], [0.1, 0.6, 0.2], [0, 0, 0]], dtype=dtype)
    return dinv.physics.BlurFFT((channels, *size), filter=filter_[None, None])


def inpainting(channels: int, size: tuple[int, int], dtype: torch.dtype) -> Any:
    mask = (torch.arange(size[0] * size[1]).view(1, 1, *size) % 3 < 2).to(dtype)
    return dinv.physics.Inpainting((channels, *size), mask=mask)


def mri(channels: int, size: tuple[int, int], dtype: torch.dtype) -> Any:
    mask = (torch.arange(size[1]).view(1, 1, 1, -1) % 2 == 0).to(dtype)
    return dinv.physics.MRI(mask=mask.expand(1, 2, *size), img_size=(2, *size))


def stacked(channels: int, size: tuple[int, int], dtype: torch.dtype) -> Any:
    filter_ = torch.tensor([[0.0, 0.1, 0], [0.1, 0.6, 0.2], [0, 0, 0]], dtype=dtype)
    parts = [
        inpainting(channels, size, dtype),
        dinv.physics.Blur(filter=filter_[None, None], padding="circular"),
    ]
    physics = dinv.physics.StackedLinearPhysics(parts)
    # 1e-6 is what float32 can reach.
    physics.max_iter, physics.tol = 50, 1e-6 if dtype is torch.float32 else 1e-12
    return physics


def downsampling(channels: int, size: tuple[int, int], dtype: torch.dtype) -> Any:
    def spread(y: Tensor, **kwargs: Any) -> Tensor:
        return torch.nn.functional.interpolate(y, scale_factor=2) / 4

    return dinv.physics.LinearPhysics(
        A=lambda x, **kwargs: torch.nn.functional.avg_pool2d(x, 2),
        A_adjoint=spread,
        max_iter=50,
        tol=1e-7 if dtype is torch.float32 else 1e-12,
    )


def tomography(channels: int, size: tuple[int, int], dtype: torch.dtype) -> Any:
    physics = dinv.physics.Tomography(
        angles=6,
        img_width=size[0],
        circle=False,
        adjoint_via_backprop=True,
        normalize=True,
        max_iter=50,
        tol=1e-6 if dtype is torch.float32 else 1e-12,
    )
    return physics.to(dtype)


INPUTS = {
    "tomography": (tomography, 1, (8, 8), 2),
    "grey": (blur, 1, (6, 6), 2),
    "colour": (blur, 3, (6, 6), 2),
    "not square": (blur, 3, (4, 7), 2),
    "one pixel": (inpainting, 1, (1, 1), 2),
    "one sample": (blur, 2, (5, 5), 1),
    "complex MRI": (mri, 2, (6, 6), 2),
    "inpainting": (inpainting, 3, (5, 6), 2),
    "a list of measurements": (stacked, 2, (3, 4), 2),
    "a smaller measurement": (downsampling, 2, (6, 8), 2),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for name in INPUTS
        for dtype in (torch.float32, F64)
        # deepinv's sampling grid of tomography is float32.
        if dtype is not (F64 if name == "tomography" else torch.float32)
        or name in ("grey", "complex MRI", "a list of measurements")
    ],
)
def test_fixed_point_is_found_for_every_kind_of_image(
    name: str,
    dtype: torch.dtype,
    algorithm: str,
    make_denoiser: Callable[..., Any],
    make_prior: Callable[..., Any],
) -> None:
    make, channels, size, batch = INPUTS[name]
    physics = make(channels, size, dtype)
    denoiser = make_denoiser(channels).to(dtype)
    y = physics.A(torch.rand(batch, channels, *size, dtype=dtype))
    fidelity = dinv.optim.L2()
    if name == "a list of measurements":
        fidelity = dinv.optim.StackedPhysicsDataFidelity([fidelity, fidelity])
    tight = 1e-5 if dtype is torch.float32 else 1e-9
    model = getattr(deq.optim, algorithm)(
        data_fidelity=fidelity if algorithm in ("GD", "MD") else dinv.optim.L2(),
        prior=make_prior(denoiser),
        stepsize=0.5,
        g_param=0.25,
        DEQ=deq.Equilibrium(deq.Anderson(rtol=tight), on_failure="raise"),
    )
    x = model(y, physics)
    assert x.shape == (batch, channels, *size)
    assert x.dtype == dtype
    x.square().sum().backward()
    assert bool(model.solution.backward.converged.all())
    for parameter in model.parameters():
        assert parameter.grad is None or bool(parameter.grad.isfinite().all())
    assert bool(denoiser.weight.grad.any())


def test_fixed_point_of_a_zero_measurement_is_zero(
    algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm)
    problem.y.zero_()
    model = problem.model(DEQ=deq.Equilibrium())
    x = model(problem.y, problem.physics())
    x.sum().backward()
    assert not bool(x.any())
    assert bool(model.solution.converged.all())
    assert model.solution.residual.tolist() == [0.0, 0.0]
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(grads) >= 3
    assert all(bool(grad.isfinite().all()) for grad in grads)


@pytest.mark.parametrize("solver", [deq.Anderson(rtol=1e-9), deq.Broyden(rtol=1e-9)])
@pytest.mark.parametrize(
    "name", ["MD-Burg", "MD-NegEntropy", "PMD-Burg", "PMD-NegEntropy"]
)
def test_entropic_mirror_descent_evaluates_positive_images_only(
    name: str,
    solver: deq.fixed_points.FixedPointSolver,
    make_problem: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = make_problem(name)
    problem.y[0] = 1e-3  # close to the boundary of the domain
    seen = []
    run = IterationStep.run

    def watched(self: IterationStep, state: Tensor) -> Any:
        seen.append(float(state.detach().min()))
        return run(self, state)

    monkeypatch.setattr(IterationStep, "run", watched)
    model = problem.model(DEQ=deq.Equilibrium(solver, on_failure="ignore"))
    x = model(problem.y, problem.physics(), init=torch.full_like(problem.y, 0.5))
    assert len(seen) > 5
    assert min(seen) > 0
    assert float(x.detach().min()) > 0


def test_step_that_leaves_the_domain_ends_as_diverged(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("MD-Burg")
    config = deq.Equilibrium(deq.Picard())
    model = problem.model(stepsize=50.0, lambda_reg=10.0, DEQ=config)
    with pytest.warns(deq.ConvergenceWarning, match="left the domain of the step"):
        model(problem.y, problem.physics())
    assert "DIVERGED" in {status.name for status in model.solution.status}


@in_one_test("with_truth", [True, False])
def test_metrics_equal_those_of_deepinv(
    with_truth: bool, algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm)
    arguments = {
        "prior": dinv.optim.Tikhonov(),
        "data_fidelity": dinv.optim.L2(),
        "custom_metrics": {"jump": lambda log, old, new: float((new - old).norm())},
        **{name: float(v[0]) for name, v in problem.parameters().items()},
        **problem.arguments,
    }
    if algorithm == "FISTA":  # deepinv's counter is not reset
        solver, layers = deq.Picard(max_iter=1, rtol=0.0), 6
    else:
        solver, layers = deq.Picard(max_iter=3, rtol=0.0), 2
    ours = problem.model(
        **arguments, trainable_params=[], DEQ=deq.Equilibrium(solver, layers=layers)
    )
    theirs = plain_optimiser(algorithm)(max_iter=6, **arguments)
    x_gt = torch.rand_like(problem.y) if with_truth else None
    call = {"x_gt": x_gt, "compute_metrics": True}
    with torch.no_grad():
        expected, right = theirs(problem.y, problem.physics(), **call)
    found, metrics = ours(problem.y, problem.physics(), **call)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert metrics.keys() == right.keys() == {"psnr", "residual", "cost", "jump"}
    for name, samples in right.items():
        for mine, sample in zip(metrics[name], samples, strict=True):
            assert mine == pytest.approx(sample, rel=1e-10, abs=1e-12), name
    if with_truth:
        assert {len(sample) for sample in metrics["psnr"]} == {7}
    assert {len(sample) for sample in metrics["cost"]} == {6}


def test_metrics_leave_the_output_unchanged_and_omit_an_implicit_cost(
    algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm)
    model = problem.model(DEQ=deq.Equilibrium(deq.Anderson(rtol=1e-6)))
    plain = model(problem.y, problem.physics())
    found, metrics = model(
        problem.y, problem.physics(), x_gt=problem.y, compute_metrics=True
    )
    assert torch.equal(found, plain)
    assert metrics.keys() == {"psnr", "residual"}
    assert len(metrics["residual"]) == len(problem.y)
    assert {len(sample) for sample in metrics["psnr"]} == {
        1 + len(sample) for sample in metrics["residual"]
    }
