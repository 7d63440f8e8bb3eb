from __future__ import annotations

from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.physics import LinearPhysics
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium import ConvergenceError, ConvergenceWarning
from deepinv_equilibrium.models import TikhonovInverse

from ..one_test import in_one_test
from ..quiet_trainer import train_for_an_epoch
from .images import random_images
from .operators import gaussian_blur

DOUBLE = torch.float64


class Matrix(LinearPhysics):
    """Return a dense operator on images without a closed-form proximal operator."""

    def __init__(self, matrix: Tensor, shape: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_buffer("matrix", matrix)
        self.shape = shape

    def A(self, x: Tensor, **_: Any) -> Tensor:
        return x.flatten(1) @ self.matrix.mT

    def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
        return (y @ self.matrix).reshape(-1, *self.shape)


def dense(rows: int, shape: tuple[int, ...], seed: int = 0) -> Matrix:
    generator = torch.Generator().manual_seed(seed)
    columns = torch.Size(shape).numel()
    matrix = torch.randn(rows, columns, generator=generator, dtype=DOUBLE)
    return Matrix(matrix, shape, max_iter=200, tol=1e-13)


def solution(matrix: Tensor, y: Tensor, weight: float) -> Tensor:
    gram = matrix.mT @ matrix + weight * torch.eye(matrix.shape[1], dtype=DOUBLE)
    return torch.linalg.solve(gram, matrix.mT @ y.mT).mT


@pytest.mark.parametrize("rows", [5, 12, 20])
def test_forward_minimises_without_a_closed_form(rows: int) -> None:
    physics = dense(rows, (1, 3, 4))
    y = random_images(1, (3, rows))
    with torch.no_grad():
        x = TikhonovInverse(0.25)(y, physics)
    expected = solution(physics.matrix, y, 0.25).reshape(3, 1, 3, 4)
    torch.testing.assert_close(x, expected, rtol=1e-10, atol=1e-12)


@in_one_test("channels", [1, 3])
@in_one_test("dtype", [torch.float32, DOUBLE])
def test_forward_minimises_with_a_closed_form(
    channels: int, dtype: torch.dtype
) -> None:
    physics = gaussian_blur((channels, 7, 10), 1.0, dtype=dtype)
    y = random_images(2, (2, channels, 7, 10)).to(dtype)
    x = TikhonovInverse(2.0**-6)(y, physics)
    assert x.dtype == dtype
    gap = physics.A_adjoint(physics.A(x) - y) + 2.0**-6 * x
    limit = 20 * torch.finfo(dtype).eps
    assert gap.norm() <= limit * physics.A_adjoint(y).norm()


@in_one_test(
    "physics",
    [
        dinv.physics.Denoising(),
        dinv.physics.Inpainting((2, 8, 8), mask=torch.ones(2, 8, 8)),
        dinv.physics.MRI(mask=(torch.arange(64) % 3 > 0).reshape(8, 8).float()),
        dinv.physics.Downsampling((2, 8, 8), filter="bilinear", factor=2),
    ],
    ids=lambda physics: type(physics).__name__,
)
def test_forward_minimises_for_any_linear_physics(physics: LinearPhysics) -> None:
    y = physics.A(random_images(3, (2, 2, 8, 8)).float())
    x = TikhonovInverse(0.25)(y, physics)
    gap = physics.A_adjoint(physics.A(x) - y) + 0.25 * x
    assert gap.norm() <= 1e-5 * x.norm()


@given(st.floats(1e-4, 10), st.integers(0, 1000))
@settings(max_examples=30)
def test_forward_amplifies_changes_of_y_by_at_most_the_bound(
    weight: float, seed: int
) -> None:
    physics = dense(6, (1, 2, 2), seed)
    # A singular value at the square root of lambda meets the bound.
    left, values, right = torch.linalg.svd(physics.matrix, full_matrices=False)
    values[0] = weight**0.5
    physics.matrix = left @ values.diag() @ right
    model = TikhonovInverse(weight)
    y = torch.cat([left.mT[:1], random_images(seed, (3, 6)) - 0.5])
    with torch.no_grad():
        gains = model(y, physics).flatten(1).norm(dim=1) / y.norm(dim=1)
    bound = 1 / (2 * weight**0.5)
    assert gains.max() <= bound * (1 + 1e-6)
    assert gains[0] == pytest.approx(bound, rel=1e-6)


@pytest.mark.parametrize("closed_form", [True, False])
def test_gradients_agree_with_finite_differences(closed_form: bool) -> None:
    physics: LinearPhysics
    if closed_form:
        physics, shape = gaussian_blur((2, 5, 6), 0.7), (2, 2, 5, 6)
    else:
        physics, shape = dense(4, (1, 2, 3)), (2, 4)
    model = TikhonovInverse(0.25).double()
    y = random_images(4, shape).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda y: model(y, physics), (y,), nondet_tol=1e-10, fast_mode=True
    )
    (raw,) = model.parameters()
    (gradient,) = torch.autograd.grad(model(y, physics).square().sum(), raw)
    values = []
    with torch.no_grad():
        for change in (1e-5, -2e-5):
            raw += change
            values.append(model(y, physics).square().sum().item())
    assert gradient.item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-8)


def test_forward_solves_each_sample_independently() -> None:
    physics = dense(12, (3, 2, 2))
    physics.tol = 1e-3
    y = random_images(5, (3, 12)) * torch.tensor([[1.0], [1e6], [0.0]]).double()
    model = TikhonovInverse(10.0)
    with torch.no_grad():
        together = model(y, physics)
        alone = torch.cat([model(sample[None], physics) for sample in y])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=0)
    assert not together[2].any()


def test_forward_warns_if_a_sample_does_not_converge() -> None:
    physics = dense(12, (1, 3, 4))
    physics.max_iter = 2
    y = random_images(6, (1, 12))
    with pytest.warns(ConvergenceWarning, match="tol and max_iter of the physics"):
        TikhonovInverse(1e-3)(y, physics)
    with pytest.raises(ConvergenceError, match="1 of 1"):
        TikhonovInverse(1e-3, on_failure="raise")(y, physics)
    TikhonovInverse(1e-3, on_failure="ignore")(y, physics)


def test_loaded_model_reconstructs_as_the_saved_one(tmp_path: Path) -> None:
    model, other = TikhonovInverse(0.125), TikhonovInverse(3.0)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert other.lambda_reg[0].item() == pytest.approx(0.125, rel=1e-6)
    assert model.state_dict() == {"lambda_reg.0": pytest.approx(0.125)}


def test_training_learns_the_weight_of_the_wiener_filter() -> None:
    # Of white images and white noise: the quotient of their variances.
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(64, 1, 8, 8, generator=generator)
    physics = gaussian_blur((1, 8, 8), 0.5, noise_level=0.5, dtype=torch.float32)
    pairs = [{"x": image, "y": physics(image[None])[0]} for image in x]
    model = deq.plugins.create("reconstructors", "tikhonov-inverse", lambda_reg=0.05)
    assert type(model) is TikhonovInverse
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    train_for_an_epoch(model, physics, optimizer, pairs, 1)
    assert model.lambda_reg[0].item() == pytest.approx(0.25, rel=0.25)


def test_constructor_and_forward_raise_for_bad_input() -> None:
    model, y = TikhonovInverse(), torch.zeros(1, 1, 4, 4)
    with pytest.raises(TypeError, match=r"deepinv Physics.*got str"):
        model(y, "blur")
    with pytest.raises(TypeError, match="takes no argument 'gamma'"):
        model(y, dinv.physics.Denoising(), gamma=2.0)
    for weight in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"lambda_reg must be positive.*A_dagger"):
            TikhonovInverse(weight)
    with pytest.raises(ValueError, match="on_failure must be one of"):
        TikhonovInverse(on_failure="stop")
    for wrong in ("a", True):
        with pytest.raises(TypeError, match="lambda_reg must be a number"):
            TikhonovInverse(wrong)
