from __future__ import annotations

import pytest
import torch
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModuleError

ACTIVATIONS = [
    nn.ReLU(),
    nn.ReLU6(),
    nn.Hardtanh(-0.5, 2.0),
    nn.Sigmoid(),
    nn.LogSigmoid(),
    nn.Hardsigmoid(),
    nn.Tanh(),
    nn.Tanhshrink(),
    nn.Softsign(),
    nn.Softshrink(0.3),
    nn.SELU(),
    nn.SiLU(),
    nn.Mish(),
    nn.Hardswish(),
    nn.GELU(),
    nn.GELU(approximate="tanh"),
    nn.LeakyReLU(-1.5),
    nn.LeakyReLU(0.2),
    nn.PReLU(init=-2.0),
    nn.RReLU(1.0, 2.0).eval(),
    nn.ELU(0.5),
    nn.ELU(-3.0),
    nn.CELU(0.2),
    nn.Softplus(beta=5.0),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_the_bound_is_the_largest_slope(activation: nn.Module) -> None:
    x = torch.linspace(-30, 30, 400_001, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(activation.double()(x[None, None]).sum(), x)
    bound = deq.lipschitz(activation)
    assert bound.is_certified
    # The largest slope of some is only approached.
    assert slopes.abs().max() <= bound.value <= 1.002 * slopes.abs().max()


def test_every_channel_of_prelu_counts() -> None:
    activation = nn.PReLU(3)
    with torch.no_grad():
        activation.weight.copy_(torch.tensor([0.1, -4.0, 2.0]))
    assert deq.lipschitz(activation).value == 4.0


def test_softmax() -> None:
    x = torch.tensor([0.0, 0.0, -50.0], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(nn.Softmax(dim=0), x)
    truth = torch.linalg.matrix_norm(jacobian, 2).item()
    assert truth == pytest.approx(0.5)
    assert deq.lipschitz(nn.Softmax(dim=0)).value == 0.5


@pytest.mark.parametrize(
    ("activation", "match"),
    [
        (nn.RReLU(), "random"),
        (nn.CELU(-1.0), "without bound"),
        (nn.Softplus(threshold=5), "threshold of at least 20"),
        (nn.Hardshrink(), "no rule"),
        (nn.Threshold(0.1, 20), "no rule"),
        (nn.GLU(), "no rule"),
    ],
)
def test_what_is_not_lipschitz_is_refused(activation: nn.Module, match: str) -> None:
    with pytest.raises(UncertifiableModuleError, match=match):
        deq.lipschitz(activation)
