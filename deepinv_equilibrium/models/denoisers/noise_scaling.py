"""Learned scalings of filter responses for a noise level."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LARGEST_LEVEL = 50 / 255
"""The noise level from which on the scalings are inverse to the noise."""
_KNOTS = 11
# Initial exponents at noise level 0 and at the largest one. A response to noise alone
# is then in the steep part of the spline.
_UNIT, _FIRST, _LAST = 0.027, 2.7, 0.8


class NoiseScaling(nn.Module):
    r"""
    A positive scaling of the responses to each filter, for all noise levels,

    .. math::

        \alpha_i(\sigma) = 0.027\, \frac{e^{s_i(\sigma)}}{\sigma},

    with a linear spline :math:`s_i` of 11 equidistant knots on :math:`[0, 50/255]`,
    which is constant above.

    :param int generators: number of filters :math:`i` up to reflection.
    """

    def __init__(self, generators: int) -> None:
        super().__init__()
        exponents = torch.linspace(_FIRST, _LAST, _KNOTS).expand(generators, _KNOTS)
        self.exponents = nn.Parameter(exponents.clone())

    def forward(self, levels: Tensor) -> Tensor:
        r"""
        Return the scalings.

        :param torch.Tensor levels: noise levels :math:`\sigma \geq 0` of shape
            :math:`(B, 1, \dots)`, one for each image or one for each pixel.
        :return: (:class:`torch.Tensor`) scalings of shape :math:`(B, G, \dots)`. At
            noise level 0 they are so large that a bounded function of scaled responses,
            divided by the scaling, is 0 in effect.
        """
        position = (levels / LARGEST_LEVEL * (_KNOTS - 1)).clamp(0, _KNOTS - 1)
        index = position.detach().floor().long().clamp_max(_KNOTS - 2)
        part = (position - index).movedim(1, 0)  # 1, B, ...
        knots = self.exponents.to(levels.dtype)
        first, second = knots[:, index[:, 0]], knots[:, index[:, 0] + 1]
        exponent = (first + part * (second - first)).movedim(0, 1)
        tiny = torch.finfo(levels.dtype).tiny ** 0.25
        return _UNIT * exponent.exp() / levels.clamp_min(tiny)
