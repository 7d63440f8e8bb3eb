"""TVMapReconstructor: minimiser, gradients and checks."""

from __future__ import annotations

import copy
from pathlib import Path

import deepinv as dinv
import pytest
import torch
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import AdjointMismatchError
from deepinv_equilibrium.models import (
    ConstantTVMap,
    TVMapReconstructor,
    UNetTVMap,
    WeightedTVDenoiser,
)
from deepinv_equilibrium.optim.total_variation.tv_groups import TV_NORMS, TVNorm

from ...benchmarks.memory import live_tensor_bytes, no_collection
from ...certificates.dense_operator import matrix, norm
from ...one_test import in_one_test
from ...quiet_trainer import train_for_an_epoch
from .tv_map_problems import (
    DOUBLE,
    MINIMISER,
    PROBLEMS,
    Problem,
    deblurring,
    denoising,
    unet_model,
)

CONFIGURATIONS: dict[str, deq.Equilibrium | int] = {
    "unrolled": 6,
    "ReTune": deq.ReTune(layers=3, restarts=2),
    "implicit": deq.Equilibrium(
        deq.Anderson(max_iter=300, rtol=1e-4), deq.Implicit(deq.CG(rtol=1e-4))
    ),
    "Jacobian-free": deq.Equilibrium(
        deq.Anderson(max_iter=300, rtol=1e-4), deq.JacobianFree()
    ),
}


def make_model(
    config: deq.Equilibrium | int = 6,
    in_channels: int = 1,
    directions: tuple[int, ...] = (0, 0),
) -> TVMapReconstructor:
    tv_map = UNetTVMap(in_channels, directions, filters=2, depth=2)
    if isinstance(config, int):
        return TVMapReconstructor(tv_map, max_iter=config)
    return TVMapReconstructor(tv_map, DEQ=config)


@pytest.mark.parametrize("name", PROBLEMS)
def test_implicit_gradient_agrees_with_a_long_unrolled_run(name: str) -> None:
    problem = PROBLEMS[name]()
    x, gradients = problem.gradients()
    assert problem.model.solution is not None
    assert bool(problem.model.solution.converged.all())
    assert problem.model.solution.backward is not None
    assert bool(problem.model.solution.backward.converged.all())

    slow = name == "dynamic MRI"
    problem.model.max_iter = 300 if slow else 150
    unrolled, expected = problem.gradients()
    torch.testing.assert_close(x, unrolled, rtol=0, atol=1e-8)
    for got, truth in zip(gradients, expected, strict=True):
        assert truth.norm() > 0
        assert (got - truth).norm() <= (1e-6 if slow else 1e-8) * truth.norm()


@pytest.mark.parametrize(
    "config",
    [
        deq.Equilibrium(deq.Picard(max_iter=5000, rtol=1e-12), deq.Implicit(deq.CG())),
        deq.Equilibrium(deq.Anderson(max_iter=5000, rtol=1e-12), deq.JacobianFree()),
        deq.Equilibrium(deq.Anderson(rtol=1e-12), layers=3),
        deq.ReTune(layers=20, restarts=10),
    ],
    ids=lambda config: type(config.solver).__name__,
)
@pytest.mark.parametrize("norm", TV_NORMS)
def test_image_agrees_with_the_proximal_operator_for_denoising(
    config: deq.Equilibrium, norm: TVNorm
) -> None:
    problem, model = denoising(), unet_model(3, (0, 1), norm)
    model.DEQ = config
    with torch.no_grad():
        x = model(problem.y, problem.physics)
        weight = model.parameter_map(problem.y, problem.physics)
        expected = WeightedTVDenoiser(norm, tol=1e-13)(problem.y, weight)
    assert (x - expected).norm() < 1e-5
    # The image is smoothed, but not constant.
    assert 0.1 < x.std() < 0.9 * problem.y.std()


def test_solution_satisfies_the_conditions_of_optimality_for_deblurring() -> None:
    problem = deblurring()
    with torch.no_grad():
        problem.model(problem.y, problem.physics)
        weight = problem.model.parameter_map(problem.y, problem.physics)
    A = matrix(problem.physics.A, (1, 5, 4)).detach()
    D = matrix(lambda x: deq.optim.total_variation.differences(x), (1, 5, 4))
    assert problem.model.solution is not None
    for sample, y in enumerate(problem.y):
        x, p = (part[sample].flatten() for part in problem.model.solution.x)
        radius = weight[sample].flatten()
        stationary = A.T @ (A @ x - y.flatten()) + D.T @ p
        assert stationary.norm() < 1e-10
        assert bool((p.abs() <= radius + 1e-12).all())
        torch.testing.assert_close(p @ (D @ x), radius @ (D @ x).abs())


def test_gradient_agrees_with_finite_differences() -> None:
    tv_map = ConstantTVMap((0, 1), (0.04, 0.07))
    problem = deblurring()
    model = TVMapReconstructor(tv_map, DEQ=MINIMISER, input_iterations=0).double()
    problem.model = model
    _, (in_y, in_map, in_kernel) = problem.gradients()
    weight = torch.linspace(-1, 2, problem.y.numel(), dtype=DOUBLE)

    @torch.no_grad()
    def loss() -> float:
        x = model(problem.y, problem.physics).flatten()
        return float(weight @ x.square())

    assert problem.parameter is not None
    for tensor, gradient in (
        (problem.y, in_y),
        (tv_map.raw, in_map),
        (problem.parameter, in_kernel),
    ):
        direction, values = torch.randn_like(tensor), []
        for sign in (1, -1):
            with torch.no_grad():
                tensor += sign * 1e-5 * direction
                values.append(loss())
                tensor -= sign * 1e-5 * direction
        slope = (values[0] - values[1]) / 2e-5
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


def test_second_derivative_raises() -> None:
    problem = denoising()
    x = problem.model(problem.y.requires_grad_(), problem.physics)
    (first,) = torch.autograd.grad(x.square().sum(), problem.y, create_graph=True)
    with pytest.raises(NotImplementedError, match="second"):
        first.sum().backward()


def test_max_iter_and_DEQ_can_be_set_between_calls() -> None:
    model, physics = make_model(4), dinv.physics.Denoising()
    y = torch.rand(2, 1, 6, 5)
    assert model.max_iter == 4
    short = model(y, physics)
    assert model.solution is not None
    assert model.solution.iterations.tolist() == [4, 4]
    assert {s.name for s in model.solution.status} == {"COMPLETED"}

    model.max_iter = 500
    with torch.no_grad():
        long = model(y, physics)
    assert model.solution.iterations.tolist() == [500, 500]
    model.DEQ = deq.Equilibrium(deq.Anderson(max_iter=1000, rtol=1e-6))
    assert model.max_iter is None
    with torch.no_grad():
        converged = model(y, physics)
    torch.testing.assert_close(long, converged, rtol=0, atol=1e-4)
    assert (short - converged).norm() > 10 * (long - converged).norm()


def test_weights_load_into_a_model_with_another_configuration(tmp_path: Path) -> None:
    model, physics = make_model(50), dinv.physics.Denoising()
    y = torch.rand(2, 1, 6, 5)
    x = model(y, physics)
    assert model.train()(y, physics).equal(model.eval()(y, physics))
    assert copy.deepcopy(model)(y, physics).equal(x)

    torch.save(model.state_dict(), tmp_path / "model.pt")
    other = make_model(deq.ReTune(layers=5, restarts=10))
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    torch.testing.assert_close(other(y, physics), x)


@pytest.mark.parametrize("mode", CONFIGURATIONS)
def test_samples_are_independent(mode: str) -> None:
    model, physics = make_model(CONFIGURATIONS[mode]).double(), deblurring().physics
    tolerance = 1e-12
    if mode in ("implicit", "Jacobian-free"):
        # Acceleration amplifies rounding errors up to the tolerance.
        tolerance, solver = 1e-8, deq.Anderson(max_iter=2000, rtol=1e-11)
        adjoint = deq.Implicit(deq.CG(rtol=1e-11))
        model.DEQ = deq.Equilibrium(
            solver, adjoint if mode == "implicit" else deq.JacobianFree()
        )
    y = torch.rand(3, 1, 4, 5, dtype=DOUBLE)
    y[1] *= 10  # this sample takes more iterations
    y[2] = 0.3
    y.requires_grad_()
    x = model(y, physics)
    (gradient,) = torch.autograd.grad(x.square().sum(), y)
    for k in range(3):
        alone = model(y[k : k + 1], physics)
        torch.testing.assert_close(x[k : k + 1], alone, rtol=tolerance, atol=tolerance)
        (own,) = torch.autograd.grad(alone.square().sum(), y)
        torch.testing.assert_close(
            gradient[k], own[k], rtol=1e3 * tolerance, atol=tolerance
        )


@pytest.mark.parametrize("mode", CONFIGURATIONS)
@pytest.mark.parametrize(
    ("shape", "directions"),
    [
        ((2, 1, 7, 4), (0, 0)),
        ((2, 3, 4, 5), (0, 1)),
        ((1, 2, 3, 4, 5), (0, 1, 1)),
        ((2, 1, 1, 5), (0, 0)),
    ],
    ids=["grey", "colour", "volume", "one row"],
)
def test_single_precision_is_accurate_for_all_shapes_of_images(
    mode: str, shape: tuple[int, ...], directions: tuple[int, ...]
) -> None:
    model = make_model(CONFIGURATIONS[mode], shape[1], directions)
    y = torch.rand(shape)
    x = model(y, dinv.physics.Denoising())
    x.square().sum().backward()
    gradients = [p.grad for p in model.tv_map.parameters()]
    double = copy.deepcopy(model).double()
    expected = double(y.double(), dinv.physics.Denoising())
    assert x.shape == shape
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, expected.float(), rtol=0, atol=2e-3)
    for gradient in gradients:
        assert gradient is not None
        assert bool(gradient.isfinite().all())
        assert gradient.dtype == torch.float32
    assert any(bool(gradient.any()) for gradient in gradients if gradient is not None)


def test_stacked_physics_is_accepted() -> None:
    """Two equal measurements are equivalent to one with half the weight."""
    y = torch.rand(1, 1, 5, 4, dtype=DOUBLE)
    twice = dinv.physics.StackedLinearPhysics([dinv.physics.Denoising()] * 2)
    model = TVMapReconstructor(ConstantTVMap((0, 0), 0.1), DEQ=MINIMISER).double()
    x = model(twice.A(y), twice)
    expected = WeightedTVDenoiser(tol=1e-13)(y, 0.05)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-6)


def test_solution_is_detached_and_reports_the_backward_pass() -> None:
    problem = denoising()
    x = problem.model(problem.y, problem.physics)
    assert x.requires_grad
    assert problem.model.solution is not None
    assert problem.model.solution.backward is None
    assert not any(part.requires_grad for part in problem.model.solution.x)
    x.sum().backward()
    assert problem.model.solution.backward is not None


@pytest.mark.parametrize("mode", CONFIGURATIONS)
def test_memory_does_not_grow_over_training_steps(mode: str) -> None:
    model, physics = make_model(CONFIGURATIONS[mode]), dinv.physics.Denoising()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # all steps are equal
    y = torch.rand(1, 1, 12, 12)

    def step() -> None:
        optimizer.zero_grad()
        model(y, physics).square().sum().backward()
        optimizer.step()

    step()
    with no_collection():
        before = live_tensor_bytes()
        for _ in range(2):
            step()
        assert live_tensor_bytes() == before


def test_recorded_memory_does_not_grow_with_the_iterations() -> None:
    physics, y = dinv.physics.Denoising(), torch.rand(1, 1, 12, 12)

    def recorded(config: deq.Equilibrium | int) -> int:
        saved: dict[int, int] = {}

        def pack(x: Tensor) -> Tensor:
            saved[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        model = make_model(config)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            x = model(y, physics)
        assert x.requires_grad
        return sum(saved.values())

    def picard(iterations: int) -> deq.Equilibrium:
        solver = deq.Picard(max_iter=iterations, rtol=0.0)
        return deq.Equilibrium(solver, deq.Implicit(deq.CG()))

    assert recorded(deq.ReTune(8, 12)) == recorded(deq.ReTune(8, 1))
    assert recorded(picard(96)) <= 1.01 * recorded(picard(8))
    assert recorded(96) > 8 * recorded(picard(96))
    assert recorded(96) > 5 * recorded(deq.ReTune(8, 12))


def test_step_sizes_have_gradients_if_unrolled() -> None:
    model = make_model(5)
    y = torch.rand(1, 1, 8, 8)
    model(y, dinv.physics.Denoising()).square().sum().backward()
    for raw in model.step_sizes.parameters():
        assert raw.grad is not None
        assert raw.grad != 0


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("mode", ["unrolled", "ReTune"])
@pytest.mark.parametrize("directions", [(0, 1), None], ids=["constant", "U-Net"])
def test_step_sizes_are_valid_after_huge_optimiser_steps(
    optimizer: type[torch.optim.Optimizer],
    mode: str,
    directions: tuple[int, int] | None,
) -> None:
    model = make_model(CONFIGURATIONS[mode])
    if directions is not None:
        model.tv_map = ConstantTVMap(directions)
    physics = dinv.physics.Blur(filter=torch.rand(1, 1, 3, 3), padding="circular")
    descent = optimizer(model.parameters(), lr=1e30)
    y = torch.rand(1, 1, 6, 5)
    A = norm(double(physics).A, (1, 6, 5)) ** 2
    D = norm(deq.optim.total_variation.differences, (1, 6, 5)) ** 2
    for _ in range(3):
        descent.zero_grad()
        x = model(y, physics)
        x.square().sum().backward()
        descent.step()
        step, _ = model.fixed_point_problem(y, physics)
        tau, sigma = step.tau.item(), step.sigma.item()
        assert 0 < tau * A < 2
        assert 0 < sigma * tau * D < 1
        assert bool((step.weight > 0).all())
        assert bool(step.weight.isfinite().all())
        assert bool(x.isfinite().all())
    assert max(p.abs().max().item() for p in model.parameters()) > 1e20


@pytest.mark.parametrize("raw", [1e4, -1e4, 1e30, -1e30, torch.inf, -torch.inf])
def test_image_is_finite_for_extreme_parameters(raw: float) -> None:
    model, physics = make_model(50), dinv.physics.Denoising()
    y = torch.rand(2, 1, 6, 5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(raw)
        x, weight = model(y, physics), model.parameter_map(y, physics)
    assert bool(x.isfinite().all())
    assert bool((weight > 0).all())
    assert bool(weight.isfinite().all())


def double(physics: dinv.physics.Blur) -> dinv.physics.Blur:
    return dinv.physics.Blur(filter=physics.filter.double(), padding=physics.padding)


@pytest.mark.parametrize("mode", CONFIGURATIONS)
def test_trainer_updates_the_map(mode: str) -> None:
    model = make_model(CONFIGURATIONS[mode])
    start = [p.detach().clone() for p in model.tv_map.parameters()]
    pairs = [
        {"x": x, "y": x + 0.1 * torch.randn_like(x)} for x in torch.rand(4, 1, 8, 8)
    ]
    train_for_an_epoch(
        model,
        dinv.physics.Denoising(),
        torch.optim.Adam(model.parameters(), lr=1e-3),
        pairs,
        batch_size=2,
    )
    moved = zip(model.tv_map.parameters(), start, strict=True)
    assert all(bool((p != before).any()) for p, before in moved)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("call", ["forward", "parameter_map", "fixed_point_problem"])
def test_methods_raise_for_nonlinear_physics(call: str) -> None:
    physics = dinv.physics.Physics(A=torch.tanh)
    with pytest.raises(TypeError, match="physics must be a deepinv LinearPhysics"):
        getattr(make_model(), call)(torch.rand(1, 1, 4, 4), physics)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_call_raises_for_wrong_adjoint(dtype: torch.dtype) -> None:
    model = make_model(in_channels=2 if dtype.is_complex else 1)
    wrong = LinearPhysics(
        A=lambda x, **_: 2 * x, A_adjoint=lambda y, **_: y.roll(1, -1)
    )
    with pytest.raises(AdjointMismatchError, match="Use an exact adjoint"):
        model(torch.rand(1, 1, 4, 4, dtype=dtype), wrong)


def test_call_raises_for_wrong_input() -> None:
    model, denoise = make_model(), dinv.physics.Denoising()
    with pytest.raises(
        ValueError, match=r"y of shape \(1, 1, 5, 4\) is not a measurement"
    ):
        model(
            torch.rand(1, 1, 5, 4),
            dinv.physics.Inpainting((1, 4, 4), mask=torch.ones(1, 4, 4)),
        )
    with pytest.raises(ValueError, match=r"shape \(1, 4, 4\); add the missing axes"):
        model(torch.rand(1, 4, 4), denoise)
    with pytest.raises(ValueError, match=r"for directions of 2 axes, got \(1, 1, 3, 4"):
        model(torch.rand(1, 1, 3, 4, 4), denoise)
    with pytest.raises(ValueError, match=r"3 real channels .* in_channels=1"):
        model(torch.rand(1, 3, 4, 4), denoise)
    with pytest.raises(TypeError, match=r"convert the network with \.to"):
        model(torch.rand(1, 1, 4, 4, dtype=DOUBLE), denoise)
    with pytest.raises(TypeError, match="takes no argument 'x_gt'"):
        model(torch.rand(1, 1, 4, 4), denoise, x_gt=None)


def test_call_raises_for_map_of_another_shape() -> None:
    class Wide(ConstantTVMap):
        def raw_weight(self, z: Tensor) -> Tensor:
            return torch.zeros(1, 1, 9, 9)

    with pytest.raises(ValueError, match="the weight of tv_map must be a number, or"):
        TVMapReconstructor(Wide((0, 0)), max_iter=3)(
            torch.rand(1, 1, 4, 4), dinv.physics.Denoising()
        )


@in_one_test(
    ("arguments", "error", "match"),
    [
        ({"tv_map": nn.Identity()}, TypeError, "tv_map must be a TVMap"),
        ({"max_iter": None}, ValueError, "give either max_iter"),
        ({"DEQ": deq.ReTune(2, 2)}, ValueError, "give either max_iter"),
        ({"max_iter": 0}, ValueError, "max_iter must be an integer >= 1"),
        ({"max_iter": 2.5}, ValueError, "max_iter must be an integer >= 1"),
        ({"max_iter": None, "DEQ": True}, TypeError, "DEQ must be Equilibrium"),
        ({"norm": "anisotropic"}, ValueError, "norm must be one of"),
        ({"input_iterations": -1}, ValueError, "input_iterations must be an integer"),
        ({"stepsize": 2.0}, ValueError, "stepsize is tau times"),
    ],
)
def test_constructor_raises_for_wrong_arguments(
    arguments: dict[str, object], error: type[Exception], match: str
) -> None:
    given: dict[str, object] = {"tv_map": ConstantTVMap((0, 0)), "max_iter": 3}
    with pytest.raises(error, match=match):
        TVMapReconstructor(**{**given, **arguments})


def test_call_warns_or_raises_if_the_solver_does_not_converge() -> None:
    problem: Problem = denoising()
    problem.model.DEQ = deq.Equilibrium(
        deq.Picard(max_iter=2, rtol=1e-8), deq.JacobianFree()
    )
    with pytest.warns(deq.ConvergenceWarning, match="all samples"):
        problem.model(problem.y, problem.physics)
    problem.model.DEQ = deq.Equilibrium(
        deq.Picard(max_iter=2, rtol=1e-8), deq.JacobianFree(), on_failure="raise"
    )
    with pytest.raises(deq.ConvergenceError):
        problem.model(problem.y, problem.physics)


@pytest.mark.parametrize("other", [{"norm": "componentwise"}, {"input_iterations": 0}])
def test_load_raises_for_weights_with_other_settings(other: dict[str, object]) -> None:
    saved = TVMapReconstructor(ConstantTVMap((0, 0)), max_iter=1, **other)
    model = TVMapReconstructor(ConstantTVMap((0, 0)), max_iter=1)
    with pytest.raises(ValueError, match=f"trained with {next(iter(other))}="):
        model.load_state_dict(saved.state_dict())


@pytest.mark.parametrize("norm", TV_NORMS)
@pytest.mark.parametrize("seed", [0])
def test_gradient_is_bounded_if_the_minimiser_is_not_unique(
    norm: TVNorm, seed: int
) -> None:
    torch.manual_seed(seed)
    mask = (torch.rand(1, 7, 7) > 0.5).to(DOUBLE)  # half of the pixels are missing
    physics = dinv.physics.Inpainting((1, 7, 7), mask=mask)
    y = (torch.rand(1, 1, 7, 7, dtype=DOUBLE) * mask).requires_grad_()
    weight = torch.rand(1, 1, 7, 7, dtype=DOUBLE)
    solved = deq.Equilibrium(
        deq.Picard(max_iter=1000, rtol=1e-8),
        deq.Implicit(deq.CG(rtol=1e-8, max_iter=500)),
        on_failure="ignore",
    )
    model = TVMapReconstructor(ConstantTVMap((0, 0), 0.05), DEQ=solved, norm=norm)
    model = model.double()
    found = torch.autograd.grad((model(y, physics) * weight).sum(), y)[0]
    model.max_iter = 300
    unrolled = torch.autograd.grad((model(y, physics) * weight).sum(), y)[0]
    assert found.norm() < 2 * unrolled.norm()


def test_call_does_not_replace_out_of_memory_errors() -> None:
    def adjoint(y: Tensor, **_: object) -> Tensor:
        raise torch.OutOfMemoryError("no memory")

    physics = LinearPhysics(A=lambda x, **_: x, A_adjoint=adjoint)
    with pytest.raises(torch.OutOfMemoryError):
        make_model()(torch.rand(1, 1, 4, 4), physics)
