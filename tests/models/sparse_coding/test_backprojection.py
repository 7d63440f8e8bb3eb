"""Checks of a measurement, and its back-projection."""

from __future__ import annotations

import deepinv as dinv
import pytest
import torch

from deepinv_equilibrium.models.sparse_coding.frames import backprojection

from .problems import blur


def test_backprojection_returns_the_adjoint_with_its_gradient() -> None:
    physics = blur(1, 5, 6)
    y = torch.rand(2, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    image = backprojection(y, physics)
    assert torch.equal(image, physics.A_adjoint(y))
    assert image.requires_grad


def test_backprojection_raises_for_bad_input() -> None:
    physics = dinv.physics.Denoising()
    y = torch.rand(1, 1, 4, 4)
    with pytest.raises(
        TypeError, match=r"must be a deepinv LinearPhysics, .* got Haze"
    ):
        backprojection(y, dinv.physics.Haze())
    with pytest.raises(TypeError, match=r"y must be real, got torch.complex64"):
        backprojection(y.to(torch.complex64), physics)
    with pytest.raises(TypeError, match=r"y must be a torch.Tensor.* got list"):
        backprojection(y.tolist(), physics)
    with pytest.raises(ValueError, match="y has NaN or infinite values"):
        backprojection(y / 0, physics)
    smaller = dinv.physics.Downsampling((1, 6, 6), filter=None, factor=2)
    with pytest.raises(
        ValueError, match=r"y of shape \(1, 1, 4, 4\) is not a measurement"
    ):
        backprojection(y, smaller)
