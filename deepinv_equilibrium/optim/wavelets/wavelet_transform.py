"""The orthonormal wavelet transform of images of any size, differentiable in torch."""

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

# The filters of sym are orthonormal to eleven digits, the truncated dmey to three.
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class WaveletTransform:
    r"""
    The periodised wavelet transform :math:`D` of images, exactly orthonormal:
    :math:`D^\top D = I` for images of any size.

    Each axis is filtered circularly and subsampled by two, as in ``pywt.wavedec2`` with
    ``mode="periodization"``. The coefficients agree with PyWavelets if the length of
    the axis is even at every level. If it is odd, we copy the last sample to the
    approximation and filter the others; PyWavelets repeats the last sample, and its
    transform is then not orthonormal. (Its ``"periodic"`` boundary is redundant for
    every length.) The filters are PyWavelets', orthonormal to rounding in the families
    haar, db and coif, and to 1e-11 in sym.

    A scale has three orientations: horizontal, vertical and diagonal details. All have
    the size :math:`h_j = \lceil h_{j-1} / 2 \rceil`; along an odd axis the last entry
    corresponds to the copied sample and is 0.

    An axis is transformed by a product with a cached matrix, which is faster than
    convolutions up to about 500 pixels.

    :param str wavelet: name of an orthonormal wavelet of PyWavelets: ``"haar"``,
        ``"db4"`` (default, 8 taps, used by :footcite:t:`davy2025restarted`),
        ``"sym8"``, ``"coif2"`` ...
    :param int levels: number of scales :math:`J \geq 1`. Default: 4.
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
                "wavelet must be the name of an orthonormal wavelet, such as 'db4', "
                f"got {self.wavelet!r}; pywt.wavelist(kind='discrete') lists the names."
            )
        known = pywt.Wavelet(self.wavelet)
        if not (known.orthogonal and _is_orthonormal(known.rec_lo)):
            raise ValueError(
                f"wavelet {self.wavelet!r} is not orthonormal, so the proximal "
                "operator does not act on its coefficients separately; take one of the "
                "families haar, db, sym or coif, such as 'db4'."
            )

    def analysis(self, x: Tensor) -> Coefficients:
        r"""
        Return the coefficients :math:`D x` of images.

        :param torch.Tensor x: real images of shape :math:`(B, C, H, W)`, in single or
            double precision.
        :return: (tuple) the approximation and the details from the coarsest scale to
            the finest.
        :raises TypeError: if ``x`` is not a tensor of such a dtype.
        :raises ValueError: if ``x`` has another number of axes, or no pixels.
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
        Return the images :math:`D^\top w` of coefficients.

        :param tuple coefficients: :math:`w`, with the shapes that :meth:`analysis`
            returns. The entries that are always 0 there are ignored.
        :param Sequence size: :math:`(H, W)` of the images.
        :return: (:class:`torch.Tensor`) the images, of shape :math:`(B, C, H, W)`.
        :raises ValueError: if images of this size have coefficients of other shapes.
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
        Return a mask of the entries that are not 0 for all images of a size. The others
        correspond to copied samples of odd axes.

        :param Sequence size: :math:`(H, W)` of the images.
        :param torch.Tensor like: a tensor with the dtype and device of the mask.
        :return: (tuple) 1 or 0, of shapes that broadcast to the shapes of the
            coefficients.
        """
        masks: list[Tensor] = []
        for height, width in self._shapes(size)[:-1]:
            # Horizontal and diagonal details have high frequencies along the height.
            mask = like.new_ones(3, -(-height // 2), -(-width // 2))
            mask[[0, 2], height // 2 :] = 0
            mask[[1, 2], :, width // 2 :] = 0
            masks.append(mask)
        return (like.new_ones(()), *reversed(masks))

    def _shapes(self, size: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the sizes of the image and of its approximations."""
        shapes = [tuple(size)]
        for _ in range(self.levels):
            shapes.append(tuple(-(-n // 2) for n in shapes[-1]))
        return shapes

    def _along(self, n: int, x: Tensor) -> Tensor:
        return _matrix(self.wavelet, n, x.dtype, x.device)


def check_real_images(x: Tensor) -> None:
    r"""
    Raise unless a tensor is a batch of real images.

    :param torch.Tensor x: the tensor.
    :raises TypeError: if it is not a real tensor in single or double precision.
    :raises ValueError: if its shape is not :math:`(B, C, H, W)`, or it is empty.
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
    """Return whether a filter has norm 1 and is orthogonal to its even shifts."""
    h = np.asarray(low_pass)
    shifted = [h[2 * m :] @ h[: len(h) - 2 * m] for m in range(len(h) // 2)]
    return bool(np.abs(np.array(shifted) - np.eye(1, len(shifted))).max() < _TOLERANCE)


@lru_cache(maxsize=64)
def _matrix(wavelet: str, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the transform of an axis of length n by one scale: rows of low
    frequencies, then as many rows of high frequencies. The last row is 0 for odd n."""
    known, half, rows = pywt.Wavelet(wavelet), n // 2, -(-n // 2)
    matrix = np.zeros((2, rows, n))
    for filtered, taps in zip(matrix, (known.rec_lo, known.rec_hi), strict=True):
        for t, value in enumerate(taps if half else ()):
            k = np.arange(half)
            # With the phase of PyWavelets. The filter wraps around the end of the axis,
            # several times if the axis is short.
            filtered[k, (2 * k + t - len(taps) // 2 + 1) % (2 * half)] += value
    if n % 2:
        matrix[0, half, -1] = 1
    # A tensor that inference mode makes could not be differentiated later.
    with torch.inference_mode(False):
        return torch.tensor(matrix.reshape(2 * rows, n), dtype=dtype, device=device)
