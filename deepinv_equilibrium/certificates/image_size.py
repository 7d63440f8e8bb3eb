"""The size of an image without the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def require_image_size(img_size: Any) -> tuple[int, ...]:
    r"""
    Return the size of an image as a tuple.

    :param Sequence img_size: one to four positive integers, such as :math:`(C, H, W)`:
        the channels and up to three spatial dimensions.
    :return: the tuple.
    :raises TypeError: if ``img_size`` is not a sequence, for example a tensor.
    :raises ValueError: if ``img_size`` does not consist of one to four positive
        integers.
    """
    if not isinstance(img_size, Sequence):
        got = img_size if isinstance(img_size, int) else f"a {type(img_size).__name__}"
        raise TypeError(
            "img_size must be a tuple (C, H, W) without the batch, such as "
            f"x.shape[1:], got {got}."
        )
    size = tuple(img_size)
    integers = all(
        isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in size
    )
    if not (1 <= len(size) <= 4 and integers):
        raise ValueError(
            "img_size must hold positive integers, one to four, (C, H, W) without the "
            f"batch, got {img_size!r}."
        )
    return size
