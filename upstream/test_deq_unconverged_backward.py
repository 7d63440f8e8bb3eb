r"""A truncated backward of a DEQ model is silent.

The linear system of the implicit gradient is solved by at most ``max_iter_backward``
iterations. When they do not reach the tolerance, the gradient is wrong (by 44 % for a
step that contracts by .99, with the default of 50) and nothing says so.
"""

import warnings

import deepinv as dinv
import torch

OURS = "deepinv_equilibrium/fixed_points/failures.py"


def gradient_and_warnings() -> tuple[float, list[str]]:
    """Return d x / d w for x = w x + (1 - w) b with w = .99, and the warnings."""

    class Linear(dinv.models.Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(0.99, dtype=torch.float64))

        def forward(self, x, sigma=None, **kwargs):
            return self.weight * x + 0.1

    denoiser = Linear()
    model = dinv.optim.PGD(
        data_fidelity=None,
        prior=dinv.optim.PnP(denoiser),
        max_iter=3000,
        stepsize=1.0,
        g_param=0.1,
        trainable_params=[],
        DEQ=True,
    )
    y = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model(y, dinv.physics.Denoising()).sum().backward()
    return denoiser.weight.grad.item(), [str(warning.message) for warning in caught]


def test_deq_warns_when_the_backward_did_not_converge(device):
    gradient, messages = gradient_and_warnings()
    right = abs(gradient / (0.1 / 0.01**2) - 1) < 1e-2
    assert right or any("backward" in message for message in messages)


if __name__ == "__main__":
    gradient, messages = gradient_and_warnings()
    print("gradient:", gradient, "expected:", 0.1 / 0.01**2, "warnings:", messages)
