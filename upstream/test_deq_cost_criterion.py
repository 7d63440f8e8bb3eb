r"""``crit_conv="cost"`` crashes in the backward of a DEQ model.

The iterates of the backward pass have no cost, but its stopping rule is that of the
forward pass: the backward ends in ``KeyError: 'cost'``.
"""

import deepinv as dinv
import torch

OURS = "deepinv_equilibrium/optim/deepinv_options.py"


def gradient() -> torch.Tensor:
    """Return the gradient of a DEQ model in its step size."""
    model = dinv.optim.GD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.Tikhonov(),
        max_iter=50,
        stepsize=0.3,
        crit_conv="cost",
        trainable_params=["stepsize"],
        DEQ=True,
    )
    y = torch.rand(1, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    model(y, dinv.physics.Denoising()).sum().backward()
    return model.params_algo["stepsize"][0].grad


def test_deq_backward_with_cost_criterion(device):
    assert gradient() is not None


if __name__ == "__main__":
    print(gradient())
