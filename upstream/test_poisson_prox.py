r"""The proximal operator of the Poisson distance does not minimise its objective.

prox(x) should minimise gamma d(u, y) + |u - x|^2 / 2 with d(u, y) = sum_i -y_i log(u_i
/ gain + beta) + u_i / gain. With a = x + gain beta - gamma / gain, the minimiser is

    u = (a + sqrt(a^2 + 4 gamma y)) / 2 - gain beta.

``PoissonLikelihoodDistance.prox`` multiplies where it should add, and ignores the
background.
"""

import deepinv as dinv
import torch

OURS = "deepinv_equilibrium/optim/data_fidelities/kullback_leibler_distance.py"


def optimality(gain: float = 0.5, gamma: float = 0.3) -> torch.Tensor:
    """Return the derivative of the objective at the result, which should be 0."""
    distance = dinv.optim.distance.PoissonLikelihoodDistance(gain=gain, bkg=0.1)
    x = torch.linspace(0.5, 2, 8, dtype=torch.float64)[None]
    y = torch.linspace(1, 3, 8, dtype=torch.float64)[None]
    u = distance.prox(x, y, gamma=gamma)
    return u - x + gamma * (1 - y / (u / gain + 0.1)) / gain


def test_poisson_prox_is_optimal(device):
    error = optimality()
    torch.testing.assert_close(error, torch.zeros_like(error))


if __name__ == "__main__":
    print("derivative at the result (should be 0):", optimality())
