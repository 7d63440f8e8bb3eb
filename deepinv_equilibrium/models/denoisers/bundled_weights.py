"""Weights that come with the package, and those of a file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from torch import Tensor


def check_bundled(pretrained: str | Path | None, in_channels: int) -> None:
    r"""
    :param str, pathlib.Path, None pretrained: ``"bundled"``, or anything else.
    :param int in_channels: channels of the images.
    :raises ValueError: if weights are to be bundled for other channels than 1 or 3.
    """
    if pretrained == "bundled" and in_channels not in (1, 3):
        raise ValueError(
            "in_channels must be 1 (grey) or 3 (colour) for the bundled weights, "
            f"got {in_channels}. With pretrained=None it can be any number."
        )


def read_weights(pretrained: str | Path, bundled: str) -> dict[str, Tensor]:
    r"""
    Read a ``state_dict`` to the CPU, and nothing but tensors.

    :param str, pathlib.Path pretrained: ``"bundled"``, or a path.
    :param str bundled: name of the bundled file, e.g. ``"small_drunet.pt"``.
    """
    if pretrained != "bundled":
        return torch.load(pretrained, map_location="cpu", weights_only=True)
    with resources.as_file(resources.files(__package__) / "weights" / bundled) as path:
        return torch.load(path, map_location="cpu", weights_only=True)


def colours(in_channels: int) -> str:
    """What the names of the bundled files call 1 and 3 channels."""
    return "grey" if in_channels == 1 else "colour"


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
