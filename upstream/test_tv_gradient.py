r"""The gradient of ``TVDenoiser`` depends on what it has denoised before.

The denoiser starts from the solution of its last call. Only the iterations of the
present call are recorded, and after a warm start these are a few: the derivative in the
weight of total variation is that of these iterations, and not of the solution.
"""

import deepinv as dinv
import torch

OURS = "deepinv_equilibrium/equilibrium/repeatability.py"


def derivatives() -> tuple[float, float]:
    """Return the derivative of |x|^2 in the weight for a first and a second call."""
    denoiser = dinv.models.TVDenoiser(n_it_max=500)
    y = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for _ in range(2):
        weight = torch.tensor(0.1, requires_grad=True)
        denoiser(y, ths=weight).square().sum().backward()
        found.append(weight.grad.item())
    return found[0], found[1]


def test_tv_gradient_does_not_depend_on_earlier_calls(device):
    first, second = derivatives()
    assert abs(second / first - 1) < 1e-2


if __name__ == "__main__":
    print("derivative at the first and at the second call:", derivatives())
