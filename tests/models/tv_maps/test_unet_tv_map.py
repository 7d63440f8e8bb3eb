from __future__ import annotations

import copy
import io
import math
import pickle

import pytest
import torch
from torch.nn.functional import pad

from deepinv_equilibrium.models import BoundedSigmoid, Softplus, UNetTVMap

from ...one_test import in_one_test

DOUBLE = {"dtype": torch.float64}
SIZES = [(1, 1), (1, 9), (2, 3), (5, 4), (17, 12), (31, 33), (32, 32)]
VOLUMES = [(1, 1, 1), (1, 8, 5), (3, 1, 7), (9, 6, 5), (10, 16, 16)]


def test_published_configuration_has_the_published_number_of_parameters():
    tv_map = UNetTVMap(in_channels=2, directions=(0, 1, 1))
    assert sum(p.numel() for p in tv_map.parameters()) == 97_216
    assert tv_map.padding == (8, 4, 4)


@in_one_test("size", SIZES + VOLUMES, ids=str)
@in_one_test("channels", [1, 2, 3])
def test_forward_accepts_images_of_any_size(size: tuple[int, ...], channels: int):
    d = len(size)
    tv_map = UNetTVMap(channels, (0, 1, 1)[:d], filters=2)
    weight = tv_map(torch.rand(2, channels, *size))
    assert weight.shape == (2, 1, d, *size)
    assert bool((weight > 0).all())


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_forward_accepts_any_depth(depth: int):
    tv_map = UNetTVMap(1, (0, 0), filters=2, depth=depth, padding=0)
    assert tv_map(torch.rand(1, 1, 9, 1)).shape == (1, 1, 2, 9, 1)


def test_new_map_returns_weights_near_the_initial_weight():
    z = torch.rand(4, 1, 32, 32)
    for weight in (0.003, 0.05, 0.4):
        tv_map = UNetTVMap(1, (0, 0), initial_weight=weight)
        ratio = tv_map(z) / weight
        assert ratio.min() > math.exp(-1)
        assert ratio.max() < math.exp(1.5)


@pytest.mark.parametrize("positivity", [None, BoundedSigmoid()], ids=str)
def test_map_of_a_zero_image_is_the_initial_weight_of_each_group(
    positivity: BoundedSigmoid | None,
):
    tv_map = UNetTVMap(
        2, (0, 1, 1), positivity=positivity, initial_weight=(0.04, 0.005)
    ).double()
    # The network maps zero to zero, because it has no biases.
    weight = tv_map(torch.zeros(1, 2, 3, 4, 5, **DOUBLE))
    expected = torch.tensor([0.04, 0.005, 0.005], **DOUBLE)
    torch.testing.assert_close(weight[0, 0, :, 1, 2, 3], expected)


def test_offset_is_zero_for_the_published_initial_weight():
    tv_map = UNetTVMap(1, (0, 0), filters=2, initial_weight=0.1 * math.log(2)).double()
    z = torch.rand(1, 1, 8, 8, **DOUBLE)
    outputs = tv_map.network(pad(z, [4] * 4, mode="reflect"))[..., 4:-4, 4:-4]
    torch.testing.assert_close(
        tv_map(z)[:, :, 0], 0.1 * outputs.exp().log1p(), rtol=0, atol=2e-7
    )


@pytest.mark.parametrize(
    ("size", "padding", "margins", "mode"),
    [
        ((8, 12), 4, (4, 4, 4, 4), "reflect"),
        ((8, 12), (0, 6), (6, 6, 0, 0), "reflect"),
        ((9, 11), 4, (4, 5, 4, 7), "reflect"),
        ((4, 4), 4, (4, 4, 4, 4), "replicate"),
        ((6, 7), 4, (4, 5, 4, 6), "replicate"),
        ((1, 1), 0, (0, 3, 0, 3), "replicate"),
    ],
)
def test_forward_extends_and_crops_the_image(
    size: tuple[int, int],
    padding: int | tuple[int, int],
    margins: tuple[int, ...],
    mode: str,
):
    tv_map = UNetTVMap(1, (0, 1), filters=2, padding=padding)
    whole = UNetTVMap(1, (0, 1), filters=2, padding=0)
    whole.load_state_dict(tv_map.state_dict())
    z = torch.rand(2, 1, *size)
    left, _, top, _ = margins
    weight = whole(pad(z, margins, mode=mode))
    expected = weight[..., top : top + size[0], left : left + size[1]]
    if (size, mode) == ((6, 7), "replicate"):  # of 7 pixels, 6 can be reflected
        columns = pad(z, (4, 5, 0, 0), mode="reflect")
        assert not torch.equal(tv_map(z), expected)
        weight = whole(pad(columns, (0, 0, 4, 6), mode=mode))
        expected = weight[..., 4:10, 4:11]
    torch.testing.assert_close(tv_map(z), expected)


def test_default_padding_is_larger_for_time_than_for_space():
    default, explicit = (
        UNetTVMap(2, (0, 1, 1), filters=2, padding=padding)
        for padding in (None, (8, 4, 4))
    )
    explicit.load_state_dict(default.state_dict())
    z = torch.rand(1, 2, 12, 5, 6)
    assert torch.equal(default(z), explicit(z))


@pytest.mark.parametrize("directions", [(0, 1), (0, 1, 1)])
def test_forward_maps_samples_independently(directions: tuple[int, ...]):
    tv_map = UNetTVMap(1, directions, filters=4).double()
    z = torch.rand(3, 1, *[9] * len(directions), **DOUBLE)
    alone = torch.cat([tv_map(sample[None]) for sample in z])
    torch.testing.assert_close(tv_map(z), alone, rtol=1e-12, atol=1e-12)


def test_train_and_eval_mode_are_the_same_map():
    tv_map = UNetTVMap(1, (0, 0), filters=2)
    z = torch.rand(1, 1, 9, 9)
    trained = tv_map.train()(z)
    assert torch.equal(trained, tv_map.eval()(z))
    assert torch.equal(trained, tv_map(z))


def test_forward_treats_complex_images_as_two_channels():
    tv_map = UNetTVMap(2, (0, 1, 1), filters=2)
    z = torch.randn(1, 1, 5, 6, 7, dtype=torch.complex64)
    assert torch.equal(tv_map(z), tv_map(torch.cat((z.real, z.imag), dim=1)))


@pytest.mark.parametrize(("channels", "directions"), [(1, (0, 0)), (3, (0, 1, 1))])
def test_gradients_reach_every_parameter_and_the_image(
    channels: int, directions: tuple[int, ...]
):
    tv_map = UNetTVMap(channels, directions, filters=4)
    z = torch.rand(1, channels, *[9] * len(directions), requires_grad=True)
    tv_map(z).square().sum().backward()
    for name, parameter in [*tv_map.named_parameters(), ("z", z)]:
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


def test_gradient_agrees_with_finite_differences():
    tv_map = UNetTVMap(1, (0, 1), filters=1, depth=2, padding=1).double()
    z = torch.rand(1, 1, 5, 3, **DOUBLE, requires_grad=True)
    weights = tuple(tv_map.parameters())

    def weight(z: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        names = [name for name, _ in tv_map.named_parameters()]
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(tv_map, state, (z,))

    assert torch.autograd.gradcheck(weight, (z, *weights))


@in_one_test("positivity", [Softplus(), BoundedSigmoid()], ids=str)
@in_one_test("dtype", [torch.float32, torch.float64])
@in_one_test("lr", [1e4, 1e10, 1e30])
def test_weights_stay_positive_after_any_step(
    positivity: Softplus | BoundedSigmoid, dtype: torch.dtype, lr: float
):
    tv_map = UNetTVMap(2, (0, 1), filters=4, positivity=positivity).to(dtype)
    z = torch.randn(2, 2, 9, 9, dtype=dtype)
    for sign in (-1, 1, -1):
        for parameter in tv_map.parameters():
            step = lr * torch.randn_like(parameter)
            parameter.data.add_(step, alpha=sign)
        weight = tv_map(z)
        assert bool((weight > 0).all())
        assert bool(weight.square().isfinite().all())


@pytest.mark.parametrize("lr", [1e3, 1e10, 1e30])
@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.Adam])
def test_weights_stay_positive_after_a_diverging_training(
    optimiser: type[torch.optim.Optimizer], lr: float
):
    tv_map = UNetTVMap(1, (0, 1), filters=4)
    stepping = optimiser(tv_map.parameters(), lr=lr)
    z = torch.rand(2, 1, 9, 9)
    for _ in range(5):
        stepping.zero_grad()
        (tv_map(z) - 0.05).abs().sum().backward()
        stepping.step()
        with torch.no_grad():
            weight = tv_map(z)
        assert bool((weight > 0).all())
        assert bool(weight.square().isfinite().all())


def test_forward_of_nan_is_nan():
    tv_map = UNetTVMap(1, (0, 0), filters=2)
    z = torch.rand(2, 1, 4, 4)
    z[0, 0, 0, 0] = torch.nan
    weight = tv_map(z)
    assert bool(weight[0].isnan().any())
    assert bool(weight[1].isfinite().all())


def test_loaded_map_returns_the_saved_weights():
    saved, loaded = (UNetTVMap(2, (0, 1, 1), filters=2) for _ in range(2))
    z = torch.rand(1, 2, 4, 5, 6)
    assert not torch.equal(saved(z), loaded(z))
    buffer = io.BytesIO()
    torch.save(saved.state_dict(), buffer)
    buffer.seek(0)
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(saved(z), loaded(z))


@pytest.mark.parametrize("directions", [(0, 0), (0, 1, 1)])
def test_copied_and_pickled_maps_compute_the_same(directions: tuple[int, ...]):
    tv_map = UNetTVMap(1, directions, filters=2)
    z = torch.rand(1, 1, *[5] * len(directions))
    for copied in (copy.deepcopy(tv_map), pickle.loads(pickle.dumps(tv_map))):
        assert torch.equal(copied(z), tv_map(z))


def test_map_compiles_into_one_graph():
    tv_map = UNetTVMap(1, (0, 1), filters=2, depth=2)
    z = torch.rand(1, 1, 9, 3)
    compiled = torch.compile(tv_map, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(z), tv_map(z))


def test_forward_under_autocast_keeps_the_precision_of_the_image():
    tv_map = UNetTVMap(1, (0, 0), filters=2)
    z = torch.rand(1, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        weight = tv_map(z)
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, tv_map(z), rtol=0.05, atol=0)


def test_forward_raises_for_another_number_of_channels():
    with pytest.raises(ValueError, match=r"has 1 real channels .* in_channels=2"):
        UNetTVMap(2, (0, 0))(torch.rand(1, 1, 4, 4))


def test_forward_raises_for_another_precision():
    with pytest.raises(TypeError, match=r"convert the network with .to\(torch.float64"):
        UNetTVMap(1, (0, 0))(torch.rand(1, 1, 4, 4, **DOUBLE))


@in_one_test("name", ["in_channels", "filters", "depth"])
@in_one_test("value", [0, -1, 1.5, True])
def test_constructor_raises_for_bad_numbers(name: str, value: object):
    arguments = {"in_channels": 1, "directions": (0, 0), name: value}
    with pytest.raises(ValueError, match=rf"{name} must be an integer >= 1"):
        UNetTVMap(**arguments)


@in_one_test("padding", [-1, 1.5, (4,), (4, 4, 4), (4, -4)])
def test_constructor_raises_for_bad_padding(padding: object):
    with pytest.raises(ValueError, match="padding must be a nonnegative integer, or 2"):
        UNetTVMap(1, (0, 0), padding=padding)


def test_repr_shows_channels_directions_and_padding():
    shown = repr(UNetTVMap(2, (0, 1, 1)))
    assert "in_channels=2, directions=(0, 1, 1), padding=(8, 4, 4)" in shown
    assert "Softplus(scale=0.1)" in shown


def test_loaded_map_has_the_saved_initial_weight():
    saved = UNetTVMap(1, (0, 0), initial_weight=0.02)
    loaded = UNetTVMap(1, (0, 0))
    loaded.load_state_dict(saved.state_dict())
    z = torch.rand(1, 1, 9, 8)
    assert torch.equal(loaded(z), saved(z))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (UNetTVMap(2, (1, 0, 0)), "directions"),
        (UNetTVMap(2, (0, 1, 1), positivity=BoundedSigmoid()), "positivity"),
    ],
)
def test_load_raises_for_weights_trained_with_other_settings(other, named):
    with pytest.raises(ValueError, match=f"trained with {named}="):
        UNetTVMap(2, (0, 1, 1)).load_state_dict(other.state_dict())
