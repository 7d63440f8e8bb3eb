"""ISTA with nonnegative images: closed forms, optimality and gradients."""

from __future__ import annotations

from pathlib import Path

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import ISTA, ConvolutionalFrame, DenseFrame

from ...certificates.dense_operator import matrix
from .problems import (
    DOUBLE,
    blur,
    convolutional_frame,
    matrix_physics,
    synthesis_matrix,
)

EQUILIBRIUM = deq.Equilibrium(
    deq.Anderson(max_iter=5000, rtol=1e-11), deq.Implicit(deq.GMRES(rtol=1e-12))
)
SIZE = (1, 3, 4)


def injective_problem() -> tuple[dinv.physics.LinearPhysics, torch.Tensor, DenseFrame]:
    """Fewer atoms than pixels and more measurements: a unique minimiser."""
    physics = matrix_physics(torch.randn(20, 12, dtype=DOUBLE), SIZE)
    atoms = torch.eye(12, dtype=DOUBLE)[:8] + 0.1
    return physics, torch.randn(2, 20, dtype=DOUBLE), DenseFrame(atoms, SIZE)


def test_denoising_in_the_pixel_basis_returns_the_positive_part() -> None:
    """argmin over x >= 0 of 1/2 |x - y|^2 + lambda |x|_1 = max(y - lambda, 0)."""
    frame = DenseFrame(torch.eye(12, dtype=DOUBLE), SIZE)
    y = torch.randn(3, *SIZE, dtype=DOUBLE)
    model = ISTA(frame, 0.5, DEQ=EQUILIBRIUM, nonnegative=True)
    with torch.no_grad():
        x = model(y, dinv.physics.Denoising())
    torch.testing.assert_close(x, (y - 0.5).clamp(min=0), rtol=0, atol=1e-8)


def test_denoising_without_a_penalty_returns_the_projection() -> None:
    Q, _ = torch.linalg.qr(torch.randn(12, 12, dtype=DOUBLE))
    y = torch.randn(2, *SIZE, dtype=DOUBLE)
    model = ISTA(DenseFrame(Q, SIZE), 0.0, DEQ=EQUILIBRIUM, nonnegative=True)
    with torch.no_grad():
        x = model(y, dinv.physics.Denoising())
    torch.testing.assert_close(x, y.clamp(min=0), rtol=0, atol=1e-8)


@pytest.mark.parametrize("stepsize", [0.5, 1.0, 1.9])
def test_equilibrium_meets_the_conditions_of_optimality(stepsize: float) -> None:
    """0 is in B'(B z - y) + lambda d|z|_1 + W m with a multiplier m <= 0 that is 0
    where the image is positive."""
    physics, y, _ = injective_problem()
    Q, _ = torch.linalg.qr(torch.randn(12, 12, dtype=DOUBLE))
    frame = DenseFrame(Q + 0.1 * torch.randn_like(Q), SIZE)
    weight = torch.linspace(0, 2, 12)
    model = ISTA(frame, weight, DEQ=EQUILIBRIUM, stepsize=stepsize, nonnegative=True)
    with torch.no_grad():
        x = model(y, physics)
        step, _ = model.fixed_point_problem(y, physics)
    assert model.solution is not None
    assert bool(model.solution.converged.all())
    z, v = model.solution.x
    S = synthesis_matrix(frame, SIZE)
    image, v = z @ S.mT, v.flatten(1)
    torch.testing.assert_close(x.flatten(1), image, rtol=0, atol=1e-7)
    assert image.min() > -1e-7
    multiplier = v * step.product / step.tau
    assert multiplier.max() <= 0
    assert 0.1 < (multiplier < 0).double().mean() < 0.9
    assert (multiplier * image).abs().max() < 1e-6
    B = matrix(physics.A, SIZE) @ S
    slope = (z @ B.mT - y) @ B + multiplier @ S
    bound = weight.to(DOUBLE).expand_as(z)
    assert (slope.abs() <= bound + 1e-6).all()
    moved = z != 0
    assert 0.2 < moved.double().mean() < 0.9
    expected = -(bound * z.sign())[moved]
    torch.testing.assert_close(slope[moved], expected, rtol=0, atol=1e-6)


def test_constraint_that_is_inactive_changes_nothing() -> None:
    Q, _ = torch.linalg.qr(torch.randn(12, 12, dtype=DOUBLE))
    frame, physics = DenseFrame(Q, SIZE), dinv.physics.Denoising()
    y = 5 + torch.rand(1, *SIZE, dtype=DOUBLE)
    images = []
    for nonnegative in (False, True):
        model = ISTA(frame, 0.01, DEQ=EQUILIBRIUM, nonnegative=nonnegative)
        with torch.no_grad():
            images.append(model(y, physics))
    torch.testing.assert_close(*images, rtol=0, atol=1e-7)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_few_iterations_return_nonnegative_images(channels: int) -> None:
    frame, physics = ConvolutionalFrame(channels, 3), blur(channels, 7, 5)
    model = ISTA(frame, 0.02, max_iter=3, nonnegative=True)
    y = torch.randn(3, channels, 7, 5, dtype=DOUBLE)
    with torch.no_grad():
        x = model(y, physics)
        alone = torch.cat([model(sample[None], physics) for sample in y])
    assert x.min() == 0
    assert x.max() > 0
    torch.testing.assert_close(x, alone, rtol=0, atol=1e-12)


def test_implicit_gradient_agrees_with_a_long_unrolled_run() -> None:
    physics, y, frame = injective_problem()
    results = []
    for options in ({"DEQ": EQUILIBRIUM}, {"max_iter": 1500}):
        model = ISTA(frame, 2.0, nonnegative=True, **options)
        leaf = y.clone().requires_grad_()
        inputs = [leaf, frame.matrix, model.log_weight]
        x = model(leaf, physics)
        results.append((x, *torch.autograd.grad(x.pow(3).sum(), inputs)))
    for got, expected in zip(*results, strict=True):
        assert expected.norm() > 0
        # The weights are learned in single precision.
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_gradient_of_a_few_iterations_agrees_with_finite_differences() -> None:
    physics, y, frame = injective_problem()
    model = ISTA(frame, 0.3, max_iter=3, nonnegative=True)

    def reconstruct(y: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
        names = {"frame.matrix": atoms}
        return torch.func.functional_call(model, names, (y, physics))

    leaves = y.requires_grad_(), frame.matrix.detach().requires_grad_()
    assert torch.autograd.gradcheck(reconstruct, leaves, fast_mode=True)


def test_scaling_the_operator_and_the_measurement_scales_nothing_else() -> None:
    A, frame = torch.randn(20, 12, dtype=DOUBLE), injective_problem()[2]
    y = torch.randn(2, 20, dtype=DOUBLE)
    images, iterations = [], []
    for factor in (1.0, 2.0**10):
        deq_ = deq.Equilibrium(deq.Picard(max_iter=4000, rtol=1e-8))
        model = ISTA(frame, 2.0 * factor**2, DEQ=deq_, nonnegative=True)
        with torch.no_grad():
            images.append(model(factor * y, matrix_physics(factor * A, SIZE)))
        assert model.solution is not None
        iterations.append(model.solution.iterations.tolist())
    torch.testing.assert_close(*images, rtol=1e-6, atol=1e-9)
    assert iterations[0] == iterations[1]


def test_saves_and_loads_the_weights_of_ista(tmp_path: Path) -> None:
    """The constraint adds no weights."""
    saved = ISTA(convolutional_frame(1), [0.0] + [0.1] * 8, max_iter=4)
    torch.save(saved.state_dict(), tmp_path / "weights.pt")
    other = ISTA(ConvolutionalFrame(1, 3).double(), 1.0, max_iter=4, nonnegative=True)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other.weight, saved.weight)


def test_certify_claims_no_rate() -> None:
    physics, _, frame = injective_problem()
    model = ISTA(frame, 0.1, DEQ=EQUILIBRIUM, nonnegative=True)
    with pytest.raises(TypeError, match=r"ISTA does not .* contracts"):
        deq.certify(model, physics, SIZE)
