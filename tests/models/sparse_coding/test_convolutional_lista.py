"""LISTA with filters: initialisation by ISTA, formula, gradients and training."""

from __future__ import annotations

from pathlib import Path

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import (
    ISTA,
    ConvolutionalFrame,
    ConvolutionalLISTA,
    DenseFrame,
)

from ...certificates.dense_operator import matrix
from ...one_test import in_one_test
from ...quiet_trainer import train_for_an_epoch
from .problems import DOUBLE, blur, convolutional_frame


@pytest.fixture(autouse=True)
def double_precision() -> None:
    """Create weights in double precision, to compare to 1e-14."""
    torch.set_default_dtype(DOUBLE)
    yield
    torch.set_default_dtype(torch.float32)


def physics_of(name: str, channels: int) -> dinv.physics.LinearPhysics:
    if name == "blur":
        return blur(channels, 6, 5)
    if name == "inpainting":
        mask = (torch.rand(channels, 6, 5) < 0.5).double()
        return dinv.physics.Inpainting((channels, 6, 5), mask=3 * mask)
    if name == "stack":
        return dinv.physics.stack(blur(channels, 6, 5), dinv.physics.Denoising())
    return dinv.physics.Denoising()


@in_one_test("channels", [1, 3])
@in_one_test("name", ["denoising", "blur", "inpainting", "stack"])
@in_one_test("tied", [True, False])
@in_one_test("layers", [1, 5])
def test_untrained_model_computes_ista(
    name: str, channels: int, tied: bool, layers: int
) -> None:
    frame, physics = convolutional_frame(channels, 2), physics_of(name, channels)
    y = physics(torch.rand(2, channels, 6, 5))
    weight = torch.linspace(0, 0.2, frame.atoms)
    ista = ISTA(frame, weight, max_iter=layers, stepsize=1.6)(y, physics)
    lista = ConvolutionalLISTA(frame, weight, layers, tied, stepsize=1.6)(y, physics)
    assert (ista - physics.A_adjoint(y)).norm() > 0.01
    torch.testing.assert_close(lista, ista, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("tied", [True, False])
def test_forward_is_the_formula_with_matrices(tied: bool) -> None:
    """z+ = S(z - E_k A'(A S_k z - y) / |A|^2) with matrices and x = S_K z_K, for random
    weights."""
    frame, physics = convolutional_frame(1, 2), blur(1, 4, 3)
    model = ConvolutionalLISTA(frame, 0.1, 3, tied)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.2 * torch.randn_like(weights))
    own = [0, 0, 0] if tied else [0, 1, 2]
    y = torch.rand(1, 1, 4, 3)
    A = matrix(physics.A, (1, 4, 3))
    norm = deq.spectrum(physics, (1, 4, 3)).upper.value

    def dense(filters: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            frame.filters.copy_(filters)
        return matrix(frame.analysis, (1, 4, 3)).detach()

    E = [dense(model.analysis[k]) for k in own]
    S = [dense(model.synthesis[k]).mT for k in own]
    z = torch.zeros(4 * 5 * 4)
    for k in range(3):
        before = S[k - 1] @ z if k else torch.zeros(12)
        z = z - E[k] @ A.mT @ (A @ before - y.flatten()) / norm
        threshold = model.log_threshold[own[k]].exp().repeat_interleave(20) / norm
        z = z.sign() * (z.abs() - threshold).clamp_min(0)
    expected = (S[2] @ z).reshape(1, 1, 4, 3)
    torch.testing.assert_close(model(y, physics), expected)


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_agree_with_finite_differences(tied: bool) -> None:
    model = ConvolutionalLISTA(convolutional_frame(1, 2), 0.1, 2, tied)
    names, physics = dict(model.named_parameters()), blur(1, 3, 3)

    def reconstruct(y: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(model, named, (y, physics))

    leaves = [p.detach().requires_grad_() for p in names.values()]
    y = torch.rand(2, 1, 3, 3, requires_grad=True)
    assert torch.autograd.gradcheck(reconstruct, (y, *leaves), fast_mode=True)
    # Every weight has a gradient, as distributed training requires.
    grads = torch.autograd.grad(reconstruct(y, *leaves).sum(), leaves)
    assert all(g.flatten(1).norm(dim=1).min() > 0 for g in grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward_reconstructs_samples_of_any_size_independently(
    dtype: torch.dtype,
) -> None:
    model, physics = (
        ConvolutionalLISTA(convolutional_frame(3), 0.05, 3),
        dinv.physics.Denoising(),
    )
    for height, width in ((1, 2), (9, 6)):
        y = torch.rand(3, 3, height, width, dtype=dtype)
        together = model(y, physics)
        alone = torch.cat([model(sample[None], physics) for sample in y])
        assert together.dtype == dtype
        atol = 1e-5 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(together, alone, rtol=0, atol=atol)


def test_forward_does_not_depend_on_the_unit_of_the_measurement() -> None:
    """Scaling the operator and the measurement does not change the image."""
    model = ConvolutionalLISTA(convolutional_frame(1), 0.05, 3)
    y = torch.rand(1, 1, 6, 5)
    physics = dinv.physics.Inpainting((1, 6, 5), mask=torch.full((1, 6, 5), 8.0))
    with torch.no_grad():
        model.log_threshold.fill_(-torch.inf)
    expected = model(y, dinv.physics.Denoising())
    torch.testing.assert_close(model(8 * y, physics), expected)


def test_loaded_model_reconstructs_as_the_saved_one(tmp_path: Path) -> None:
    model = ConvolutionalLISTA(convolutional_frame(1), [0.0] + [0.1] * 8, 2)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = ConvolutionalLISTA(ConvolutionalFrame(1, 3), 1.0, 2)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    y, physics = torch.rand(1, 1, 6, 6), dinv.physics.Denoising()
    assert torch.equal(model(y, physics), other(y, physics))


def test_training_for_an_epoch_reduces_the_error() -> None:
    torch.set_default_dtype(torch.float32)
    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    x = torch.linspace(0, 1, 64).reshape(1, 8, 8).expand(32, 1, 8, 8)
    pairs = [{"x": a, "y": b} for a, b in zip(x, physics(x), strict=True)]
    frame = ConvolutionalFrame(1, 3)
    model = deq.plugins.create(
        "reconstructors", "convolutional-lista", frame=frame, weight=0.01, layers=2
    )
    y = physics(x)

    def error() -> float:
        with torch.no_grad():
            return float((model(y, physics) - x).square().mean())

    untrained, start = error(), frame.filters.detach().clone()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    train_for_an_epoch(model, physics, optimizer, pairs, batch_size=2)
    assert error() < 0.9 * untrained
    assert torch.equal(frame.filters, start)


def test_constructor_and_forward_raise_for_bad_input() -> None:
    frame, physics = ConvolutionalFrame(1, 2), dinv.physics.Denoising()
    with pytest.raises(TypeError, match="must be a ConvolutionalFrame, got DenseFrame"):
        ConvolutionalLISTA(DenseFrame(torch.eye(2)), 0.1)
    with pytest.raises(ValueError, match="layers must be an integer >= 1, got 0"):
        ConvolutionalLISTA(frame, 0.1, layers=0)
    with pytest.raises(ValueError, match=r"stepsize is tau times .* got 2"):
        ConvolutionalLISTA(frame, 0.1, stepsize=2)
    with pytest.raises(TypeError, match="stepsize must be a number, got 'x'"):
        ConvolutionalLISTA(frame, 0.1, stepsize="x")
    model = ConvolutionalLISTA(frame, 0.1, 1)
    with pytest.raises(ValueError, match=r"shape \(B, 1, H, W\)"):
        model(torch.rand(1, 3, 4, 4), physics)
    with pytest.raises(TypeError, match="takes no argument 'x_gt'"):
        model(torch.rand(1, 1, 4, 4), physics, x_gt=None)
