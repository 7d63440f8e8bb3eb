from __future__ import annotations

import math
from pathlib import Path

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import deepinv_equilibrium as deq
from deepinv_equilibrium import plugins
from deepinv_equilibrium.models import BoundedDnCNN

from ...dense_jacobian import dense_jacobian
from ...one_test import in_one_test
from ...quiet_trainer import train_for_an_epoch
from ..images import random_images

DOUBLE = {"dtype": torch.float64}
SMALL = {"depth": 3, "filters": 4}


def make_denoiser(seed: int = 0, in_channels: int = 1, **arguments) -> BoundedDnCNN:
    torch.manual_seed(seed)
    denoiser = BoundedDnCNN(in_channels, **{**SMALL, **arguments})
    with torch.no_grad():
        for layer in denoiser.layers:
            layer.bias.normal_(std=0.1)
    return denoiser.double()


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    in_channels=st.integers(1, 3),
    epsilon=st.sampled_from([0.1, 0.9, 1.0, 3.0]),
    residual=st.booleans(),
    depth=st.integers(2, 4),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    spread=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_bounds_hold_for_dense_jacobians_at_random_images(
    seed: int,
    in_channels: int,
    epsilon: float,
    residual: bool,
    depth: int,
    height: int,
    width: int,
    spread: float,
):
    denoiser = make_denoiser(
        seed, in_channels, epsilon=epsilon, residual=residual, depth=depth
    )
    x = spread * torch.randn(1, in_channels, height, width, **DOUBLE)
    jacobian = dense_jacobian(denoiser, x)
    bound, residual_bound = deq.lipschitz(denoiser), denoiser.residual_bound()
    assert bound.is_certified
    assert residual_bound.is_certified
    assert torch.linalg.matrix_norm(jacobian, 2) <= bound.value
    difference = jacobian - torch.eye(len(jacobian), **DOUBLE)
    assert torch.linalg.matrix_norm(difference, 2) <= residual_bound.value
    rounding = 1 + 1e-10
    if residual:
        assert residual_bound.value <= epsilon * rounding
        assert bound.value <= (1 + epsilon) * rounding
    else:
        assert bound.value <= epsilon * rounding


@pytest.mark.parametrize(
    ("residual", "sign", "of_residual"),
    [(True, 1, False), (True, 1, True), (False, 1, False), (False, -1, True)],
)
def test_bounds_are_attained_by_a_linear_network(
    residual: bool, sign: int, of_residual: bool
):
    # The convolutions multiply by numbers, and the bias keeps all ReLUs active.
    denoiser = make_denoiser(epsilon=0.8, residual=residual, depth=2, filters=1)
    with torch.no_grad():
        for layer, gain, bias in zip(
            denoiser.layers, (1, sign), (9.0, 0.0), strict=True
        ):
            layer.weight.zero_()[:, :, 1, 1] = gain
            layer.bias.fill_(bias)
    jacobian = dense_jacobian(denoiser, torch.rand(1, 1, 4, 4, **DOUBLE))
    bound = denoiser.lipschitz_bound()
    if of_residual:
        jacobian = jacobian - torch.eye(16, **DOUBLE)
        bound = denoiser.residual_bound()
    norm = torch.linalg.matrix_norm(jacobian, 2).item()
    # The bound of each norm is within 1 % of the norm.
    assert norm <= bound.value <= 1.02 * norm


@pytest.mark.parametrize("residual", [True, False])
def test_forward_computes_the_documented_formula(residual: bool):
    denoiser = make_denoiser(1, 3, epsilon=0.7, residual=residual)
    x = random_images(0, (2, 3, 6, 5))
    first, second, third = denoiser.layers
    network = third(second(first(x).relu()).relu())
    expected = x + 0.7 * network if residual else 0.35 * (x + network)
    torch.testing.assert_close(denoiser(x, 0.1), expected, rtol=1e-13, atol=1e-13)
    assert torch.equal(denoiser(x), denoiser(x, sigma=torch.tensor([0.1, 3.0])))


def test_default_network_has_the_sizes_of_the_paper():
    denoiser = BoundedDnCNN()
    shapes = [tuple(layer.weight.shape) for layer in denoiser.layers]
    assert shapes == [(64, 3, 3, 3), *[(64, 64, 3, 3)] * 15, (3, 64, 3, 3)]
    assert type(plugins.create("denoisers", "bounded-dncnn", depth=2)) is BoundedDnCNN


def test_new_deep_network_computes_nearly_the_same_as_a_shallow_one():
    deep, shallow = (BoundedDnCNN(1, depth=d, filters=8).double() for d in (17, 4))
    for own, other in zip(
        shallow.layers, [*deep.layers[:2], *deep.layers[-2:]], strict=True
    ):
        own.load_state_dict(other.state_dict())
    x = random_images(6, (2, 1, 9, 9))
    # The 13 inner layers are identities, divided by the excess of the bound on a grid
    # of 16 points.
    gain = math.cos(math.pi / 16) ** (2 * 13)
    expected = gain * (shallow(x) - x)
    torch.testing.assert_close(deep(x) - x, expected, rtol=1e-5, atol=1e-9)


def test_bounds_name_their_source():
    text = str(make_denoiser(epsilon=0.5).residual_bound())
    assert "certified: epsilon times the product of 3 convolutions" in text
    text = str(make_denoiser(epsilon=0.5, residual=False).lipschitz_bound())
    assert "epsilon (1 + N) / 2, N the product of 3 convolutions" in text


@pytest.mark.parametrize("residual", [True, False])
def test_derivatives_agree_with_finite_differences(residual: bool):
    denoiser = make_denoiser(2, residual=residual)
    x = random_images(1, (2, 1, 3, 4)).requires_grad_()
    assert torch.autograd.gradcheck(denoiser, (x,), fast_mode=True)


def test_gradient_in_the_weights_agrees_with_finite_differences():
    denoiser = make_denoiser(3)
    x = random_images(2, (1, 1, 5, 5))
    denoiser(x).square().sum().backward()
    for parameter in denoiser.parameters():
        origin = parameter.detach().clone()
        direction = torch.randn_like(origin)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.copy_(origin + sign * 1e-6 * direction)
                values.append(denoiser(x).square().sum())
                parameter.copy_(origin)
        slope = (values[0] - values[1]) / 2e-6
        torch.testing.assert_close(
            (parameter.grad * direction).sum(), slope, rtol=1e-5, atol=1e-8
        )


@pytest.mark.parametrize("in_channels", [1, 3])
def test_forward_is_independent_of_batch_mates_and_mode(in_channels: int):
    denoiser = make_denoiser(4, in_channels)
    x = random_images(3, (3, in_channels, 7, 9))
    together = denoiser.train()(x)
    alone = torch.cat([denoiser.eval()(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-13)


def test_forward_keeps_the_dtype_of_the_image():
    denoiser = make_denoiser(5)
    x = random_images(4, (1, 1, 6, 6))
    expected = denoiser(x)
    for dtype in (torch.float32, torch.float64):
        out = denoiser.float()(x.to(dtype))
        assert out.dtype == dtype
        # The bounds of the norms of float32 filters are enlarged by 1e-6 for rounding.
        torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-5)


def test_loaded_denoiser_computes_as_the_saved_one(tmp_path: Path):
    source = make_denoiser(6, 3).float()
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    twin = BoundedDnCNN(3, pretrained=tmp_path / "weights.pt", **SMALL)
    assert not twin.training
    x = torch.rand(1, 3, 6, 6)
    assert torch.equal(twin(x), source(x))


@pytest.mark.parametrize("lr", [1e-3, 10.0])
def test_bounds_hold_after_every_training_step(lr: float):
    denoiser = make_denoiser(7, epsilon=0.9)
    x = random_images(5, (6, 1, 5, 5))
    y = x + 0.1 * torch.randn_like(x)
    pairs = [{"x": x[i], "y": y[i]} for i in range(len(x))]
    optimizer = torch.optim.Adam(denoiser.parameters(), lr)
    norms = []

    def check(*_) -> None:
        with torch.enable_grad():
            jacobian = dense_jacobian(denoiser, y[:1])
        difference = jacobian - torch.eye(25, **DOUBLE)
        norms.append(torch.linalg.matrix_norm(difference, 2).item())
        assert norms[-1] <= denoiser.residual_bound().value <= 0.9 * (1 + 1e-10)

    optimizer.register_step_post_hook(check)
    model = dinv.models.ArtifactRemoval(denoiser, mode="direct")
    before = denoiser.state_dict()["layers.0.weight"].clone()
    train_for_an_epoch(model, dinv.physics.Denoising(), optimizer, pairs, 2)
    assert len(norms) == 3
    assert not torch.equal(before, denoiser.layers[0].weight)


@in_one_test(
    ("arguments", "message"),
    [
        ({"epsilon": 0.0}, r"epsilon must be in \(0, inf\), got 0.0"),
        ({"epsilon": float("nan")}, r"epsilon must be in \(0, inf\), got nan"),
        ({"epsilon": float("inf")}, r"epsilon must be in \(0, inf\), got inf"),
        ({"depth": 1}, "depth must be an integer >= 2, got 1"),
        ({"depth": 3.5}, "depth must be an integer >= 2, got 3.5"),
        ({"in_channels": "a"}, "in_channels must be an integer >= 1, got 'a'"),
        ({"filters": 0}, "filters must be an integer >= 1, got 0"),
    ],
)
def test_constructor_raises_for_bad_arguments(
    arguments: dict[str, float], message: str
):
    with pytest.raises(ValueError, match=message):
        BoundedDnCNN(**arguments)


def test_constructor_raises_for_epsilon_that_is_not_a_number():
    with pytest.raises(TypeError, match="epsilon must be a number, got 'a'"):
        BoundedDnCNN(epsilon="a")


def test_forward_raises_for_bad_images():
    with pytest.raises(ValueError, match=r"x must be .* \(B, 3, H, W\), got"):
        BoundedDnCNN(**SMALL)(torch.rand(1, 1, 8, 8))
