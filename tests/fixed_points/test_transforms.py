"""Transforms of torch.func, forward mode and batched cotangents."""

from __future__ import annotations

from collections.abc import Callable

import deepinv as dinv
import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.fixed_points import Adjoint

from ..one_test import in_one_test

A = torch.tensor([0.5, -0.25, 1.0], dtype=torch.float64)
ADJOINTS = [
    deq.Implicit(),
    deq.Neumann(3),
    deq.SHINE(),
    deq.JacobianFree(),
    deq.Unrolled(),
]


def solve(a: Tensor, adjoint: Adjoint) -> Tensor:
    solver = deq.Broyden() if isinstance(adjoint, deq.SHINE) else deq.Picard()
    x = deq.fixed_point(
        lambda x: torch.tanh(0.3 * x + a), torch.zeros(2, 3).double(), solver, adjoint
    ).x
    assert isinstance(x, Tensor)
    return x


def loss(a: Tensor, adjoint: Adjoint) -> Tensor:
    return solve(a, adjoint).square().sum()


def test_func_grad_agrees_with_autograd_for_unrolled() -> None:
    a = A.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(a, deq.Unrolled()), a)
    found = torch.func.grad(loss)(A, deq.Unrolled())
    torch.testing.assert_close(found, expected)


@in_one_test("adjoint", ADJOINTS[:4])
def test_func_grad_raises_for_adjoints_that_do_not_record_all_iterations(
    adjoint: Adjoint,
) -> None:
    with pytest.raises(RuntimeError, match=r"by torch.func.grad.*the adjoint Unrolled"):
        torch.func.grad(loss)(A, adjoint)


def test_func_grad_accepts_a_solve_without_gradients() -> None:
    def scaled(a: Tensor) -> Tensor:
        with torch.no_grad():
            x = solve(A, deq.Implicit())
        return (a * x).sum()

    torch.testing.assert_close(
        torch.func.grad(scaled)(A), solve(A, deq.Implicit()).sum(0)
    )


@pytest.mark.parametrize("adjoint", ADJOINTS)
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
def test_fixed_point_raises_in_forward_mode(grad: bool, adjoint: Adjoint) -> None:
    """The derivative would silently be 0."""
    message = "cannot be differentiated in forward mode"
    one = torch.ones_like(A)
    with torch.set_grad_enabled(grad):
        with pytest.raises(RuntimeError, match=message):
            torch.func.jvp(lambda a: solve(a, adjoint), (A,), (one,))
        with forward_ad.dual_level(), pytest.raises(RuntimeError, match=message):
            solve(forward_ad.make_dual(A, one), adjoint)


@in_one_test("adjoint", ADJOINTS)
def test_fixed_point_raises_in_vmap(adjoint: Adjoint) -> None:
    with pytest.raises(RuntimeError, match=r"cannot run in torch.func.vmap.*batch"):
        torch.func.vmap(lambda a: solve(a, adjoint))(torch.stack([A, A]))


@in_one_test("adjoint", ADJOINTS)
def test_batched_cotangents_agree_with_single_ones_or_raise(
    adjoint: Adjoint,
) -> None:
    a = A.clone().requires_grad_()
    vectors = torch.randn(4, 2, 3, dtype=torch.float64)

    def pull(vectors: Tensor, batched: bool) -> Tensor:
        x = solve(a, adjoint)
        return torch.autograd.grad(x, a, vectors, is_grads_batched=batched)[0]

    if adjoint in ADJOINTS[:3]:
        with pytest.raises(RuntimeError, match="takes one cotangent at a time"):
            pull(vectors, True)
        return
    each = torch.stack([pull(vector, False) for vector in vectors])
    torch.testing.assert_close(pull(vectors, True), each)


def test_model_raises_in_transforms() -> None:
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.Tikhonov(),
        trainable_params=[],
        DEQ=deq.Equilibrium(),
    )
    y, physics = torch.rand(2, 1, 4, 4), dinv.physics.Denoising()
    transforms: list[tuple[Callable[..., object], str]] = [
        (torch.func.vmap, "cannot run in torch.func.vmap"),
        (torch.func.jacrev, "cannot be differentiated by torch.func.grad"),
        (torch.func.jacfwd, "cannot run in torch.func.vmap"),
    ]
    for transform, message in transforms:
        with pytest.raises(RuntimeError, match=f"PGD with DEQ {message}"):
            transform(lambda y: model(y, physics))(y)
