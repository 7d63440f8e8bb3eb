"""What a model takes: a batch of images, and numbers for all or for each of them."""

from __future__ import annotations

import torch
from torch import Tensor


def check_images(x: Tensor, in_channels: int) -> None:
    r"""
    :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
    :param int in_channels: :math:`C`.
    :raises ValueError: if ``x`` is no batch of real images with so many channels.
    """
    if x.ndim != 4 or x.shape[1] != in_channels or not x.is_floating_point():
        raise ValueError(
            f"x must be a real tensor of shape (B, {in_channels}, H, W), got "
            f"{x.dtype} of shape {tuple(x.shape)}."
        )


def each_image(name: str, value: Tensor | float, x: Tensor) -> Tensor:
    r"""
    :param str name: what the number is called in an error.
    :param torch.Tensor, float value: one number for all images, or one for each, of
        shape :math:`(B,)` or :math:`(B, 1, 1, 1)`.
    :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
    :return: (:class:`torch.Tensor`) of shape :math:`(1, 1, 1, 1)` or
        :math:`(B, 1, 1, 1)`, and the dtype of ``x``.
    :raises ValueError: if ``value`` has another shape.
    """
    values = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    if values.numel() == 1:
        return values.reshape(1, 1, 1, 1)
    if values.shape not in ((len(x),), (len(x), 1, 1, 1)):
        raise ValueError(
            f"{name} must be one number, or have shape ({len(x)},) or ({len(x)}, 1, 1, "
            f"1) for x of shape {tuple(x.shape)}, got {tuple(values.shape)}."
        )
    return values.reshape(-1, 1, 1, 1)
