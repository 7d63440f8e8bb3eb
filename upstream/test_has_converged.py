r"""``has_converged`` stays true when a later call did not converge."""

import deepinv as dinv
import torch

OURS = "deepinv_equilibrium/fixed_points/solution.py"


def flags() -> list[bool]:
    """Return the flag after a call that converges and one that cannot."""

    class Doubling(dinv.models.Denoiser):
        factor = 0.5

        def forward(self, x, sigma=None, **kwargs):
            return self.factor * x + 1

    denoiser = Doubling()
    model = dinv.optim.PGD(
        data_fidelity=None,
        prior=dinv.optim.PnP(denoiser),
        max_iter=100,
        early_stop=True,
        stepsize=1.0,
        g_param=0.1,
    )
    y, found = torch.ones(1, 1, 2, 2), []
    for factor in (0.5, -1.0):  # with -1 the iterates alternate
        denoiser.factor = factor
        model(3 * y, dinv.physics.Denoising())
        found.append(bool(model.has_converged))
    return found


def test_has_converged_is_that_of_the_last_call(device):
    assert flags() == [True, False]


if __name__ == "__main__":
    print("has_converged after a call that converges, and one that does not:", flags())
