"""LISTA with matrices: initialisation by ISTA, gradients and training."""

from __future__ import annotations

from pathlib import Path

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import ISTA, LISTA, ConvolutionalFrame, DenseFrame

from ...one_test import in_one_test
from ...quiet_trainer import train_for_an_epoch
from .problems import DOUBLE, dense_frame, matrix_physics


@pytest.fixture(autouse=True)
def double_precision() -> None:
    """Create weights in double precision, to compare to 1e-14."""
    torch.set_default_dtype(DOUBLE)
    yield
    torch.set_default_dtype(torch.float32)


def problem(
    img_size: tuple[int, ...] = (1, 3, 4),
) -> tuple[dinv.physics.LinearPhysics, torch.Tensor, DenseFrame]:
    pixels = torch.Size(img_size).numel()
    physics = matrix_physics(torch.randn(7, pixels), img_size)
    return physics, torch.randn(3, 7), dense_frame(img_size)


def small_model(layers: int = 3, tied: bool = False) -> LISTA:
    physics, _, frame = problem()
    return LISTA(frame, physics, 0.1, layers, tied)


@in_one_test("img_size", [(12,), (1, 3, 4), (3, 2, 2)])
@in_one_test("tied", [True, False])
@in_one_test("layers", [1, 6])
def test_untrained_model_computes_ista(
    img_size: tuple[int, ...], tied: bool, layers: int
) -> None:
    physics, y, frame = problem(img_size)
    weight = torch.linspace(0, 2, frame.atoms)
    ista = ISTA(frame, weight, max_iter=layers, stepsize=1.6)(y, physics)
    lista = LISTA(frame, physics, weight, layers, tied, stepsize=1.6)(y, physics)
    assert (ista != 0).any()
    torch.testing.assert_close(lista, ista, rtol=1e-12, atol=1e-14)


def test_initial_weights_are_those_of_the_slides() -> None:
    """W_t = I - tau B'B and W_e = tau B'."""
    A = torch.randn(7, 12)
    frame = DenseFrame(torch.eye(12)).requires_grad_(False)
    model = LISTA(frame, matrix_physics(A, (12,)), 0.5, 2)
    tau = (model.encoder[0, 0] / A[:, 0]).mean()
    torch.testing.assert_close(model.encoder, (tau * A.mT).expand(2, 12, 7))
    W_t = torch.eye(12) - tau * A.mT @ A
    torch.testing.assert_close(model.transition, W_t.expand(2, 12, 12))
    torch.testing.assert_close(model.log_threshold.exp(), (tau * 0.5).expand(2, 12))
    assert 1 / tau >= torch.linalg.matrix_norm(A, 2) ** 2
    # A frozen frame stays frozen: sparse coding does not learn a decoder.
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        "transition",
        "encoder",
        "log_threshold",
    }


@pytest.mark.parametrize("tied", [True, False])
def test_layers_have_their_own_weights_unless_tied(tied: bool) -> None:
    """Changing the last weights changes the last layer, or every layer if tied."""
    physics, y, frame = problem()
    model = LISTA(frame, physics, 0.1, 3, tied)
    with torch.no_grad():
        model.encoder[-1] *= 2
    z = torch.zeros(3, 15)
    for k in range(3):
        own = -1 if tied or k == 2 else k
        z = z @ model.transition[own].mT + y @ model.encoder[own].mT
        threshold = model.log_threshold[own].exp()
        z = z.sign() * (z.abs() - threshold).clamp_min(0)
    expected = (z @ frame.matrix).reshape(3, 1, 3, 4)
    torch.testing.assert_close(model(y, physics), expected)


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_agree_with_finite_differences(tied: bool) -> None:
    model = small_model(2, tied)
    names = dict(model.named_parameters())

    def reconstruct(y: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(
            model, dict(zip(names, weights, strict=True)), (y,)
        )

    leaves = [p.detach().requires_grad_() for p in names.values()]
    y = torch.randn(2, 7, requires_grad=True)
    assert torch.autograd.gradcheck(reconstruct, (y, *leaves), fast_mode=True)


def test_forward_reconstructs_samples_independently() -> None:
    model, y = small_model(), torch.randn(4, 7)
    alone = torch.cat([model(sample[None]) for sample in y])
    torch.testing.assert_close(model(y), alone, rtol=0, atol=1e-13)


def test_forward_keeps_the_precision_of_the_measurement() -> None:
    model, y = small_model(), torch.randn(2, 7)
    single = model(y.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), model(y), rtol=1e-4, atol=1e-5)


def test_loaded_model_reconstructs_as_the_saved_one(tmp_path: Path) -> None:
    model, other = small_model(), small_model()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    y = torch.randn(2, 7)
    assert not torch.equal(model(y), other(y))
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(model(y), other(y))


def test_training_for_an_epoch_gives_a_smaller_error_than_ista() -> None:
    torch.set_default_dtype(torch.float32)
    physics = matrix_physics(torch.randn(10, 12) / 10**0.5, (12,))
    x = torch.randn(256, 12) * (torch.rand(256, 12) < 0.1)
    pairs = [{"x": a, "y": b} for a, b in zip(x, physics.A(x), strict=True)]
    eye = DenseFrame(torch.eye(12)).requires_grad_(False)
    model = deq.plugins.create(
        "reconstructors", "lista", frame=eye, physics=physics, weight=0.05, layers=4
    )

    def error() -> float:
        with torch.no_grad():
            return float((model(physics.A(x), physics) - x).square().mean())

    untrained = error()
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    train_for_an_epoch(model, physics, optimizer, pairs, batch_size=8)
    assert error() < 0.85 * untrained


def test_constructor_and_forward_raise_for_bad_input() -> None:
    physics, _, frame = problem()
    with pytest.raises(
        TypeError, match=r"frame must be a DenseFrame, got Convol.*Conv"
    ):
        LISTA(ConvolutionalFrame(1), physics, 0.1)
    with pytest.raises(TypeError, match="physics must be a deepinv LinearPhysics"):
        LISTA(frame, dinv.physics.Physics(), 0.1)
    with pytest.raises(ValueError, match="layers must be an integer >= 1, got 0"):
        LISTA(frame, physics, 0.1, layers=0)
    with pytest.raises(ValueError, match=r"stepsize is tau times .* got 2.5"):
        LISTA(frame, physics, 0.1, stepsize=2.5)
    with pytest.raises(ValueError, match="weight must be nonnegative and finite"):
        LISTA(frame, physics, -0.1)
    model = LISTA(frame, physics, 0.1)
    with pytest.raises(ValueError, match=r"shape \(B, \*\(7,\)\), got .* \(2, 6\)"):
        model(torch.rand(2, 6))
    with pytest.raises(ValueError, match="y has NaN or infinite values"):
        model(torch.full((2, 7), torch.nan))
    stacked = dinv.physics.stack(physics, physics)
    message = (
        "must be one tensor, .* got TensorList: for a stacked .* ConvolutionalLISTA"
    )
    with pytest.raises(TypeError, match=f"physics {message}"):
        LISTA(frame, stacked, 0.1)
    with pytest.raises(TypeError, match=f"y {message}"):
        model(dinv.utils.TensorList([torch.rand(2, 7)]))
    with pytest.raises(TypeError, match="LISTA takes no argument 'x_gt'"):
        model(torch.rand(2, 7), physics, x_gt=None)
