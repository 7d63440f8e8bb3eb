"""The stored norm of a physics, compared with dense matrices."""

from __future__ import annotations

from unittest.mock import Mock

import deepinv as dinv
import pytest
import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from deepinv_equilibrium.certificates import AdjointMismatchError, Kind
from deepinv_equilibrium.certificates.spectra import operator_norm
from deepinv_equilibrium.certificates.spectra.operator_norm import OperatorNorm

from ..dense_operator import norm

SIZE = (1, 4, 5)


def modulation(factor: Tensor, adjoint_scale: float = 1.0) -> LinearPhysics:
    """Return a complex factor times the sum of an image and i times its shift."""

    def adjoint(y: Tensor, **_: object) -> Tensor:
        z = factor.conj() * y
        return adjoint_scale * (z - 1j * z.roll(-1, -1))

    physics = LinearPhysics(
        A=lambda x, **_: factor * (x + 1j * x.roll(1, -1)), A_adjoint=adjoint
    )
    physics.register_buffer("mask", factor)
    return physics


def factor(batch: int = 1) -> Tensor:
    return torch.randn(batch, *SIZE, dtype=torch.complex128)


def dense_complex(physics: LinearPhysics) -> float:
    """Return the norm of the dense complex matrix."""
    basis = torch.eye(20, dtype=torch.complex128).reshape(-1, *SIZE)
    return float(torch.linalg.matrix_norm(physics.A(basis).flatten(1), 2))


def test_squared_is_certified_for_real_images() -> None:
    kernel = torch.randn(1, 1, 3, 3, dtype=torch.float64)
    physics = dinv.physics.Blur(filter=kernel, padding="circular")
    bound = OperatorNorm().squared(physics, torch.zeros(2, *SIZE).double())
    truth = norm(physics.A, SIZE) ** 2
    assert bound.kind is Kind.CERTIFIED
    assert truth <= bound.value <= (1 + 1e-9) * truth


def test_squared_bounds_the_dense_norm_for_complex_images() -> None:
    physics = modulation(factor())
    bound = OperatorNorm().squared(physics, torch.zeros(1, *SIZE, dtype=factor().dtype))
    truth = dense_complex(physics) ** 2
    assert bound.kind is Kind.ESTIMATED
    assert truth <= bound.value <= 1.1 * truth


def test_squared_bounds_complex_images_with_a_larger_norm_than_real_ones() -> None:
    # x + i x(-1) has norm sqrt(2) on real images and norm 2 on complex images.
    physics = modulation(torch.ones(1, *SIZE, dtype=torch.complex128))
    bound = OperatorNorm().squared(physics, torch.zeros(1, *SIZE, dtype=factor().dtype))
    assert 3.5 < dense_complex(physics) ** 2 <= bound.value


def test_squared_bounds_the_largest_operator_of_a_batch() -> None:
    masks = factor(3)
    masks[2] *= 10
    bound = OperatorNorm().squared(
        modulation(masks), torch.zeros(3, *SIZE, dtype=masks.dtype)
    )
    assert bound.value >= dense_complex(modulation(masks[2:])) ** 2


def test_squared_is_computed_again_only_if_the_physics_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spectrum = Mock(wraps=operator_norm.spectrum)
    monkeypatch.setattr(operator_norm, "spectrum", spectrum)
    memory, x = OperatorNorm(), torch.zeros(2, *SIZE)
    physics = dinv.physics.Inpainting(SIZE, mask=torch.ones(SIZE))
    assert memory.squared(physics, x).value == pytest.approx(1)
    memory.squared(
        physics, torch.ones(7, *SIZE)
    )  # batch size and values are irrelevant
    assert spectrum.call_count == 1

    physics.mask[..., 0] = 3.0  # in place
    assert memory.squared(physics, x).value == pytest.approx(9)
    physics.update(mask=torch.full((1, *SIZE), 2.0))
    assert memory.squared(physics, x).value == pytest.approx(4)
    other = dinv.physics.Inpainting(SIZE, mask=torch.ones(SIZE))
    assert memory.squared(other, x).value == pytest.approx(1)
    assert spectrum.call_count == 4
    memory.squared(dinv.physics.Denoising(), torch.zeros(1, 1, 9, 9))
    assert spectrum.call_count == 5


@pytest.mark.parametrize("scale", [0.9, -1.0, 0.0])
def test_squared_raises_for_a_wrong_complex_adjoint(scale: float) -> None:
    with pytest.raises(AdjointMismatchError, match="Use an exact adjoint"):
        OperatorNorm().squared(
            modulation(factor(), scale), torch.zeros(1, *SIZE, dtype=factor().dtype)
        )


def test_squared_raises_for_the_zero_operator() -> None:
    physics = dinv.physics.Inpainting(SIZE, mask=torch.zeros(SIZE))
    with pytest.raises(ValueError, match="the norm of Inpainting must be positive"):
        OperatorNorm().squared(physics, torch.zeros(1, *SIZE))


class Hidden(LinearPhysics):
    """A physics with a factor in a private attribute."""

    def __init__(self) -> None:
        super().__init__()
        self._factor, self.power = 1.0, 1

    def A(self, x: Tensor, **_: object) -> Tensor:
        return self._factor**self.power * x

    def A_adjoint(self, y: Tensor, **_: object) -> Tensor:
        return self.A(y)


def test_squared_notices_changes_of_hidden_parameters() -> None:
    memory, physics, x = OperatorNorm(), Hidden(), torch.zeros(1, *SIZE)
    assert memory.squared(physics, x).value == pytest.approx(1, rel=0.1)
    physics._factor = 3.0
    assert memory.squared(physics, x).value >= 9
    physics.power = 2
    assert memory.squared(physics, x).value >= 81

    def scaled(factor: float) -> LinearPhysics:
        return LinearPhysics(
            A=lambda x, **_: factor * x, A_adjoint=lambda y, **_: factor * y
        )

    assert memory.squared(scaled(1.0), x).value == pytest.approx(1, rel=0.1)
    assert memory.squared(scaled(10.0), x).value >= 100
