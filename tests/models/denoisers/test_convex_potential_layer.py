from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium.models import ConvexPotentialLayer

from ...dense_jacobian import dense_jacobian
from ...one_test import in_one_test
from ..images import random_noise_map

DOUBLE = {"dtype": torch.float64}
ROUNDING = 1e-12


def make_layer(
    seed: int = 0, channels: int = 1, scale: float = 1.0, **arguments
) -> ConvexPotentialLayer:
    torch.manual_seed(seed)
    layer = ConvexPotentialLayer(channels, **arguments).double()
    with torch.no_grad():
        layer.generators.mul_(scale)
        layer.log_threshold.add_(torch.randn(()))
        layer.log_exponent.add_(0.3 * torch.randn(()))
    return layer


def level(sigma: float) -> Tensor:
    return torch.full((1, 1, 1, 1), sigma, **DOUBLE)


def jacobian(layer: ConvexPotentialLayer, x: Tensor, sigma: Tensor) -> Tensor:
    return dense_jacobian(lambda x: layer(x, sigma), x)


layers = st.builds(
    make_layer,
    seed=st.integers(0, 10**6),
    channels=st.integers(1, 3),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e3, 1e30]),
    generators=st.integers(1, 3),
    kernel_size=st.sampled_from([3, 5, 7]),
    relaxation=st.sampled_from([0.3, 1.0, 1.7, 2.0]),
)


@settings(max_examples=60)
@given(
    layer=layers,
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    spread=st.sampled_from([1e-4, 0.1, 1.0, 1e3]),
    sigma=st.sampled_from([0.0, 1e-3, 0.1, 2.0, 1e4]),
    mapped=st.booleans(),
)
def test_jacobian_is_symmetric_and_between_its_bounds(
    layer: ConvexPotentialLayer,
    height: int,
    width: int,
    spread: float,
    sigma: float,
    mapped: bool,
):
    levels = level(sigma)
    if mapped:
        levels = sigma * random_noise_map(height + 7 * width, height, width)
    x = spread * torch.randn(1, layer.generators.shape[1], height, width, **DOUBLE)
    dense = jacobian(layer, x, levels)
    torch.testing.assert_close(dense, dense.T, rtol=0, atol=ROUNDING)
    eigenvalues = torch.linalg.eigvalsh(dense)
    assert eigenvalues[0] >= 1 - layer.relaxation - ROUNDING
    assert eigenvalues[-1] <= 1 + ROUNDING


@settings(max_examples=60)
@given(
    layer=layers,
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    sigma=st.sampled_from([1e-3, 0.1, 2.0]),
)
def test_forward_is_averaged_for_random_pairs(
    layer: ConvexPotentialLayer, height: int, width: int, sigma: float
):
    x, z = torch.randn(2, 1, layer.generators.shape[1], height, width, **DOUBLE)
    with torch.no_grad():
        moved = layer(x, level(sigma)) - layer(z, level(sigma))
    # The layer is lambda/2-averaged, and firmly nonexpansive for lambda = 1.
    excess = (2 / layer.relaxation - 1) * (x - z - moved).square().sum()
    assert moved.square().sum() + excess <= (x - z).square().sum() * (1 + ROUNDING)


@settings(max_examples=50)
@given(layer=layers, height=st.integers(1, 5), width=st.integers(1, 5))
def test_forward_acts_on_the_image_extended_by_reflection(
    layer: ConvexPotentialLayer, height: int, width: int
):
    x = torch.randn(1, layer.generators.shape[1], height, width, **DOUBLE)
    sigma = random_noise_map(height + 7 * width, height, width)

    def extended(image: Tensor) -> Tensor:
        image = torch.cat((image, image.flip(-1)), dim=-1)
        return torch.cat((image, image.flip(-2)), dim=-2)

    period = extended(x)
    filters = layer.filters().detach()
    kernel_size = filters.shape[-1]
    threshold = extended(sigma) ** layer.log_exponent.exp() * layer.log_threshold.exp()
    # Each entry of a filter multiplies a shifted copy of the period, without padding.
    taps = [(i, j) for i in range(kernel_size) for j in range(kernel_size)]

    def shifted(image: Tensor, i: int, j: int) -> Tensor:
        half = kernel_size // 2
        return image.roll((half - i, half - j), dims=(-2, -1))

    responses = sum(
        torch.einsum("fc,bchw->bfhw", filters[..., i, j], shifted(period, i, j))
        for i, j in taps
    )
    norm = responses.norm(dim=1, keepdim=True)
    projected = responses * (threshold / norm).clamp(max=1).nan_to_num(1.0)
    step = sum(
        torch.einsum(
            "fc,bfhw->bchw",
            filters[..., i, j],
            shifted(projected, kernel_size - 1 - i, kernel_size - 1 - j),
        )
        for i, j in taps
    )
    expected = period - layer.relaxation * step
    with torch.no_grad():
        out = layer(x, sigma)
    torch.testing.assert_close(
        out, expected[..., :height, :width], rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_filters_have_a_norm_near_one(channels: int, dtype: torch.dtype):
    layer = make_layer(3, channels, 1e4, generators=4).to(dtype)
    filters = layer.filters()
    assert filters.dtype == dtype
    assert filters.shape == (32, channels, 5, 5)
    # The bound is at most 1 / cos(4 pi / 64)^2 times the norm.
    grid = torch.fft.fft2(filters.detach().double(), s=(256, 256))
    truth = torch.linalg.matrix_norm(grid.permute(2, 3, 0, 1), 2).max()
    assert 0.96 < truth <= layer.norm() <= 1


def test_filters_are_closed_under_rotations_and_reflections_with_mean_zero():
    filters = make_layer(1, channels=2, generators=2).filters().detach()
    assert filters.mean(dim=(-2, -1)).abs().max() < 1e-15
    for moved in (filters.rot90(1, (-2, -1)), filters.flip(-1), filters.flip(-2)):
        distance = (moved[:, None] - filters[None]).abs().amax(dim=(2, 3, 4))
        assert distance.amin(dim=1).max() == 0


def test_derivatives_agree_with_finite_differences():
    layer = make_layer(2, channels=2, generators=1, kernel_size=3)
    x = torch.randn(2, 2, 3, 4, **DOUBLE, requires_grad=True)
    sigma = torch.tensor([0.3, 2.0], **DOUBLE).reshape(2, 1, 1, 1).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def apply(x: Tensor, sigma: Tensor, *parameters: Tensor) -> Tensor:
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, state, (x, sigma))

    inputs = (x, sigma, *(p.detach().requires_grad_() for p in layer.parameters()))
    assert torch.autograd.gradcheck(apply, inputs, fast_mode=True)


def test_forward_without_noise_is_the_identity_with_finite_gradients():
    layer = make_layer(4)
    x = torch.rand(1, 1, 4, 4, **DOUBLE, requires_grad=True)
    x.data[..., :2] = 0.5  # flat: some responses vanish
    sigma = torch.zeros(1, 1, 1, 1, **DOUBLE, requires_grad=True)
    out = layer(x, sigma)
    torch.testing.assert_close(out, x, rtol=0, atol=1e-15)
    out.square().sum().backward()
    for tensor in (x, sigma, *layer.parameters()):
        assert torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("sigma", [0.0, 0.1, 1e30])
def test_second_derivatives_are_finite_for_a_constant_image(sigma: float):
    layer = make_layer(4)
    x = torch.full((1, 1, 5, 5), 0.5, **DOUBLE, requires_grad=True)
    noise_level = level(sigma).requires_grad_()
    inputs = (x, noise_level, *layer.parameters())
    out = layer(x, noise_level)
    first = torch.autograd.grad(
        out, inputs, torch.randn_like(out), create_graph=True, materialize_grads=True
    )
    total = sum((g * torch.randn_like(g)).sum() for g in first)
    second = torch.autograd.grad(total, inputs, materialize_grads=True)
    for tensor in (out, *first, *second):
        assert torch.isfinite(tensor).all()


def test_forward_with_infinite_threshold_is_linear():
    layer = make_layer(4, relaxation=2.0)
    x = torch.rand(1, 1, 6, 5, **DOUBLE)
    with torch.no_grad():
        out = layer(x, level(1e300))
    linear = jacobian(layer, x, level(1e300)) @ x.flatten()
    torch.testing.assert_close(out.flatten(), linear, rtol=1e-12, atol=1e-12)
    assert (out - x).abs().max() > 1e-2


def test_forward_with_zero_filters_is_the_identity():
    layer = make_layer(0, scale=0.0)
    x = torch.rand(1, 1, 4, 4, **DOUBLE)
    assert torch.equal(layer(x, level(0.1)), x)
    assert layer.norm() == 0


@torch.no_grad()
def change_in_place(layer: ConvexPotentialLayer) -> None:
    layer.generators[0, 0, 0, 0] += 1


def change_by_an_optimiser(layer: ConvexPotentialLayer) -> None:
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e3)
    layer(torch.rand(1, 1, 5, 5, **DOUBLE), level(0.1)).square().sum().backward()
    optimizer.step()


def change_by_loading(layer: ConvexPotentialLayer) -> None:
    layer.load_state_dict(make_layer(8).state_dict())


def change_the_data(layer: ConvexPotentialLayer) -> None:
    layer.generators.data = make_layer(8).generators.data


def change_through_the_data(layer: ConvexPotentialLayer) -> None:
    layer.generators.data.clamp_(-0.1, 0.1)


def change_the_parameter(layer: ConvexPotentialLayer) -> None:
    layer.generators = make_layer(8).generators


def change_the_dtype(layer: ConvexPotentialLayer) -> None:
    layer.float()


@pytest.mark.parametrize(
    "change",
    [
        change_in_place,
        change_by_an_optimiser,
        change_by_loading,
        change_the_data,
        change_through_the_data,
        change_the_parameter,
        change_the_dtype,
    ],
)
def test_cached_filters_follow_the_weights(change):
    layer = make_layer(5).eval()
    with torch.no_grad():
        before = layer.filters()
        assert layer.filters() is before
    change(layer)
    with torch.no_grad():
        after = layer.filters()
    assert after.dtype != before.dtype or not torch.equal(after, before)
    assert torch.equal(after, layer.filters())  # with a gradient: computed anew


def test_filters_cached_in_inference_mode_have_a_gradient():
    layer = make_layer(5).requires_grad_(False)
    x = torch.rand(1, 1, 4, 4, **DOUBLE)
    with torch.inference_mode():
        expected = layer(x, level(0.3)).clone()
    out = layer(x.requires_grad_(), level(0.3))
    assert torch.equal(out.detach(), expected)
    out.sum().backward()
    assert x.grad.abs().sum() > 0


def test_copies_compute_their_own_filters():
    layer = make_layer(6)
    with torch.no_grad():
        kept = layer.filters()
        for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert twin.filters() is not kept
            assert torch.equal(twin.filters(), kept)
            twin.generators[:, 0, 0] += 1
            assert not torch.equal(twin.filters(), kept)
            assert layer.filters() is kept


# torch scripts its own rules when forward mode is first used.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
def test_forward_mode_derivative_reaches_the_weights():
    layer = make_layer(7)
    x = torch.rand(1, 1, 4, 4, **DOUBLE)
    weights = {name: p.detach() for name, p in layer.named_parameters()}
    direction = {name: torch.randn_like(p) for name, p in weights.items()}

    def apply(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(layer, weights, (x, level(0.3)))

    with torch.no_grad():
        layer.filters()
    _, tangent = torch.func.jvp(apply, (weights,), (direction,))
    gradient = torch.func.vjp(apply, weights)[1](tangent)[0]
    product = sum((gradient[name] * direction[name]).sum() for name in weights)
    torch.testing.assert_close(product, tangent.square().sum())


@in_one_test(
    ("arguments", "message"),
    [
        ({"channels": 0}, "channels must be an integer >= 1, got 0"),
        ({"channels": 1, "generators": 0}, "generators must be an integer >= 1, got 0"),
        ({"channels": 1, "kernel_size": 4}, r"kernel_size must be .* got 4"),
        ({"channels": 1, "relaxation": 0.0}, r"relaxation must be .* got 0.0"),
        ({"channels": 1, "relaxation": 2.1}, r"relaxation must be .* got 2.1"),
    ],
)
def test_constructor_raises_for_bad_arguments(
    arguments: dict[str, float], message: str
):
    with pytest.raises(ValueError, match=message):
        ConvexPotentialLayer(**arguments)


def test_repr_shows_the_sizes():
    text = "channels=3, generators=2, kernel_size=5, relaxation=2.0"
    assert text in repr(ConvexPotentialLayer(3, generators=2, relaxation=2.0))
