from __future__ import annotations

import pytest
import torch
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModuleError

from ...one_test import in_one_test
from ..dense_operator import norm

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
    nn.Softplus(beta=5.0, threshold=40.0),
]


@in_one_test("activation", ACTIVATIONS, ids=repr)
def test_bound_of_an_activation_is_its_largest_slope(activation: nn.Module) -> None:
    x = torch.linspace(-30, 30, 400_001, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(activation.double()(x[None, None]).sum(), x)
    bound = deq.lipschitz(activation)
    assert bound.is_certified
    # Some activations approach their largest slope without attaining it.
    assert slopes.abs().max() <= bound.value <= 1.002 * slopes.abs().max()


def test_bound_of_prelu_is_the_largest_slope_of_its_channels() -> None:
    activation = nn.PReLU(3)
    with torch.no_grad():
        activation.weight.copy_(torch.tensor([0.1, -4.0, 2.0]))
    assert deq.lipschitz(activation).value == 4.0


def test_bound_of_softmax_is_attained() -> None:
    x = torch.tensor([0.0, 0.0, -50.0], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(nn.Softmax(dim=0), x)
    truth = torch.linalg.matrix_norm(jacobian, 2).item()
    assert truth == pytest.approx(0.5)
    assert deq.lipschitz(nn.Softmax(dim=0)).value == 0.5


@in_one_test(
    ("activation", "match"),
    [
        (nn.RReLU(), "random"),
        (nn.CELU(-1.0), "without bound"),
        (nn.Softplus(), "threshold=40 or more"),
        (nn.Softplus(beta=-1.0, threshold=40), "beta > 0"),
        (nn.Hardshrink(), "no rule"),
        (nn.Threshold(0.1, 20), "no rule"),
        (nn.GLU(), "no rule"),
    ],
)
def test_lipschitz_refuses_activations_without_a_bound(
    activation: nn.Module, match: str
) -> None:
    with pytest.raises(UncertifiableModuleError, match=match):
        deq.lipschitz(activation)


@pytest.mark.parametrize("affine", [True, False])
def test_bound_of_batch_normalisation_in_eval_mode_is_its_norm(affine: bool) -> None:
    layer = nn.BatchNorm2d(3, affine=affine).double()
    assert layer.running_var is not None
    layer.running_var.copy_(torch.tensor([0.1, 4.0, 0.0]))
    if affine:
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([-5.0, 1.0, 1e-3]))
    layer.affine = False  # an edit that forward does not read
    layer.eval()
    assert deq.lipschitz(layer).value == pytest.approx(norm(layer, (3, 2, 2)), 1e-11)
    assert deq.lipschitz(layer).value >= norm(layer, (3, 2, 2)) * (1 - 1e-15)


@in_one_test(
    ("layer", "match"),
    [
        (nn.BatchNorm1d(3), "eval"),
        (nn.BatchNorm3d(3, track_running_stats=False).eval(), "track_running_stats"),
        (nn.InstanceNorm2d(3).eval(), "no rule"),
        (nn.GroupNorm(1, 3), "no rule"),
    ],
)
def test_lipschitz_refuses_layers_that_use_statistics_of_the_input(
    layer: nn.Module, match: str
) -> None:
    with pytest.raises(UncertifiableModuleError, match=match):
        deq.lipschitz(layer)


def test_lipschitz_refuses_a_negative_running_variance() -> None:
    layer = nn.BatchNorm2d(1).eval()
    assert layer.running_var is not None
    layer.running_var.fill_(-1)
    with pytest.raises(UncertifiableModuleError, match="not positive"):
        deq.lipschitz(layer)


@in_one_test(
    "layer", [nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout(), nn.FeatureAlphaDropout()]
)
def test_lipschitz_of_dropout_is_1_in_eval_mode_and_refused_in_train_mode(
    layer: nn.Module,
) -> None:
    with pytest.raises(UncertifiableModuleError, match="random"):
        deq.lipschitz(layer)
    assert deq.lipschitz(layer.eval()).value == 1


def test_lipschitz_of_dropout_with_probability_0_is_1() -> None:
    assert deq.lipschitz(nn.Dropout(0.0)).value == 1
