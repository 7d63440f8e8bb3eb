r"""A DEQ model evaluates two steps more than asked for when no gradient is needed.

``DEQ_additional_step`` records two more steps for the backward pass, and also makes
them under ``torch.no_grad()``, where nothing is recorded: ten iterations cost twelve.
"""

import deepinv as dinv
import torch

OURS = "deepinv_equilibrium/fixed_points/solve.py"


class CountingDenoiser(dinv.models.Denoiser):
    """Half of its input; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor, sigma: object = None, **kwargs) -> torch.Tensor:
        self.calls += 1
        return 0.5 * x


def calls() -> int:
    """Return the evaluations of ten iterations without gradient."""
    denoiser = CountingDenoiser()
    model = dinv.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        max_iter=10,
        stepsize=1.0,
        g_param=0.1,
        DEQ=True,
    )
    y = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model(y, dinv.physics.Denoising())
    return denoiser.calls


def test_deq_makes_no_further_step_without_gradient(device):
    assert calls() == 10


if __name__ == "__main__":
    print("evaluations for ten iterations:", calls())
