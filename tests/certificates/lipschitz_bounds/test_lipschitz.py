from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import (
    Bound,
    Kind,
    Residual,
    UncertifiableModuleError,
    convolution_norm,
)

from ...one_test import in_one_test
from ..dense_operator import norm

CHANNELS = 2
IMG_SIZE = (CHANNELS, 4, 6)


def batch_norm() -> nn.Module:
    layer = nn.BatchNorm2d(CHANNELS)
    assert layer.running_var is not None
    layer.running_var.uniform_(0.2, 2)
    return layer.eval()


def convolution(**options: object) -> nn.Module:
    return nn.Conv2d(CHANNELS, CHANNELS, 3, **{"padding": 1, **options})


# Layers that keep the number of channels, so that they can be composed in any order.
LAYERS = {
    "zeros": convolution,
    "replicate": lambda: convolution(padding_mode="replicate"),
    "reflect": lambda: convolution(padding_mode="reflect"),
    "circular": lambda: convolution(padding_mode="circular", padding="same"),
    "grouped": lambda: convolution(groups=2, dilation=2, padding=2),
    "strided": lambda: convolution(stride=2),
    "transposed": lambda: nn.ConvTranspose2d(
        *(CHANNELS, CHANNELS, 3), stride=2, padding=1, output_padding=1
    ),
    "batch norm": batch_norm,
    "average": lambda: nn.AvgPool2d(3, 1, 1),
    "maximum": lambda: nn.MaxPool2d(3, 1, 1),
    "adaptive": lambda: nn.AdaptiveAvgPool2d((5, 3)),
    "upsample": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "shuffle": lambda: nn.Sequential(nn.PixelUnshuffle(1), nn.PixelShuffle(1)),
    "linear": lambda: nn.Sequential(
        nn.AdaptiveMaxPool2d((4, 3)), nn.Linear(3, 3), nn.Sigmoid()
    ),
    "residual": lambda: Residual(nn.Sequential(convolution(), nn.ReLU())),
    "relu": nn.ReLU,
    "prelu": nn.PReLU,
    "gelu": nn.GELU,
    "spectral": lambda: parametrizations.spectral_norm(convolution()).eval(),
}


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(sorted(LAYERS)), max_size=4),
    st.integers(0, 10**6),
    st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_lipschitz_bounds_the_jacobian_of_random_networks(
    names: list[str], seed: int, scale: float
) -> None:
    torch.manual_seed(seed)
    network = nn.Sequential(*(LAYERS[name]() for name in names)).double()
    bounds = [deq.lipschitz(network), deq.lipschitz(network, IMG_SIZE)]
    assert bounds[1].value <= bounds[0].value
    x = scale * torch.randn(1, *IMG_SIZE, dtype=torch.float64)
    try:
        jacobian = torch.autograd.functional.jacobian(network, x)
    except RuntimeError:  # strides have left no pixel to reflect
        return
    local = torch.linalg.matrix_norm(jacobian.reshape(-1, x.numel()), 2)
    for bound in bounds:
        assert bound.is_certified
        assert local <= bound.value


@pytest.mark.parametrize("name", ["zeros", "strided", "transposed", "upsample"])
def test_lipschitz_of_a_linear_layer_is_close_to_its_norm(name: str) -> None:
    layer = LAYERS[name]().double()
    truth = norm(layer, (CHANNELS, 12, 14))
    assert truth <= deq.lipschitz(layer).value <= 1.1 * truth


def test_sequential_passes_on_the_image_size() -> None:
    network = nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(4))
    # The first layer pools 8 pixels to 4, so that the second one is the identity.
    assert deq.lipschitz(network, (1, 8, 8)).value == pytest.approx(1)
    assert deq.lipschitz(network).value == pytest.approx(4)
    assert deq.lipschitz(nn.Sequential(), (1, 8, 8)).value == pytest.approx(1)


def test_residual_adds_1_to_the_bound_of_its_block() -> None:
    layer = convolution().double()
    block = Residual(layer)
    bound = deq.lipschitz(block)
    assert bound.value == pytest.approx(1 + deq.lipschitz(layer).value)
    assert norm(block, IMG_SIZE) <= bound.value
    with pytest.raises(ValueError, match=r"\(1, 2, 4, 6\) became \(1, 2, 2, 3\)"):
        Residual(nn.AvgPool2d(2))(torch.zeros(1, *IMG_SIZE))


class Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


class Noisy(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight + torch.rand_like(weight)


def test_lipschitz_applies_the_parametrisation_of_a_weight() -> None:
    layer = nn.Conv2d(2, 2, 3)
    full = deq.lipschitz(layer).value
    parametrize.register_parametrization(layer, "weight", Halved())
    assert deq.lipschitz(layer).value == pytest.approx(full / 2)
    assert deq.lipschitz(layer).value == pytest.approx(
        convolution_norm(layer.weight).item()
    )


def test_lipschitz_refuses_and_restores_a_weight_that_changes() -> None:
    layer = nn.Conv2d(2, 2, 3)
    parametrize.register_parametrization(layer, "weight", Noisy())
    with pytest.raises(UncertifiableModuleError, match="weight changes"):
        deq.lipschitz(layer)

    layer = parametrizations.spectral_norm(nn.Conv2d(2, 2, 3)).train()
    before = [buffer.clone() for buffer in layer.buffers()]
    with pytest.raises(UncertifiableModuleError, match=r"eval\(\)"):
        deq.lipschitz(layer)
    assert all(torch.equal(*pair) for pair in zip(before, layer.buffers(), strict=True))
    assert deq.lipschitz(layer.eval()).is_certified


def test_lipschitz_does_not_change_weights_or_gradients() -> None:
    layer = convolution()
    before = [parameter.clone() for parameter in layer.parameters()]
    deq.lipschitz(layer, IMG_SIZE)
    for old, new in zip(before, layer.parameters(), strict=True):
        assert torch.equal(old, new)
        assert new.grad is None


def test_error_names_the_refused_module() -> None:
    culprit = nn.Dropout()
    network = nn.Sequential(nn.ReLU(), Residual(nn.Sequential(nn.ReLU(), culprit)))
    with pytest.raises(
        UncertifiableModuleError, match=r"'1\.block\.1', a Dropout,"
    ) as caught:
        deq.lipschitz(network)
    assert caught.value.name == "1.block.1"
    assert caught.value.module is culprit
    assert "random" in caught.value.reason
    assert isinstance(caught.value, ValueError)


@in_one_test("pre", [True, False])
@in_one_test("inner", [True, False])
def test_lipschitz_refuses_forward_hooks(pre: bool, inner: bool) -> None:
    network = nn.Sequential(Residual(nn.Sequential(nn.ReLU())))
    module = network[0].block[0] if inner else network
    hook = module.register_forward_pre_hook if pre else module.register_forward_hook
    handle = hook(lambda *arguments: None)
    with pytest.raises(UncertifiableModuleError, match="hooks"):
        deq.lipschitz(network)
    handle.remove()
    assert deq.lipschitz(network).value == pytest.approx(2)


def test_lipschitz_refuses_global_hooks() -> None:
    handle = nn.modules.module.register_module_forward_hook(lambda *arguments: None)
    try:
        with pytest.raises(UncertifiableModuleError, match="global"):
            deq.lipschitz(nn.ReLU())
    finally:
        handle.remove()


@pytest.mark.parametrize("method", ["forward", "_conv_forward"])
def test_lipschitz_refuses_a_method_replaced_on_the_instance(method: str) -> None:
    layer = nn.Conv1d(1, 1, 1)
    setattr(layer, method, lambda *arguments: 2 * arguments[0])
    with pytest.raises(UncertifiableModuleError, match=f"its {method} was replaced"):
        deq.lipschitz(nn.Sequential(layer))


class Estimated(nn.Module):
    def __init__(self, bound: object) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        return x

    def lipschitz_bound(self, img_size: tuple[int, ...] | None) -> object:
        return self.bound


def test_composition_with_an_estimate_is_an_estimate() -> None:
    part = Estimated(Bound(2.0, Kind.ESTIMATED, "power iteration", delta=0.1))
    for network in (nn.Sequential(nn.ReLU(), part), Residual(part)):
        bound = deq.lipschitz(network)
        assert bound.kind is Kind.ESTIMATED
        assert bound.delta == pytest.approx(0.1)
        assert "certified" not in str(bound)


def test_product_of_0_and_infinity_is_infinite() -> None:
    layer = nn.Linear(1, 1)
    nn.init.zeros_(layer.weight)
    network = nn.Sequential(layer, Estimated(Bound(float("inf"), source="unknown")))
    assert deq.lipschitz(network).is_vacuous


@pytest.mark.parametrize("bound", [1.0, None, Bound(1.0, is_lower=True)])
def test_lipschitz_raises_for_a_rule_without_an_upper_bound(bound: object) -> None:
    with pytest.raises(TypeError, match="must return an upper Bound"):
        deq.lipschitz(Estimated(bound))


def test_lipschitz_raises_for_bad_arguments() -> None:
    with pytest.raises(TypeError, match="module must be"):
        deq.lipschitz("network")
    for img_size in ((1, 0), (1, 2.5)):
        with pytest.raises(ValueError, match="img_size must hold positive integers"):
            deq.lipschitz(nn.ReLU(), img_size)
    with pytest.raises(TypeError, match=r"x\.shape\[1:\], got a Tensor\.$"):
        deq.lipschitz(nn.ReLU(), torch.zeros(1, 1, 4, 4))


def test_lipschitz_refuses_a_network_of_deepinv_by_name() -> None:
    for denoiser in (deq.models.SmallDRUNet(pretrained=None),):
        network = nn.Sequential(denoiser)
        with pytest.raises(UncertifiableModuleError, match="'0', a SmallDRUNet"):
            deq.lipschitz(network)


@pytest.mark.parametrize("error", [TypeError, IndexError, ZeroDivisionError])
def test_sequential_continues_after_a_layer_that_fails_on_an_empty_batch(error):
    class Picky(nn.Module):
        def forward(self, x):
            raise error

        def lipschitz_bound(self, img_size):
            return Bound(2.0, source=str(img_size))

    assert deq.lipschitz(nn.Sequential(Picky(), Picky()), (1, 4, 4)).value >= 4
