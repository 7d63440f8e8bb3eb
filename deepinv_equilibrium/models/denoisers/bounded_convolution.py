"""A convolution that is nonexpansive for all weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ...certificates import Bound, convolution_norm
from ...fixed_points.argument_checks import require_count
from .weight_bounds import WeightBound
from .weight_copies import WeightCopy

# Grid points of each axis for the bound of the norm. The bound is fast enough to be
# computed in every training step, and at most 1.039 times the norm for 3 x 3 filters.
GRID = 16


class BoundedConvolution(nn.Module):
    r"""
    A zero-padded convolution divided by a certified bound of its norm,

    .. math::

        x \mapsto \frac{W}{B} * x + b, \qquad B \geq \|W\|,

    where :func:`deepinv_equilibrium.certificates.convolution_norm` computes :math:`B`.
    The layer is nonexpansive for every image size and for all weights, and so in every
    training step. :func:`torch.nn.utils.parametrizations.spectral_norm` divides by the
    norm of the reshaped kernel, which does not bound :math:`\|W\|`. Derivatives of
    every order pass through :math:`B`. The second derivative raises an error if the
    largest singular value is multiple.

    :math:`B` and its gradient are computed once for the values of the weights.

    :param int in_channels: channels of the input.
    :param int out_channels: channels of the output.
    :param int kernel_size: side of the filters in pixels, odd.
    :raises ValueError: if an argument is out of its range.
    """

    run_state = frozenset(("_bound",))  # certificates do not cover it

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3
    ) -> None:
        super().__init__()
        require_count("in_channels", in_channels, 1)
        require_count("out_channels", out_channels, 1)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be odd and positive, got {kernel_size}."
            )
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels, kernel_size, kernel_size)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.kaiming_normal_(self.weight)
        self._bound = WeightBound(_norm_bound)

    @property
    def weight_copies(self) -> list[tuple[WeightCopy, nn.Parameter]]:
        """The copy of the weights for which the bound is known, if there is one, with
        the weights."""
        return self._bound.copies(self.weight)

    def normalised_weight(self) -> Tensor:
        r"""
        Return the filters :math:`W / B` that are applied.

        :return: (:class:`torch.Tensor`) filters of shape ``(out_channels, in_channels,
            kernel_size, kernel_size)``, in the dtype of the weights.
        """
        return self.weight / self._bound(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        r"""
        Apply the layer.

        :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
        :return: (:class:`torch.Tensor`) images of the same size, with ``out_channels``
            channels.
        """
        weight = self.normalised_weight().to(x.dtype)
        return conv2d(x, weight, self.bias.to(x.dtype), padding="same")

    def norm(self) -> float:
        r"""
        Return a certified upper bound of the norm :math:`\|W / B\|` of the filters that
        are applied.

        :return: (float) the bound, which is at most 1.
        """
        with torch.no_grad():
            return float(convolution_norm(self.normalised_weight().double()))

    def lipschitz_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Return the Lipschitz constant of the layer in the :math:`\ell_2` norm, for
        :func:`deepinv_equilibrium.lipschitz`.

        :param tuple img_size: size of the input; the bound holds for every size.
        :return: (Bound) :meth:`norm`.
        """
        return Bound(self.norm(), source="norm of the filters that are applied")

    def extra_repr(self) -> str:
        """Return the numbers of channels and the size of the filters."""
        outputs, inputs, kernel_size, _ = self.weight.shape
        return f"{inputs}, {outputs}, kernel_size={kernel_size}"


def _norm_bound(weight: Tensor) -> Tensor:
    # Rounding changes each entry of W / B by a relative eps at most, and the norm by at
    # most eps times the norm of the absolute values of the filters.
    limits = torch.finfo(weight.dtype)
    channels = min(weight.shape[:2])
    rounding = channels * weight.shape[-1] * limits.eps
    bound = convolution_norm(weight, grid=max(GRID, weight.shape[-1]))
    return (bound * (1 + 2 * rounding)).clamp_min(limits.tiny).to(weight.dtype)
