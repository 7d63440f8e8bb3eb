r"""Second derivatives of a DEQ model are wrong without a word.

The backward hook solves its system outside of the graph. With ``create_graph=True`` the
derivative of the gradient misses the part that passes this solve. An error would be
right, and a derivative better.
"""

import deepinv as dinv
import torch

OURS = "deepinv_equilibrium/fixed_points/adjoints/gate.py"


def derivatives() -> tuple[float, float]:
    """Return the second derivative of x = w^2 x + sin(x) / 4 + 1 at w = .5, and the
    difference quotient of the first one."""

    class Step(dinv.models.Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

        def forward(self, x, sigma=None, **kwargs):
            return self.weight**2 * x + x.sin() / 4 + 1

    denoiser = Step()
    model = dinv.optim.PGD(
        data_fidelity=None,
        prior=dinv.optim.PnP(denoiser),
        max_iter=200,
        thres_conv=1e-12,
        stepsize=1.0,
        g_param=0.1,
        trainable_params=[],
        DEQ=dinv.optim.DEQConfig(max_iter_backward=200),
    )
    y = torch.ones(1, 1, 1, 1, dtype=torch.float64)

    def first(create_graph: bool = False) -> torch.Tensor:
        x = model(y, dinv.physics.Denoising()).sum()
        return torch.autograd.grad(x, denoiser.weight, create_graph=create_graph)[0]

    (second,) = torch.autograd.grad(first(create_graph=True), denoiser.weight)
    values = []
    for weight in (0.5 - 1e-4, 0.5 + 1e-4):
        denoiser.weight.data.fill_(weight)
        values.append(first().item())
    return second.item(), (values[1] - values[0]) / 2e-4


def test_deq_second_derivative_is_right_or_refused(device):
    try:
        second, expected = derivatives()
    except (RuntimeError, NotImplementedError):
        return
    assert abs(second / expected - 1) < 1e-3


if __name__ == "__main__":
    print("second derivative, and as a difference quotient:", derivatives())
