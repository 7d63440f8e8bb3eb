r"""The implicit gradient of a DEQ model depends on the unit of the loss.

The gradient of c times a loss is c times the gradient. The Anderson acceleration of the
backward pass adds ``eps`` to the diagonal of its system, whatever the size of the
residuals is: for a small loss it makes no progress, and its stopping rule adds 1e-6 to
the norm.
"""

import deepinv as dinv
import torch

OURS = "deepinv_equilibrium/fixed_points/solvers/anderson.py"


def gradient(scale: float) -> float:
    """Return the gradient of scale * loss, divided by scale."""

    class Linear(dinv.models.Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.full((1, 1, 2, 2), 0.9))

        def forward(self, x, sigma=None, **kwargs):
            return self.weight * x.roll(1, -1) + 0.1

    torch.manual_seed(0)
    denoiser = Linear()
    model = dinv.optim.PGD(
        data_fidelity=None,
        prior=dinv.optim.PnP(denoiser),
        max_iter=500,
        stepsize=1.0,
        g_param=0.1,
        trainable_params=[],
        DEQ=dinv.optim.DEQConfig(
            anderson_acceleration_backward=True, max_iter_backward=20
        ),
    )
    y = torch.ones(1, 1, 2, 2)
    (scale * model(y, dinv.physics.Denoising())[..., 0, 0].sum()).backward()
    return denoiser.weight.grad.norm().item() / scale


def test_deq_gradient_is_proportional_to_the_loss(device):
    assert abs(gradient(1e-3) / gradient(1.0) - 1) < 1e-2


if __name__ == "__main__":
    for scale in (1.0, 1e-1, 1e-2, 1e-3):
        print("loss times", scale, "gradient:", gradient(scale))
