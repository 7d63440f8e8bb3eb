from __future__ import annotations

import math
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Kind
from deepinv_equilibrium.diagnostics import worst_case

PHYSICS = dinv.physics.Denoising()


def linear(matrix: Tensor) -> Any:
    return lambda y, physics: (y.flatten(1) @ matrix.T).reshape(y.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
def test_gain_is_operator_norm_of_linear_model(dtype: torch.dtype) -> None:
    matrix = torch.randn(12, 12, dtype=dtype)
    y = torch.randn(2, 3, 4, dtype=dtype)
    found = worst_case(linear(matrix), y, PHYSICS, 0.1, steps=300)
    norm = torch.linalg.matrix_norm(matrix, 2)
    torch.testing.assert_close(found.gain, norm.expand(2), rtol=1e-3, atol=0)
    sizes = found.perturbation.flatten(1).norm(dim=1)
    torch.testing.assert_close(sizes, torch.full_like(sizes, 0.1))
    change = found.image - linear(matrix)(y, PHYSICS)
    torch.testing.assert_close(
        found.change, change.flatten(1).norm(dim=1), rtol=1e-3, atol=1e-5
    )
    torch.testing.assert_close(found.gain, found.change / 0.1)


def test_each_sample_has_its_own_gain() -> None:
    y = torch.randn(2, 4, dtype=torch.float64)
    factors = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    found = worst_case(lambda y, physics: factors * y, y, PHYSICS, 0.2, steps=2)
    torch.testing.assert_close(found.gain, factors[:, 0])
    stability = found.stability
    assert stability.kind is Kind.OBSERVED
    assert stability.is_lower
    assert stability.value == pytest.approx(3)
    assert str(found).splitlines()[2].split() == ["1", "6.00e-01", "3"]
    assert "stability >~ 3 (observed" in str(found)


def test_gain_is_infinite_where_perturbation_gives_nan() -> None:
    y = torch.full((3, 4), 2.0, dtype=torch.float64)
    y[1] = 0.0  # where the logarithm of a perturbation is NaN
    y[2] = torch.nan

    def model(y: Tensor, physics: Any) -> Tensor:
        return torch.where(y == 0, 0 * y, torch.log(y))

    found = worst_case(model, y, PHYSICS, 0.01, steps=5)
    assert found.gain[0] == pytest.approx(0.5, rel=1e-2)
    assert found.gain[1] == math.inf
    assert found.gain[2].isnan()
    assert found.stability.value == math.inf
    assert "returns NaN" in found.stability.source


def test_gain_is_at_most_certified_stability() -> None:
    size = (1, 7, 6)
    kernel = dinv.physics.functional.gaussian_blur(sigma=(0.7, 0.7)).double()
    physics = dinv.physics.BlurFFT(size, filter=kernel)
    denoiser = deq.models.ConvexPotentialDenoiser(
        1, contraction=0.8, pretrained=None, layers=2, kernel_size=3
    )
    model = deq.models.EquilibriumRegularisation(
        denoiser.double(),
        alpha=0.3,
        DEQ=deq.Equilibrium(
            deq.Anderson(rtol=1e-10), deq.Implicit(deq.GMRES(rtol=1e-8))
        ),
    ).double()
    bound = deq.certify(model, physics, size).stability
    y = torch.rand(2, *size, dtype=torch.float64)
    for noise_level in (1e-3, 1.0):
        found = worst_case(model, y, physics, noise_level, steps=10)
        assert found.stability.value <= bound.value
        assert found.stability.value > 0.3 * bound.value
    assert all(p.grad is None for p in model.parameters())


def test_bad_arguments_are_named() -> None:
    y = torch.rand(1, 4)
    for noise_level in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match="norm must be"):
            worst_case(linear(torch.eye(4)), y, PHYSICS, noise_level)
    with pytest.raises(ValueError, match="steps"):
        worst_case(linear(torch.eye(4)), y, PHYSICS, 0.1, steps=0)
    with pytest.raises(ValueError, match="differentiable in the measurement"):
        worst_case(lambda y, physics: y.detach(), y, PHYSICS, 0.1)
