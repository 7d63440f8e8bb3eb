"""Convolution with padding and its exact transpose, in the Fourier domain."""

from __future__ import annotations

import torch
from deepinv.physics.functional import filter_fft
from torch import Tensor
from torch.nn.functional import pad

PADDINGS = ("valid", "circular", "replicate", "reflect", "constant")


def convolve(x: Tensor, kernels: Tensor, padding: str) -> Tensor:
    r"""
    Convolve every channel with its kernel: :math:`S (w * E x)`.

    :math:`E` extends the image beyond its border. On the pixels that :math:`S` crops
    to, the circular convolution of the extended image is the convolution.

    :param torch.Tensor x: image ``(B, C, H, W)``.
    :param torch.Tensor kernels: ``(b, c, h, w)`` with ``b`` in ``(1, B)`` and ``c`` in
        ``(1, C)``, centred at ``(h//2, w//2)``.
    :param str padding: one of :data:`PADDINGS`.
    :return: convolved image.
    """
    extended = _extend(x, kernels, padding)
    convolved = multiply_spectrum(extended, transfer_function(kernels, extended))
    left, right, top, bottom = _crop(kernels, padding)
    height, width = convolved.shape[2], convolved.shape[3]
    return convolved[..., top : height - bottom, left : width - right].contiguous()


def convolve_transpose(y: Tensor, kernels: Tensor, padding: str) -> Tensor:
    r"""
    Apply the transpose of :func:`convolve`: :math:`E^\top (\bar w * S^\top y)`.

    :param torch.Tensor y: convolved image.
    :param torch.Tensor kernels: as in :func:`convolve`.
    :param str padding: one of :data:`PADDINGS`.
    :return: tensor of the shape of the image.
    """
    embedded = pad(y, _crop(kernels, padding))
    transfer = transfer_function(kernels, embedded)
    correlated = multiply_spectrum(embedded, transfer.conj())
    if padding in ("valid", "circular"):
        return correlated
    transpose = torch.func.vjp(
        lambda x: _extend(x, kernels, padding), torch.zeros_like(y)
    )[1]
    return transpose(correlated)[0]


def smallest_image(kernels: Tensor, padding: str) -> tuple[int, int]:
    """
    Return the size of the smallest image that can be convolved.

    :param torch.Tensor kernels: as in :func:`convolve`.
    :param str padding: one of :data:`PADDINGS`.
    :return: height and width in pixels.
    """
    h, w = kernels.shape[2], kernels.shape[3]
    if padding in ("valid", "circular"):
        return h, w
    # A reflection does not repeat the border pixel.
    return (h // 2 + 1, w // 2 + 1) if padding == "reflect" else (1, 1)


def check_image(
    name: str, image: Tensor, kernels: Tensor, smallest: tuple[int, int]
) -> None:
    """
    Raise unless an image fits the kernels.

    :param str name: name of the argument, for the message.
    :param torch.Tensor image: image ``(B, C, H, W)``.
    :param torch.Tensor kernels: as in :func:`convolve`.
    :param tuple[int, int] smallest: smallest height and width.
    :raises TypeError: if the image is not a real floating-point tensor.
    :raises ValueError: if the image has a wrong number of axes, channels or samples, or
        too few pixels.
    """
    if not image.is_floating_point():
        raise TypeError(
            f"{name} must be a real floating-point tensor, got {image.dtype}."
        )
    if image.dim() != 4:
        raise ValueError(
            f"{name} must have shape (B, C, H, W), got {tuple(image.shape)}."
        )
    b, c, h, w = kernels.shape
    if c not in (1, image.shape[1]):
        raise ValueError(
            f"{name} has {image.shape[1]} channels but the filter has {c} kernels: "
            f"give one kernel per channel, or a single one for all."
        )
    if b not in (1, image.shape[0]):
        raise ValueError(
            f"{name} has {image.shape[0]} samples but the filter is a batch of "
            f"{b}: give one filter per sample, or a single one for all."
        )
    if image.shape[-2] < smallest[0] or image.shape[-1] < smallest[1]:
        raise ValueError(
            f"{name} has {tuple(image.shape[-2:])} pixels, but kernels of {(h, w)} "
            f"with this padding need at least {smallest}: use a larger image, smaller "
            f"kernels or padding='replicate'."
        )


def transfer_function(kernels: Tensor, image: Tensor) -> Tensor:
    """
    Return the Fourier transform of the kernels, on the grid and in the precision of an
    image.

    :param torch.Tensor kernels: as in :func:`convolve`.
    :param torch.Tensor image: image ``(B, C, H, W)``, at least as large as the kernels.
    :return: complex tensor ``(b, c, H, W//2+1)``.
    """
    return filter_fft(kernels.to(image.dtype), image.shape[-2:], dims=(-2, -1))


def power(transfer: Tensor) -> Tensor:
    r"""
    Return the squared modulus :math:`|\hat w|^2`, which is differentiable at 0 too.

    :param torch.Tensor transfer: complex tensor.
    :return: real tensor of the same shape.
    """
    return transfer.real.square() + transfer.imag.square()


def multiply_spectrum(image: Tensor, multiplier: Tensor) -> Tensor:
    """
    Multiply the real Fourier transform of an image.

    :param torch.Tensor image: image ``(B, C, H, W)``.
    :param torch.Tensor multiplier: tensor that broadcasts with ``(B, C, H, W//2+1)``.
    :return: image of the same shape.
    """
    return torch.fft.irfft2(torch.fft.rfft2(image) * multiplier, s=image.shape[-2:])


def _margins(kernels: Tensor) -> tuple[int, int, int, int]:
    """Return how many pixels a kernel reaches beyond left, right, top and bottom."""
    h, w = kernels.shape[2], kernels.shape[3]
    return (w - 1) // 2, w // 2, (h - 1) // 2, h // 2


def _extend(x: Tensor, kernels: Tensor, padding: str) -> Tensor:
    if padding in ("valid", "circular"):
        return x
    return pad(x, _margins(kernels), mode=padding)


def _crop(kernels: Tensor, padding: str) -> tuple[int, int, int, int]:
    """Return the margins of the extended image that :math:`S` removes."""
    return (0, 0, 0, 0) if padding == "circular" else _margins(kernels)
