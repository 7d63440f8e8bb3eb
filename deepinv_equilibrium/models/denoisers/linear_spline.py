"""Odd linear splines with learned slopes between two bounds."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...fixed_points.argument_checks import require_count

# Initial shares of the two parts of a slope, near 0 and behind it: the function rises
# steeply up to a twelfth of the range and falls slowly from there on.
_STEEP = 1 / 12
_RISING, _FLAT, _FALLING, _HARDLY_FALLING = 0.95, 0.05, 0.5, 0.1


class LinearSpline(nn.Module):
    r"""
    An odd, continuous, piecewise linear function :math:`\varphi` with learned slopes,

    .. math::

        \varphi(t) = \int_0^t s(|v|) \, dv, \qquad
        s = \mu s_+ - \rho s_- \ \text{on each of } K \text{ intervals of }
        [0, r], \qquad s(v) = 0 \ \text{for } v \geq r,

    where :math:`s_+, s_- \in (0, 1)` are the logistic functions of free weights and
    :math:`\mu > 0` is the exponential of one. Hence :math:`-\rho \leq \varphi' \leq
    \mu` for all weights, and so in every training step. It is the activation of
    :footcite:t:`goujon2024weakly`, whose two splines are projected instead.

    :param float weak_convexity: :math:`\rho \geq 0`. At 0 the function is monotone, and
        its integral convex.
    :param float slope: initial value of :math:`\mu > 0`.
    :param int intervals: :math:`K`.
    :param float radius: :math:`r > 0`.
    """

    def __init__(
        self,
        weak_convexity: float = 0.0,
        slope: float = 20.0,
        intervals: int = 50,
        radius: float = 0.1,
    ) -> None:
        super().__init__()
        require_count("intervals", intervals, 1)
        self.weak_convexity = float(weak_convexity)
        self.radius = float(radius)
        self.log_slope = nn.Parameter(torch.tensor(math.log(slope)))
        steep = torch.arange(intervals) < max(1, round(_STEEP * intervals))
        rising = torch.where(steep, _RISING, _FLAT)
        self.rising = nn.Parameter(rising.logit())
        if self.weak_convexity > 0:
            falling = torch.where(steep, _HARDLY_FALLING, _FALLING)
            self.falling = nn.Parameter(falling.logit())

    def slopes(self) -> Tensor:
        r"""
        Return the slopes :math:`s` on the intervals.

        :return: (:class:`torch.Tensor`) slopes of shape :math:`(K + 1,)`. The last one,
            of the unbounded interval, is 0.
        """
        slopes = self.log_slope.exp() * self.rising.sigmoid()
        if self.weak_convexity > 0:
            slopes = slopes - self.weak_convexity * self.falling.sigmoid()
        return torch.cat((slopes, slopes.new_zeros(1)))

    def extra_repr(self) -> str:
        """Return the sizes and the lower bound of the slopes."""
        return (
            f"weak_convexity={self.weak_convexity:g}, intervals={len(self.rising)}, "
            f"radius={self.radius:g}"
        )


def spline_value(u: Tensor, slopes: Tensor, radius: float) -> Tensor:
    r"""
    Return :math:`\varphi(u)`.

    :param torch.Tensor u: arguments of any shape.
    :param torch.Tensor slopes: slopes, as :meth:`LinearSpline.slopes` returns them.
    :param float radius: :math:`r`, the range of the slopes.
    :return: (:class:`torch.Tensor`) values of the shape of ``u``.
    """
    knots, heights = _knots_and_heights(slopes, radius)
    index = _intervals(u, len(slopes) - 1, radius)
    # phi(u) = s_i u + sign(u) (h_i - s_i v_i) on the interval i, which starts at v_i.
    # Its derivative in u is one product. A derivative in the slopes is not computed
    # unless it is asked for.
    offset = _lookup(heights - slopes * knots, index, u)
    return torch.addcmul(offset * u.detach().sign(), _lookup(slopes, index, u), u)


def spline_slope(u: Tensor, slopes: Tensor, radius: float) -> Tensor:
    r"""Return :math:`\varphi'(u)`, at a knot the slope behind it. The arguments are
    those of :func:`spline_value`."""
    return _lookup(slopes, _intervals(u, len(slopes) - 1, radius), u)


def spline_integral(u: Tensor, slopes: Tensor, radius: float) -> Tensor:
    r"""Return :math:`\int_0^u \varphi`. The arguments are those of
    :func:`spline_value`."""
    knots, heights = _knots_and_heights(slopes, radius)
    width = radius / (len(slopes) - 1)
    areas = width * (heights[1:] + heights[:-1]) / 2
    areas = torch.cat((areas.new_zeros(1), areas.cumsum(0)))
    index = _intervals(u, len(slopes) - 1, radius)
    part = u.abs() - _lookup(knots, index, u)
    height, slope = _lookup(heights, index, u), _lookup(slopes, index, u)
    return _lookup(areas, index, u) + part * (height + slope * part / 2)


def _knots_and_heights(slopes: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Return the beginnings of the intervals and the values of the function there."""
    width = radius / (len(slopes) - 1)
    knots = width * torch.arange(len(slopes), dtype=slopes.dtype, device=slopes.device)
    heights = torch.cat((slopes.new_zeros(1), (width * slopes[:-1]).cumsum(0)))
    return knots, heights


@torch.no_grad()
def _intervals(u: Tensor, count: int, radius: float) -> Tensor:
    """Return the index of the interval of each argument, at most ``count``."""
    position = (u.detach().abs() * (count / radius)).clamp_max_(count)
    # NaN has no integer, and must not become an index out of range.
    return position.to(torch.int32).clamp_(0, count).flatten()


def _lookup(table: Tensor, index: Tensor, u: Tensor) -> Tensor:
    return table.index_select(0, index).view_as(u)
