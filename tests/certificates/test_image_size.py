from __future__ import annotations

from typing import Any

import pytest
import torch

from deepinv_equilibrium.certificates.image_size import require_image_size

from ..one_test import in_one_test


@in_one_test("size", [(3,), [1, 5, 4], torch.zeros(2, 3, 5, 4).shape[1:], (1, 2, 3, 4)])
def test_require_image_size_returns_a_tuple(size: Any) -> None:
    assert require_image_size(size) == tuple(size)
    assert type(require_image_size(size)) is tuple


@in_one_test("size", [(), (1, 0, 4), (1, -1), (1, 2.5), (True, 4, 4), (1,) * 5, "134"])
def test_require_image_size_raises_for_other_entries_than_positive_integers(
    size: Any,
) -> None:
    with pytest.raises(ValueError, match="img_size must hold positive integers"):
        require_image_size(size)


@pytest.mark.parametrize(
    ("size", "got"),
    [(32, "got 32"), (None, "a NoneType"), (torch.ones(1, 4, 4), "a Tensor")],
)
def test_require_image_size_raises_for_other_types_than_sequences(
    size: Any, got: str
) -> None:
    with pytest.raises(TypeError, match=rf"tuple \(C, H, W\).*{got}\.$"):
        require_image_size(size)
