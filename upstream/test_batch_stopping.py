r"""A sample stops before it meets the tolerance, because its batch-mates do.

The criterion is the mean of the residuals of the batch. A slow sample in a batch of 32
stops at a residual of 32 times the tolerance when the others are at their fixed points.
"""

import deepinv as dinv
import torch

OURS = "deepinv_equilibrium/fixed_points/solvers/sample_records.py"


def restored(batch: torch.Tensor) -> torch.Tensor:
    """Return the results of an iteration that is slow for samples below 1."""

    class Slow(dinv.models.Denoiser):
        def forward(self, x, sigma=None, **kwargs):
            large = x.abs().amax(dim=(1, 2, 3), keepdim=True) > 1
            return torch.where(large, x, 0.9 * x + 0.01)

    model = dinv.optim.PGD(
        data_fidelity=None,
        prior=dinv.optim.PnP(Slow()),
        max_iter=2000,
        thres_conv=1e-3,
        early_stop=True,
        stepsize=1.0,
        g_param=0.1,
    )
    return model(batch, dinv.physics.Denoising())


def difference() -> float:
    """Return the change of a sample that has batch-mates, relative to its norm."""
    slow, fast = torch.full((1, 1, 2, 2), 0.5), torch.full((31, 1, 2, 2), 2.0)
    alone, together = restored(slow)[0], restored(torch.cat([slow, fast]))[0]
    return ((together - alone).norm() / alone.norm()).item()


def test_result_does_not_depend_on_the_batch(device):
    assert difference() < 2e-2


if __name__ == "__main__":
    print("relative change of a sample with 31 batch-mates:", difference())
