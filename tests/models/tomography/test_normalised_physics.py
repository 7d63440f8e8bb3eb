from __future__ import annotations

import torch

from deepinv_equilibrium.models.tomography.learned_iterations import NormalisedPhysics

from ...certificates.dense_operator import matrix
from .test_learned_iterations import SIZE, scaled


def test_operator_adjoint_and_measurement_are_divided_by_the_norm() -> None:
    physics = scaled(7.0)
    y = physics.A(torch.rand(1, 1, SIZE, SIZE, dtype=torch.float64))
    normalised = NormalisedPhysics(physics, y, norm=3.5)
    A = matrix(physics.A, (1, SIZE, SIZE))
    got = matrix(normalised.apply, (1, SIZE, SIZE))
    torch.testing.assert_close(got, A / 3.5)
    back = matrix(normalised.adjoint, tuple(y.shape[1:]))
    torch.testing.assert_close(back, A.T / 3.5)
    torch.testing.assert_close(normalised.y, y / 3.5)
