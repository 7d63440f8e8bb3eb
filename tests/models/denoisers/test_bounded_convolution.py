from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import convolution_norm
from deepinv_equilibrium.models import BoundedConvolution
from deepinv_equilibrium.models.denoisers import bounded_convolution as module

from ...one_test import in_one_test

DOUBLE = {"dtype": torch.float64}


def make_layer(
    seed: int = 0, inputs: int = 2, outputs: int = 3, kernel_size: int = 3
) -> BoundedConvolution:
    torch.manual_seed(seed)
    layer = BoundedConvolution(inputs, outputs, kernel_size).double()
    with torch.no_grad():
        layer.bias.normal_()
    return layer


def dense(layer: BoundedConvolution, height: int, width: int) -> Tensor:
    """Return the matrix of the linear part, from a batch of all unit images."""
    inputs = layer.weight.shape[1]
    units = torch.eye(inputs * height * width, **DOUBLE)
    with torch.no_grad():
        origin = layer(torch.zeros(1, inputs, height, width, **DOUBLE))
        return (layer(units.unflatten(1, (inputs, height, width))) - origin).flatten(1)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 3),
    kernel_size=st.sampled_from([1, 3, 5]),
    height=st.integers(1, 8),
    width=st.integers(1, 8),
    scale=st.sampled_from([1e-200, 1e-12, 1e-3, 1.0, 1e3, 1e12]),
)
def test_layer_is_nonexpansive_for_all_sizes_and_scales(
    seed: int,
    inputs: int,
    outputs: int,
    kernel_size: int,
    height: int,
    width: int,
    scale: float,
):
    layer = make_layer(seed, inputs, outputs, kernel_size)
    with torch.no_grad():
        layer.weight.mul_(scale)
    norm = torch.linalg.matrix_norm(dense(layer, height, width), 2)
    assert norm <= layer.norm() <= 1


def test_layer_and_gradient_follow_weights_that_were_changed_through_data():
    layer, fresh = make_layer(15), make_layer(15)
    x = torch.rand(1, 2, 4, 4, **DOUBLE)
    layer(x).sum().backward()
    for each in (layer, fresh):
        each.zero_grad()
        each.weight.data.clamp_(-0.1, 0.2).mul_(100)
        each(x).square().sum().backward()
    assert torch.equal(layer.weight.grad, fresh.weight.grad)
    assert torch.equal(layer(x), fresh(x))
    assert torch.linalg.matrix_norm(dense(layer, 6, 6), 2) <= layer.norm() <= 1


def test_norm_is_tight_on_a_large_image():
    norm = torch.linalg.matrix_norm(dense(make_layer(1, 1, 2), 20, 20), 2)
    assert norm > 0.92  # 1 / 1.039, and an image of 20 x 20 is not all the plane


def test_norm_of_the_reshaped_kernel_does_not_bound_the_norm():
    layer = BoundedConvolution(1, 1).double()
    with torch.no_grad():
        layer.weight.fill_(1.0)
    reshaped = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
    true = torch.linalg.matrix_norm(dense(layer, 16, 16), 2)
    applied = layer.normalised_weight().detach().sum()
    assert 9 / reshaped == pytest.approx(3)  # three times what it divides by
    assert 0.9 < true <= applied <= 1


def test_forward_computes_the_documented_formula():
    layer = make_layer(2)
    x = torch.rand(2, 2, 5, 4, **DOUBLE)
    norm = convolution_norm(layer.weight, grid=16)
    expected = torch.nn.functional.conv2d(x, layer.weight / norm, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_forward_with_zero_weights_returns_the_bias():
    layer = make_layer(3)
    with torch.no_grad():
        layer.weight.zero_()
    out = layer(torch.rand(1, 2, 4, 4, **DOUBLE))
    torch.testing.assert_close(out, layer.bias[:, None, None].expand(1, 3, 4, 4))


def test_gradient_passes_through_the_norm():
    layer = make_layer(4)
    x = torch.rand(1, 2, 4, 4, **DOUBLE, requires_grad=True)

    def apply(x: Tensor, weight: Tensor) -> Tensor:
        with torch.no_grad():
            layer.weight.copy_(weight)
        kept = layer(x)
        # The argument replaces the parameter, for which a gradient is cached.
        return kept + 0 * weight.sum()

    weight = layer.weight.detach().clone()
    out = apply(x, weight)
    cotangent = torch.randn_like(out)
    (gradient,) = torch.autograd.grad(out, layer.weight, cotangent)
    direction = torch.randn_like(weight)
    h = 1e-6
    ahead, behind = (
        (apply(x, weight + sign * h * direction) * cotangent).sum() for sign in (1, -1)
    )
    slope = (ahead - behind) / (2 * h)
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-6, atol=0)
    # The layer does not depend on the scale of its weights.
    assert (gradient * weight).sum().abs() < 1e-12


def test_second_derivative_in_the_image_is_right():
    layer = make_layer(5)
    x = torch.rand(1, 2, 4, 4, **DOUBLE, requires_grad=True)

    def squared(x: Tensor) -> Tensor:
        return layer(x).square()

    assert torch.autograd.gradcheck(squared, (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(squared, (x,), fast_mode=True)


def test_bound_is_computed_once_for_each_state_of_the_weights(
    monkeypatch: pytest.MonkeyPatch,
):
    calls = []

    def counted(*args, **kwargs) -> Tensor:
        calls.append(args)
        return convolution_norm(*args, **kwargs)

    monkeypatch.setattr(module, "convolution_norm", counted)
    layer = make_layer(7)
    x = torch.rand(1, 2, 6, 6, **DOUBLE)
    with torch.no_grad():
        for _ in range(3):
            x = layer(x)[:, :2]
    for _ in range(3):
        layer(x).sum().backward()
    assert len(calls) == 1
    torch.optim.SGD(layer.parameters(), 0.1).step()
    after = layer(x)
    assert len(calls) == 2
    fresh = copy.deepcopy(layer)
    assert torch.equal(fresh(x), after)
    assert len(calls) == 2
    layer.load_state_dict(make_layer(8).state_dict())
    assert torch.equal(layer(x), make_layer(8)(x))


# torch scripts its own rules when forward mode is first used.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
def test_forward_mode_and_functional_call_agree_with_backward():
    layer = make_layer(9)
    x, v = torch.rand(2, 1, 2, 4, 4, **DOUBLE)
    with torch.no_grad():
        _, tangent = torch.func.jvp(lambda x: layer(x), (x,), (v,))
    torch.testing.assert_close(tangent, layer(v) - layer(0 * v), rtol=1e-12, atol=1e-12)
    weights = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(layer, weights, (x,)).square().sum()

    expected = torch.func.grad(loss)(weights)["weight"]
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


def test_bound_cached_in_inference_mode_has_a_gradient():
    layer, twin = make_layer(14), make_layer(14)
    x = torch.rand(1, 2, 4, 4, **DOUBLE)
    with torch.inference_mode():
        assert torch.equal(layer(x), twin(x))
    fresh = make_layer(14)
    for each in (layer, fresh):
        each(x).square().sum().backward()
    assert torch.equal(layer.weight.grad, fresh.weight.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward_keeps_the_dtype_of_the_image(dtype: torch.dtype):
    layer = make_layer(10)
    x = torch.rand(1, 2, 6, 6, **DOUBLE)
    expected = layer(x)
    out = layer.float()(x.to(dtype))
    assert out.dtype == dtype
    # The bound of the norm of float32 filters is enlarged by 1e-6 for rounding.
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=5e-6)


def test_float32_filters_are_nonexpansive_despite_rounding():
    for seed in range(20):
        assert make_layer(seed, 1, 1, 1).float().norm() <= 1


def test_loaded_and_pickled_layers_compute_the_same(tmp_path: Path):
    layer = make_layer(11)
    x = torch.rand(1, 2, 5, 5, **DOUBLE)
    expected = layer(x)
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    other = make_layer(12)
    other.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    for twin in (other, pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), expected)


@in_one_test(
    ("arguments", "message"),
    [
        ((0, 1), "in_channels must be an integer >= 1, got 0"),
        ((1, 0), "out_channels must be an integer >= 1, got 0"),
        ((1, 1, 4), "kernel_size must be odd and positive, got 4"),
        ((1, 1, -1), "kernel_size must be odd and positive, got -1"),
    ],
)
def test_constructor_raises_for_bad_arguments(arguments: tuple[int, ...], message: str):
    with pytest.raises(ValueError, match=message):
        BoundedConvolution(*arguments)


def test_forward_raises_for_weights_that_are_not_finite():
    layer = make_layer(13)
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="weight must be finite"):
        layer(torch.rand(1, 2, 4, 4, **DOUBLE))


def test_repr_shows_the_sizes():
    assert repr(make_layer()) == "BoundedConvolution(2, 3, kernel_size=3)"


def test_network_of_the_layer_has_a_certified_bound() -> None:
    """The bound is not below the norm of the matrix of the network."""
    first, last = make_layer(1, 1, 3), make_layer(2, 3, 1)
    network = torch.nn.Sequential(first, torch.nn.ReLU(), last)
    bound = deq.lipschitz(network)
    assert bound.is_certified
    assert bound.value == pytest.approx(first.norm() * last.norm())
    linear = dense(last, 6, 6).T @ dense(first, 6, 6).T
    assert float(torch.linalg.matrix_norm(linear, 2)) <= bound.value <= 1
