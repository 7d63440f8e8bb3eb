"""Compositions of learned convolutions, closed under reflection, of norm at most 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    conv2d,
    conv3d,
    conv_transpose2d,
    conv_transpose3d,
)

from ...certificates import convolution_norm
from ...fixed_points.argument_checks import require_count
from ...fixed_points.constant_weights import constant_weights
from .reflected_borders import extend_by_reflection, fold_by_reflection
from .weight_copies import WeightCopy, compare_weights, is_cacheable

_CONVOLUTION = {2: conv2d, 3: conv3d}
_TRANSPOSED = {2: conv_transpose2d, 3: conv_transpose3d}


class ComposedFilters(nn.Module):
    r"""
    A linear operator :math:`V = W / B` of norm at most 1 for all weights. :math:`W`
    computes the responses to learned filters, which are compositions

    .. math::

        W = F\, C_n \cdots C_2 C_1

    of convolutions :math:`C_k` without bias, followed by :math:`F`, all reflections of
    the composed filters along the axes of the image. The filters of :math:`C_1` have
    mean 0 in each channel, so that constant images have no response. The composition of
    three convolutions with 5 x 5 taps has 13 x 13 taps and fewer weights than free
    filters of this size :footcite:p:`goujon2023neural`.

    The bound :math:`B` of :func:`deepinv_equilibrium.certificates.convolution_norm` is
    for the composed filters, whose norm is far below the product of the norms of the
    :math:`C_k`. In two dimensions it exceeds the supremum of the norms over all image
    sizes by 1.5 % at most, in three dimensions by 6 %. It is a parametrisation, and
    holds after every step of an optimiser.

    **Borders.** The image is extended by reflection with repeated edges to the image
    :math:`E x` of period :math:`2n` along each of the :math:`d` axes, where
    :math:`2^{-d/2} E` is an isometry. The responses of :math:`E x` to all reflections
    of a filter are, up to their order, equal at the :math:`2^d` mirror images of a
    pixel. Hence the squares of the responses at the pixels of the image sum up to a
    :math:`2^{-d}`-th of those on the period, and :math:`\|V x\| \leq \|x\|` for the
    responses at the pixels of the image, for every size of the image.

    :param int in_channels: channels of the images.
    :param Sequence hidden_channels: output channels of :math:`C_1, \dots, C_{n - 1}`.
        An empty sequence means free filters.
    :param int generators: output channels of :math:`C_n`, the number of filters up to
        reflection.
    :param int kernel_size: taps of each :math:`C_k` along each axis, odd.
    :param int dim: 2 for images, 3 for volumes.
    :raises ValueError: if an argument is out of its range.
    """

    run_state = frozenset(("_cache",))  # certificates do not cover it

    def __init__(
        self,
        in_channels: int = 1,
        hidden_channels: Sequence[int] = (4, 8),
        generators: int = 16,
        kernel_size: int = 5,
        dim: int = 2,
    ) -> None:
        super().__init__()
        require_count("in_channels", in_channels, 1)
        require_count("generators", generators, 1)
        for channels in hidden_channels:
            require_count("hidden_channels", channels, 1)
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be an odd number, at least 3, got {kernel_size}."
            )
        if dim not in _CONVOLUTION:
            raise ValueError(f"dim must be 2 or 3, got {dim!r}.")
        sizes = (in_channels, *hidden_channels, generators)
        taps = (kernel_size,) * dim
        self.dim = dim
        self.convolutions = nn.ParameterList(
            nn.Parameter(torch.randn(b, a, *taps) / math.sqrt(a * kernel_size**dim))
            for a, b in pairwise(sizes)
        )
        self._cache: tuple[list[WeightCopy], Tensor] | None = None

    @property
    def reach(self) -> int:
        """The number of pixels from the centre of a composed filter to its border."""
        return sum(weight.shape[-1] // 2 for weight in self.convolutions)

    def forward(self) -> Tensor:
        r"""
        Return the filters :math:`V`.

        They are computed in every call if a gradient may pass through them, and
        otherwise once for all calls with the same values of the weights.

        :return: (:class:`torch.Tensor`) filters of shape ``(2 ** dim * generators,
            in_channels, taps, ...)`` with ``taps = 2 * reach + 1``, in the dtype of the
            weights.
        """
        weights = list(self.convolutions)
        differentiated = any(w.requires_grad for w in weights)
        if (torch.is_grad_enabled() and differentiated) or not all(
            map(is_cacheable, weights)
        ):
            return self._normalised()
        if self._cache is None or not self._is_known(self._cache[0], weights):
            # The cache is used later, in other modes than that of this call.
            with torch.inference_mode(False), torch.no_grad():
                self._cache = [WeightCopy(w) for w in weights], self._normalised()
        return self._cache[1]

    @staticmethod
    def _is_known(copies: list[WeightCopy], weights: list[nn.Parameter]) -> bool:
        """Whether all weights have the values of their copies."""
        with constant_weights():
            pairs = list(zip(copies, weights, strict=True))
            compare_weights(pairs)
            return all(copy.matches(weight) for copy, weight in pairs)

    def _normalised(self) -> Tensor:
        axes = tuple(range(-self.dim, 0))
        first, *others = self.convolutions
        composed = first - first.mean(dim=axes, keepdim=True)
        # The composition of two filters is the full convolution of one with the other.
        composed = composed.transpose(0, 1)
        for weight in others:
            border = weight.shape[-1] - 1
            composed = _CONVOLUTION[self.dim](
                composed, weight.flip(axes), padding=border
            )
        filters = composed.transpose(0, 1)
        for axis in axes:
            filters = torch.cat((filters, filters.flip(axis)))
        # Rounding changes each entry of W / B by a relative eps at most, and the norm
        # by at most eps times the norm of the absolute values of the filters, which is
        # at most the root of their number of entries.
        limits = torch.finfo(filters.dtype)
        rounding = limits.eps * math.sqrt(filters[0].numel())
        norm = convolution_norm(filters, grid=grid_size(filters.shape[-1], self.dim))
        return filters / (norm * (1 + 2 * rounding)).clamp_min(limits.tiny)

    def extra_repr(self) -> str:
        """Return the sizes."""
        first, last = self.convolutions[0], self.convolutions[-1]
        hidden = tuple(w.shape[0] for w in self.convolutions[:-1])
        return (
            f"in_channels={first.shape[1]}, hidden_channels={hidden}, "
            f"generators={last.shape[0]}, kernel_size={first.shape[-1]}, dim={self.dim}"
        )


def grid_size(taps: int, dim: int) -> int:
    """Return the grid points along an axis for the bound of the norm: those for a
    factor of 1.015 in two dimensions, which take too long in three."""
    return max(32, 13 * (taps - 1) + 4) if dim == 2 else max(32, 8 * (taps - 1))


def responses(x: Tensor, filters: Tensor) -> Tensor:
    r"""
    Return the responses :math:`V x` at the pixels of images, which are extended by
    reflection.

    :param torch.Tensor x: images of shape :math:`(B, C, H, W)` or :math:`(B, C, D, H,
        W)`.
    :param torch.Tensor filters: filters, as :class:`ComposedFilters` returns them.
    :return: (:class:`torch.Tensor`) responses, with a channel for each filter.
    """
    extended = extend_by_reflection(x, filters.shape[-1] // 2)
    return _CONVOLUTION[x.ndim - 2](extended, filters)


def responses_adjoint(r: Tensor, filters: Tensor) -> Tensor:
    r"""
    Return :math:`V^\top r`, the adjoint of :func:`responses`.

    :param torch.Tensor r: responses, with a channel for each filter.
    :param torch.Tensor filters: filters, as :class:`ComposedFilters` returns them.
    :return: (:class:`torch.Tensor`) images.
    """
    extended = _TRANSPOSED[r.ndim - 2](r, filters)
    return fold_by_reflection(extended, filters.shape[-1] // 2)
