"""Pretrained weights of denoisers, and values for each image or pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

StateDict = dict[str, Tensor]


def load_pretrained(
    model: nn.Module,
    pretrained: str | Path | None,
    bundled: str | None,
    in_channels: int,
    adapt_bundled: Callable[[StateDict], StateDict] | None = None,
    channels: Mapping[int, str] = MappingProxyType({1: "grey", 3: "colour"}),
) -> None:
    r"""
    Load the weights of a model and put it in eval mode.

    Files are read with ``weights_only=True``. Weights in half precision are converted
    to the precision of the model.

    :param torch.nn.Module model: the model, which is changed in place.
    :param str, pathlib.Path, None pretrained: ``"bundled"``, a path of a
        ``state_dict``, or ``None``, which changes nothing.
    :param str, None bundled: name of the file that comes with the package, e.g.
        ``"ridge_grey.pt"``, or ``None`` if there is no such file.
    :param int in_channels: channels of the images.
    :param Callable adapt_bundled: applied to the bundled ``state_dict``. Default:
        ``None``.
    :param dict channels: the numbers of channels of the bundled weights, in words.
        Default: 1 (grey) and 3 (colour).
    :raises ValueError: if no weights are bundled for the model or ``in_channels``.
    """
    if pretrained is None:
        return
    if pretrained != "bundled":
        weights = torch.load(pretrained, map_location="cpu", weights_only=True)
    elif bundled is None:
        raise ValueError(
            "pretrained must be a path or None, got 'bundled': no weights are bundled "
            f"for {type(model).__name__}."
        )
    else:
        if in_channels not in channels:
            known = " or ".join(f"{n} ({word})" for n, word in channels.items())
            raise ValueError(
                f"in_channels must be {known} for the bundled weights, got "
                f"{in_channels}. Build the denoiser with pretrained=None for any "
                "other number, and train it."
            )
        folder = resources.files(__package__) / "weights"
        with resources.as_file(folder / bundled) as path:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        if adapt_bundled is not None:
            weights = adapt_bundled(weights)
    model.load_state_dict(weights)
    model.eval()


def colours(in_channels: int) -> str:
    """Return the word for 1 or 3 channels in the names of the bundled files."""
    return "grey" if in_channels == 1 else "colour"


def each_image(name: str, value: Tensor | float, x: Tensor) -> Tensor:
    r"""
    Return a value for each image of a batch.

    :param str name: name of the argument, for the message.
    :param torch.Tensor, float value: one number for all images, or one for each, of
        shape :math:`(B,)` or :math:`(B, 1, 1, 1)`.
    :param torch.Tensor x: images of shape :math:`(B, C, H, W)`, or volumes.
    :return: (:class:`torch.Tensor`) the values in the dtype of ``x``, of shape
        :math:`(1, 1, 1, 1)` for one number and :math:`(B, 1, 1, 1)` otherwise, with
        another 1 for volumes.
    :raises ValueError: if ``value`` has another shape.
    """
    values = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    ones = (1,) * (x.ndim - 1)
    if values.numel() == 1:
        return values.reshape(1, *ones)
    if values.shape not in ((len(x),), (len(x), *ones)):
        raise ValueError(
            f"{name} must be one number, or have shape ({len(x)},) or "
            f"{(len(x), *ones)} for x of shape {tuple(x.shape)}, got "
            f"{tuple(values.shape)}."
        )
    return values.reshape(-1, *ones)


def noise_levels(name: str, value: Tensor | float, x: Tensor) -> Tensor:
    r"""
    Return the noise levels of a batch of images, for each image or for each pixel.

    :param str name: name of the argument, for the message.
    :param torch.Tensor, float value: one number for all images; one for each, of shape
        :math:`(B,)` or :math:`(B, 1, 1, 1)`; or a map with one number for each pixel,
        of shape :math:`(B, 1, H, W)`, or :math:`(1, 1, H, W)` for all images.
    :param torch.Tensor x: images of shape :math:`(B, C, H, W)`, or volumes.
    :return: (:class:`torch.Tensor`) the levels in the dtype of ``x``, of the shape that
        :func:`each_image` returns, or of shape :math:`(B, 1, H, W)` for maps.
    :raises ValueError: if ``value`` has another shape.
    """
    levels = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    batch, size, ones = len(x), tuple(x.shape[2:]), (1,) * (x.ndim - 1)
    if levels.shape in ((1, 1, *size), (batch, 1, *size)):
        return levels.expand(batch, *[-1] * len(ones))
    if levels.numel() == 1 or levels.shape in ((batch,), (batch, *ones)):
        return each_image(name, levels, x)
    raise ValueError(
        f"{name} must be one number, or have shape ({batch},), {(batch, *ones)} or "
        f"{(batch, 1, *size)} for x of shape {tuple(x.shape)}, got "
        f"{tuple(levels.shape)}."
    )
