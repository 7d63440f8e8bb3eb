"""Orthonormal wavelets of images of any size, differentiable in torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import pywt
import torch
from torch import Tensor

from ...fixed_points.argument_checks import require_count

Coefficients: TypeAlias = tuple[Tensor, ...]
r"""The approximation, of shape :math:`(B, C, h_J, w_J)`, and the details from the
coarsest scale to the finest, each of shape :math:`(B, C, 3, h_j, w_j)`."""

# The filters of sym have eleven digits, that of dmey, which is cut off, three.
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class WaveletTransform:
    r"""
    The periodised wavelet transform :math:`D` of images, exactly orthonormal:
    :math:`D^\top D = I` for images of any size.

    An axis of length :math:`n` is filtered circularly and every second sample kept, as
    in ``pywt.wavedec2`` with ``mode="periodization"``, whose coefficients these are
    where the length of every level is even. Where it is odd, the last sample goes to
    the approximation as it is, and the others are filtered: PyWavelets repeats the last
    sample, and is no longer orthonormal. (A ``"periodic"`` boundary is redundant for
    every length.) The filters are PyWavelets', orthonormal to rounding in the families
    haar, db and coif, and to 1e-11 in sym.

    A scale has three orientations, horizontal, vertical and diagonal details. Along an
    odd axis their last entry stands for the sample that was passed on, and is 0, so
    that orientations have the same size :math:`h_j = \lceil h_{j-1} / 2 \rceil`.

    An axis is transformed by a product with a matrix that is kept, which takes less
    time than convolutions up to about 500 pixels.

    :param str wavelet: name of an orthonormal wavelet of PyWavelets: ``"haar"``,
        ``"db4"`` (8 taps, that of :footcite:t:`davy2025restarted`), ``"sym8"``,
        ``"coif2"`` ...
    :param int levels: number of scales :math:`J \geq 1`.
    :raises ValueError: if the wavelet is unknown or not orthonormal, or ``levels`` is
        less than 1.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.optim.wavelets import WaveletTransform
    >>> transform, x = WaveletTransform(levels=2), torch.rand(1, 3, 21, 32)
    >>> approximation, *details = transform.analysis(x)
    >>> [tuple(detail.shape) for detail in details]
    [(1, 3, 3, 6, 8), (1, 3, 3, 11, 16)]
    >>> back = transform.synthesis((approximation, *details), (21, 32))
    >>> torch.testing.assert_close(back, x)
    """

    wavelet: str = "db4"
    levels: int = 4

    def __post_init__(self) -> None:
        require_count("levels", self.levels, 1)
        if self.wavelet not in pywt.wavelist(kind="discrete"):
            raise ValueError(
                f"wavelet must be an orthonormal one of PyWavelets, such as 'db4', got "
                f"{self.wavelet!r}; pywt.wavelist(kind='discrete') lists the names."
            )
        known = pywt.Wavelet(self.wavelet)
        if not (known.orthogonal and _is_orthonormal(known.rec_lo)):
            raise ValueError(
                f"wavelet {self.wavelet!r} is not orthonormal, and the proximal "
                "operator in its coefficients not that in images; take one of the "
                "families haar, db, sym or coif, such as 'db4'."
            )

    def analysis(self, x: Tensor) -> Coefficients:
        r"""
        :param torch.Tensor x: real images of shape :math:`(B, C, H, W)`, in single or
            double precision.
        :return: :math:`D x`, the approximation and the details from the coarsest scale
            to the finest.
        :raises TypeError: if ``x`` is no such tensor.
        :raises ValueError: if it has another number of axes, or no pixels.
        """
        check_real_images(x)
        details: list[Tensor] = []
        for _ in range(self.levels):
            height, width = (self._along(n, x) for n in x.shape[-2:])
            quarters = (height @ x @ width.mT).unflatten(-2, (2, -1))
            (x, vertical), (horizontal, diagonal) = (
                half.unflatten(-1, (2, -1)).unbind(-2) for half in quarters.unbind(-3)
            )
            details.append(torch.stack((horizontal, vertical, diagonal), dim=2))
        return (x, *reversed(details))

    def synthesis(self, coefficients: Coefficients, size: Sequence[int]) -> Tensor:
        r"""
        :param tuple coefficients: as of :meth:`analysis`. The entries that are 0 there,
            of odd axes, are left out.
        :param Sequence size: :math:`(H, W)` of the images.
        :return: (:class:`torch.Tensor`) :math:`D^\top w`, of shape
            :math:`(B, C, H, W)`.
        :raises ValueError: if the coefficients are not those of images of this size.
        """
        shapes = self._shapes(size)
        got = [tuple(w.shape[-2:]) for w in coefficients]
        if got != [shapes[-1], *reversed(shapes[1:])]:
            raise ValueError(
                f"coefficients of images of size {tuple(size)} have the sizes "
                f"{[shapes[-1], *reversed(shapes[1:])]}, got {got}."
            )
        x, *details = coefficients
        for detail, shape in zip(details, shapes[-2::-1], strict=True):
            horizontal, vertical, diagonal = detail.unbind(2)
            low = torch.cat((x, vertical), dim=-1)
            high = torch.cat((horizontal, diagonal), dim=-1)
            height, width = (self._along(n, x) for n in shape)
            x = height.mT @ torch.cat((low, high), dim=-2) @ width
        return x

    def occurring(self, size: Sequence[int], like: Tensor) -> Coefficients:
        r"""
        Which entries images of a size have: those that are 0 in every analysis stand
        for samples that were passed on along an odd axis.

        :param Sequence size: :math:`(H, W)` of the images.
        :param torch.Tensor like: has the dtype and device.
        :return: 1 for entries that occur and 0 for the others, of shapes that broadcast
            to those of the coefficients.
        """
        masks: list[Tensor] = []
        for height, width in self._shapes(size)[:-1]:
            # Horizontal details are of high frequency along the height, ...
            mask = like.new_ones(3, -(-height // 2), -(-width // 2))
            mask[[0, 2], height // 2 :] = 0
            mask[[1, 2], :, width // 2 :] = 0
            masks.append(mask)
        return (like.new_ones(()), *reversed(masks))

    def _shapes(self, size: Sequence[int]) -> list[tuple[int, ...]]:
        """Sizes of the approximations, the image's own first."""
        shapes = [tuple(size)]
        for _ in range(self.levels):
            shapes.append(tuple(-(-n // 2) for n in shapes[-1]))
        return shapes

    def _along(self, n: int, x: Tensor) -> Tensor:
        return _matrix(self.wavelet, n, x.dtype, x.device)


def check_real_images(x: Tensor) -> None:
    r"""
    Refuse what is no batch of real images.

    :param torch.Tensor x: what should be one.
    :raises TypeError: if it is no real tensor in single or double precision.
    :raises ValueError: if it has not the axes :math:`(B, C, H, W)`, or is empty.
    """
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(
            "images must be a tensor of dtype torch.float32 or torch.float64, got "
            f"{got}; convert it, e.g. with .float()."
        )
    if x.ndim != 4 or x.numel() == 0:
        raise ValueError(
            "images must have shape (B, C, H, W) and at least one pixel, got "
            f"{tuple(x.shape)}."
        )


def _is_orthonormal(low_pass: Sequence[float]) -> bool:
    """Whether a low-pass filter is orthogonal to its even shifts, and of norm 1."""
    h = np.asarray(low_pass)
    shifted = [h[2 * m :] @ h[: len(h) - 2 * m] for m in range(len(h) // 2)]
    return bool(np.abs(np.array(shifted) - np.eye(1, len(shifted))).max() < _TOLERANCE)


@lru_cache(maxsize=64)
def _matrix(wavelet: str, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The transform of an axis of length n by one scale: rows of low frequencies, then
    as many of high ones, the last of which is 0 where n is odd."""
    known, half, rows = pywt.Wavelet(wavelet), n // 2, -(-n // 2)
    matrix = np.zeros((2, rows, n))
    for filtered, taps in zip(matrix, (known.rec_lo, known.rec_hi), strict=True):
        for t, value in enumerate(taps if half else ()):
            k = np.arange(half)
            # The phase is that of PyWavelets. What the filter reaches beyond the axis
            # comes in again at its other end, more than once where the axis is short.
            filtered[k, (2 * k + t - len(taps) // 2 + 1) % (2 * half)] += value
    if n % 2:
        matrix[0, half, -1] = 1
    # What inference mode makes could not be differentiated later.
    with torch.inference_mode(False):
        return torch.tensor(matrix.reshape(2 * rows, n), dtype=dtype, device=device)
