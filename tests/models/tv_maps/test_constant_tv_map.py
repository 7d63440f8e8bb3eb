from __future__ import annotations

import io

import pytest
import torch

from deepinv_equilibrium.models import BoundedSigmoid, ConstantTVMap

from ...one_test import in_one_test


@in_one_test(
    ("directions", "initial_weight", "expected"),
    [
        ((0, 0), 0.1, [0.1, 0.1]),
        ((0, 0), [0.3], [0.3, 0.3]),
        ((0, 1, 1), (0.04, 0.005), [0.04, 0.005, 0.005]),
        ((1, 0, 0), (0.04, 0.005), [0.005, 0.04, 0.04]),
    ],
)
def test_new_map_returns_the_initial_weight(
    directions: tuple[int, ...],
    initial_weight: float | tuple[float, ...],
    expected: list[float],
):
    d = len(directions)
    weight = ConstantTVMap(directions, initial_weight)(torch.rand(3, 2, *[4] * d))
    assert weight.shape == (1, 1, d, *[1] * d)
    torch.testing.assert_close(weight.flatten(), torch.tensor(expected))


def test_map_has_one_parameter_for_each_group():
    assert sum(p.numel() for p in ConstantTVMap((0, 0)).parameters()) == 1
    assert sum(p.numel() for p in ConstantTVMap((0, 1, 1)).parameters()) == 2


@in_one_test(
    ("dtype", "real"),
    [
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.complex64, torch.float32),
        (torch.complex128, torch.float64),
    ],
)
def test_forward_uses_only_precision_and_axes_of_the_image(
    dtype: torch.dtype, real: torch.dtype
):
    tv_map = ConstantTVMap((0, 1))
    one = tv_map(torch.randn(1, 1, 1, 7, dtype=dtype))
    assert one.dtype == real
    assert torch.equal(one, tv_map(torch.randn(4, 3, 5, 2, dtype=dtype)))


def test_weights_returns_one_number_for_each_group():
    tv_map = ConstantTVMap((0, 1, 1), initial_weight=(0.04, 0.005))
    assert tv_map.weights == pytest.approx((0.04, 0.005), rel=1e-5)
    assert "directions=(0, 1, 1), weights=(0.04, 0.005)" in repr(tv_map)


def test_training_reaches_a_given_weight():
    tv_map = ConstantTVMap((0, 1), initial_weight=0.1)
    optimiser = torch.optim.Adam(tv_map.parameters(), lr=0.1)
    target = torch.tensor([0.02, 0.4]).view(1, 1, 2, 1, 1)
    for _ in range(300):
        optimiser.zero_grad()
        (tv_map(torch.zeros(1, 1, 2, 2)) / target).log().square().sum().backward()
        optimiser.step()
    assert tv_map.weights == pytest.approx((0.02, 0.4), rel=1e-2)


@in_one_test("positivity", [None, BoundedSigmoid()], ids=str)
@in_one_test("gradient", [-1e4, 1e4, -1e30, 1e30])
def test_weights_stay_positive_after_any_step(
    positivity: BoundedSigmoid | None, gradient: float
):
    tv_map = ConstantTVMap((0, 1), positivity=positivity)
    optimiser = torch.optim.SGD(tv_map.parameters(), lr=1e3)
    for _ in range(3):
        tv_map.raw.grad = torch.tensor([gradient, -gradient])
        optimiser.step()
        weight = tv_map(torch.zeros(1, 1, 2, 2))
        assert bool((weight > 0).all())
        assert bool(weight.square().isfinite().all())


def test_loaded_map_returns_the_saved_weights():
    saved, loaded = ConstantTVMap((0, 1, 1), (0.04, 0.005)), ConstantTVMap((0, 1, 1))
    buffer = io.BytesIO()
    torch.save(saved.state_dict(), buffer)
    buffer.seek(0)
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    assert loaded.weights == saved.weights


def test_constructor_raises_for_bad_initial_weight():
    with pytest.raises(ValueError, match="initial_weight must be one number or 2"):
        ConstantTVMap((0, 1, 1), initial_weight=(0.1, 0.1, 0.1))
    with pytest.raises(ValueError, match=r"must be between .* got 0\.7"):
        ConstantTVMap((0, 0), initial_weight=0.7, positivity=BoundedSigmoid(0.5))
