"""ISTA: optimality, gradients and checks of the input."""

from __future__ import annotations

from pathlib import Path

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import ISTA, ConvolutionalFrame, DenseFrame

from ...certificates.dense_operator import matrix
from ...quiet_trainer import train_for_an_epoch
from .problems import (
    DOUBLE,
    blur,
    convolutional_frame,
    dense_frame,
    matrix_physics,
    synthesis_matrix,
)

EQUILIBRIUM = deq.Equilibrium(
    deq.Anderson(max_iter=2000, rtol=1e-10), deq.Implicit(deq.GMRES(rtol=1e-12))
)


def injective_problem(
    img_size: tuple[int, ...] = (1, 3, 4),
) -> tuple[dinv.physics.LinearPhysics, torch.Tensor, DenseFrame]:
    """Return a problem with a unique minimiser: fewer atoms than measurements."""
    physics = matrix_physics(torch.randn(20, 12, dtype=DOUBLE), img_size)
    atoms = torch.eye(12, dtype=DOUBLE)[:8] + 0.1
    return physics, torch.randn(2, 20, dtype=DOUBLE), DenseFrame(atoms, img_size)


def test_denoising_in_an_orthonormal_frame_is_soft_thresholding() -> None:
    """With s = 1, x = W' S(W y) after one iteration and all later ones."""
    Q, _ = torch.linalg.qr(torch.randn(12, 12, dtype=DOUBLE))
    frame, physics = DenseFrame(Q, (1, 3, 4)), dinv.physics.Denoising()
    y = torch.randn(2, 1, 3, 4, dtype=DOUBLE)
    z = y.flatten(1) @ Q.mT
    expected = (z.sign() * (z.abs() - 0.5).clamp_min(0)) @ Q
    for iterations in (1, 7):
        x = ISTA(frame, 0.5, max_iter=iterations)(y, physics)
        torch.testing.assert_close(x.flatten(1), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_image_of_a_stacked_physics_is_that_of_the_joint_operator(
    nonnegative: bool,
) -> None:
    frame, (A, B) = dense_frame(), torch.randn(2, 5, 12, dtype=DOUBLE)
    joint = matrix_physics(torch.cat([A, B]), (1, 3, 4))
    stacked = dinv.physics.stack(*(matrix_physics(M, (1, 3, 4)) for M in (A, B)))
    x = torch.rand(2, 1, 3, 4, dtype=DOUBLE)
    model = ISTA(frame, 0.1, max_iter=3, nonnegative=nonnegative)
    found = model(stacked.A(x), stacked)
    torch.testing.assert_close(found, model(joint.A(x), joint), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("img_size", [(1, 3, 4), (3, 2, 2)])
def test_equilibrium_meets_the_conditions_of_optimality(
    img_size: tuple[int, ...],
) -> None:
    """|B'(B z - y)| <= lambda, and B'(B z - y) = -lambda sign(z) where z is not 0."""
    physics, y, frame = injective_problem(img_size)
    model = ISTA(frame, torch.linspace(0, 8, 8), DEQ=EQUILIBRIUM, stepsize=1.9)
    with torch.no_grad():
        x = model(y, physics)
    assert model.solution is not None
    assert bool(model.solution.converged.all())
    z = model.solution.x
    torch.testing.assert_close(frame.synthesis(z), x)
    B = matrix(physics.A, img_size) @ synthesis_matrix(frame, img_size)
    gradient = (z @ B.mT - y) @ B
    bound = model.weight.detach().to(DOUBLE).expand_as(z)
    assert (gradient.abs() <= bound + 1e-7).all()
    moved = z != 0
    assert 0.2 < moved.double().mean() < 0.9
    expected = -(bound * z.sign())[moved]
    torch.testing.assert_close(gradient[moved], expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("channels", [1, 3])
def test_objective_converges_in_a_convolutional_frame(channels: int) -> None:
    """With more coefficients than pixels, minimisers are not unique."""
    frame, physics = convolutional_frame(channels, 2), blur(channels, 4, 5)
    y = torch.rand(1, channels, 4, 5, dtype=DOUBLE)

    def objective(iterations: int) -> float:
        model = ISTA(frame, 0.05, max_iter=iterations, stepsize=1.9)
        with torch.no_grad():
            residual = physics.A(model(y, physics)) - y
        assert model.solution is not None
        size = model.weight.detach()[0] * model.solution.x.abs().sum()
        return (residual.square().sum() / 2 + size).item()

    few, many, more = objective(20), objective(300), objective(400)
    assert few > many > 0
    assert more == pytest.approx(many, rel=1e-3)


def test_implicit_gradient_agrees_with_a_long_unrolled_run() -> None:
    physics, y, frame = injective_problem()
    results = []
    for options in ({"DEQ": EQUILIBRIUM}, {"max_iter": 500}):
        model = ISTA(frame, 2.0, stepsize=1.5, **options)
        leaf = y.clone().requires_grad_()
        inputs = [leaf, frame.matrix, model.log_weight]
        x = model(leaf, physics)
        results.append((x, *torch.autograd.grad(x.pow(3).sum(), inputs)))
    for got, expected in zip(*results, strict=True):
        assert expected.norm() > 0
        # The weights are learned in single precision.
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)


def test_gradient_of_a_few_iterations_agrees_with_finite_differences() -> None:
    physics, y, frame = injective_problem()

    def reconstruct(y: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
        names = {"frame.matrix": atoms}
        return torch.func.functional_call(model, names, (y, physics))

    model = ISTA(frame, 0.3, max_iter=3)
    leaves = y.requires_grad_(), frame.matrix.detach().requires_grad_()
    assert torch.autograd.gradcheck(reconstruct, leaves, fast_mode=True)


def test_forward_makes_one_synthesis_for_each_iteration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The image is synthesised once more at the end."""
    physics, y, frame = injective_problem()
    model, made, synthesis = ISTA(frame, 0.3, max_iter=7), [], frame.synthesis

    def counted(z: torch.Tensor) -> torch.Tensor:
        made.append(z)
        return synthesis(z)

    monkeypatch.setattr(frame, "synthesis", counted)
    with torch.no_grad():
        model(y, physics)
    assert len(made) == 7 + 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward_reconstructs_samples_independently(dtype: torch.dtype) -> None:
    frame, physics = ConvolutionalFrame(3, 2), dinv.physics.Denoising()
    y = torch.rand(3, 3, 7, 5, dtype=dtype)
    model = ISTA(frame, 0.05, max_iter=5)
    with torch.no_grad():
        together = model(y, physics)
        alone = torch.cat([model(sample[None], physics) for sample in y])
    assert together.dtype == dtype
    atol = 1e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(together, alone, rtol=0, atol=atol)


def test_scaling_measurement_and_weight_scales_the_image() -> None:
    frame, physics = ConvolutionalFrame(1, 3), dinv.physics.Denoising()
    y = torch.rand(1, 1, 6, 6, dtype=DOUBLE)
    small, large = (ISTA(frame, w, max_iter=5) for w in (0.0625, 0.0625 * 2**20))
    torch.testing.assert_close(large(y * 2**20, physics), small(y, physics) * 2**20)


def test_loaded_model_reconstructs_as_the_saved_one(tmp_path: Path) -> None:
    model = ISTA(convolutional_frame(1), [0.0] + [0.1] * 8, max_iter=4)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = ISTA(ConvolutionalFrame(1, 3).double(), 1.0, max_iter=4)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    y = torch.rand(1, 1, 6, 6, dtype=DOUBLE)
    physics = dinv.physics.Denoising()
    assert torch.equal(model(y, physics), other(y, physics))


def test_training_for_an_epoch_reduces_the_error() -> None:
    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    x = torch.linspace(0, 1, 64).reshape(1, 8, 8).expand(32, 1, 8, 8)
    pairs = [{"x": a, "y": b} for a, b in zip(x, physics(x), strict=True)]
    model = deq.plugins.create(
        "reconstructors",
        "ista",
        frame=ConvolutionalFrame(1, 3),
        weight=0.01,
        max_iter=3,
    )
    before = [p.detach().clone() for p in model.parameters()]
    y = physics(x)

    def error() -> float:
        with torch.no_grad():
            return float((model(y, physics) - x).square().mean())

    untrained = error()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    train_for_an_epoch(model, physics, optimizer, pairs, batch_size=2)
    assert error() < 0.9 * untrained
    for old, new in zip(before, model.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_constructor_and_forward_raise_for_bad_input() -> None:
    frame, physics = ConvolutionalFrame(1, 3), dinv.physics.Denoising()
    with pytest.raises(TypeError, match=r"frame must be a Frame, .* got Tensor"):
        ISTA(torch.eye(3), 0.1, max_iter=1)
    with pytest.raises(ValueError, match=r"either max_iter, .* or DEQ"):
        ISTA(frame, 0.1)
    with pytest.raises(ValueError, match=r"either max_iter, .* or DEQ"):
        ISTA(frame, 0.1, max_iter=3, DEQ=EQUILIBRIUM)
    with pytest.raises(TypeError, match="DEQ must be Equilibrium"):
        ISTA(frame, 0.1, DEQ=deq.Anderson())
    with pytest.raises(ValueError, match="max_iter must be an integer >= 1, got 0"):
        ISTA(frame, 0.1, max_iter=0)
    model = ISTA(frame, 0.1, max_iter=1)
    with pytest.raises(TypeError, match="ISTA takes no argument 'x_gt'"):
        model(torch.rand(1, 1, 4, 4), physics, x_gt=None)
    with pytest.raises(ValueError, match=r"shape \(B, 1, H, W\)"):
        model(torch.rand(1, 3, 4, 4), physics)
