from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepinv_equilibrium.fixed_points import Picard, StateLayout, fixed_point

from ..one_test import in_one_test

SHAPES = st.lists(st.integers(1, 3), min_size=0, max_size=3)


@given(
    st.integers(1, 3),
    st.lists(st.tuples(SHAPES, st.booleans()), min_size=1, max_size=3),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_packing_is_an_isometry(
    batch: int, components: list[tuple[list[int], bool]], dtype: torch.dtype
) -> None:
    state = tuple(
        torch.randn(batch, *shape, dtype=dtype.to_complex() if is_complex else dtype)
        for shape, is_complex in components
    )
    layout = StateLayout.of(state)
    packed = layout.pack(state)
    assert packed.dtype == dtype
    assert packed.shape == (batch, sum(layout.sizes))
    back = layout.unpack(packed)
    assert isinstance(back, tuple)
    for component, same in zip(state, back, strict=True):
        assert same.dtype == component.dtype
        assert torch.equal(component, same)
    square = sum(c.abs().square().reshape(batch, -1).sum(1) for c in state)
    torch.testing.assert_close(packed.square().sum(1), square)


def test_unpack_distinguishes_a_tensor_from_a_tuple_of_one() -> None:
    x = torch.randn(2, 3)
    for state in (x, (x,)):
        layout = StateLayout.of(state)
        assert isinstance(layout.unpack(layout.pack(state)), type(state))


def test_views_of_any_stride_are_packed() -> None:
    x = torch.randn(3, 4, 2, dtype=torch.complex128)
    for view in (x.permute(1, 0, 2), x.conj(), x[:, ::2], x[:1].expand(5, 4, 2)):
        layout = StateLayout.of(view)
        assert torch.equal(layout.unpack(layout.pack(view)), view)
    imaginary = x.conj().imag  # has torch's negative bit
    layout = StateLayout.of(imaginary)
    assert torch.equal(layout.unpack(layout.pack(imaginary)), imaginary)


@in_one_test(
    ("state", "error", "message"),
    [
        (torch.ones(2, 3, dtype=torch.int64), TypeError, r"int64; convert it"),
        (torch.ones(2, dtype=torch.bool), TypeError, "bool"),
        (torch.tensor(1.0), ValueError, r"batch axis .* shape \(\)"),
        (torch.ones(0, 3), ValueError, r"at least one entry, got shape \(0, 3\)"),
        (torch.ones(2, 0), ValueError, r"shape \(2, 0\)"),
        ((), ValueError, "empty tuple"),
        ([torch.ones(2)], TypeError, "tuple of tensors, got list"),
        ((torch.ones(2), 1.0), TypeError, "got float"),
        (None, TypeError, "got NoneType"),
        ((torch.ones(2, 1), torch.ones(3, 1)), ValueError, r"batch size.*'2', '3'"),
        ((torch.ones(2), torch.ones(2).double()), ValueError, "precision"),
        ((torch.ones(2), torch.ones(2, device="meta")), ValueError, "device"),
    ],
)
def test_x0_that_is_not_a_state_raises(
    state: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        fixed_point(lambda x: x, state, Picard())
    assert "x0" in str(caught.value)


@in_one_test(
    ("value", "error", "message"),
    [
        (None, TypeError, "got NoneType"),
        (torch.ones(2, 3), ValueError, r"expected \(2, 4\) of float64, got \(2, 3\)"),
        (torch.ones(2, 4), ValueError, r"got \(2, 4\) of float32"),
        ((torch.ones(2, 4).double(),), ValueError, r"got a tuple \(\(2, 4\)"),
        (torch.ones(1, 4).double(), ValueError, r"got \(1, 4\)"),
        (torch.ones(2, 4, dtype=torch.int32), TypeError, "int32"),
    ],
)
def test_value_that_is_not_a_state_like_x0_raises(
    value: Any, error: type[Exception], message: str
) -> None:
    x0 = torch.zeros(2, 4, dtype=torch.float64)
    with pytest.raises(error, match=message) as caught:
        fixed_point(lambda x: value, x0)
    assert "step" in str(caught.value)


def test_value_with_another_number_of_components_raises() -> None:
    with pytest.raises(ValueError, match="expected a tuple"):
        fixed_point(lambda x: x[:1], (torch.ones(2), torch.ones(2)))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_packing_a_real_and_a_complex_component_is_differentiable(size: int) -> None:
    x = torch.randn(2, size, dtype=torch.float64, requires_grad=True)
    z = torch.randn(2, 3, dtype=torch.complex128, requires_grad=True)

    def pack(x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return StateLayout.of((x, z)).pack((x, z))

    assert torch.autograd.gradcheck(pack, (x, z))
