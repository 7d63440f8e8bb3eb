r"""``Decolorize.prox_l2`` forgets the part of z that A does not see.

The proximal operator of gamma / 2 |A x - y|^2 is the solution of (I + gamma A^T A) x =
z + gamma A^T y. ``Decolorize`` is a ``DecomposablePhysics`` whose V maps one channel to
three, so that V V^T is not the identity, and the formula of the base class returns a
multiple of the spectral response in each pixel, whatever the colours of z are.
"""

import deepinv as dinv
import torch

OURS = "deepinv_equilibrium/equilibrium/measured_physics.py"


def residual() -> torch.Tensor:
    """Return the residual of the normal equations, which should be 0."""
    physics = dinv.physics.Decolorize()
    z = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    y = physics.A(torch.ones_like(z))
    gamma = 0.7
    x = physics.prox_l2(z, y, gamma)
    return x + gamma * physics.A_adjoint(physics.A(x) - y) - z


def test_decolorize_prox_solves_the_normal_equations(device):
    error = residual()
    torch.testing.assert_close(error, torch.zeros_like(error), atol=1e-5, rtol=0)


if __name__ == "__main__":
    print("largest residual (should be 0):", residual().abs().max().item())
