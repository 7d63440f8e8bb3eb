"""Smoothed total variation as a prior of deepinv."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepinv.optim import Prior
from torch import Tensor

from ...certificates import Bound, Interval
from ...certificates.bounds import outward
from ...equilibrium.input_checks import check_image
from ...fixed_points.argument_checks import require_number
from ..priors.smooth_proximal import smooth_prox
from .image_differences import differences_norm_squared
from .tv_groups import TVNorm, as_weight
from .tv_prior import WeightedTVPrior


class SmoothedTVPrior(Prior):
    r"""
    Total variation with a Huber function in the place of the norm,

    .. math::

        \operatorname{TV}_\varepsilon(x) = \|D x\|_{2, 1, \varepsilon}
        = \sum_{c, p} h_\varepsilon\bigl(\|(D x)_{c, p}\|_2\bigr), \qquad
        h_\varepsilon(r) = \begin{cases} r^2 / (2 \varepsilon) & r \leq \varepsilon, \\
        r - \varepsilon / 2 & r > \varepsilon, \end{cases}

    It is a smoothed :class:`~deepinv_equilibrium.optim.WeightedTVPrior` of weight 1,
    and is weighted by ``lambda_reg`` of deepinv's optimisers, which may be learned for
    each layer. It is convex, and below total variation by at most
    :math:`\varepsilon / 2` a pixel. Its gradient
    :math:`D^\top (D x / \max(\|D x\|_2, \varepsilon))` is
    :math:`\|D\|^2 / \varepsilon`-Lipschitz, with a constant below
    :math:`8 / \varepsilon` for images. Both the gradient, for
    :class:`~deepinv_equilibrium.optim.GD`, and the proximal operator, for
    :class:`~deepinv_equilibrium.optim.PGD`, are available.

    :param float smoothing: :math:`\varepsilon > 0`, in the units of the images.
    :param str norm: ``"isotropic"`` (default), as above, or ``"componentwise"``: the
        sum of :math:`h_\varepsilon(|(D x)_{c, d, p}|)`, also over the directions.
    :param float rtol: relative tolerance of :meth:`prox`. Default: ``None``, the
        default of :func:`~deepinv_equilibrium.optim.smooth_prox`.
    :raises ValueError: if ``smoothing`` is not positive and finite, or ``norm`` is
        unknown.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.optim import SmoothedTVPrior
    >>> prior, x = SmoothedTVPrior(smoothing=0.01), torch.rand(2, 3, 20, 30)
    >>> prior.prox(x, gamma=0.1).shape
    torch.Size([2, 3, 20, 30])
    >>> print(prior.gradient_bounds((3, 20, 30)).upper)
    <= 796.443 (certified: squared norm of the differences, over smoothing = 0.01)
    """

    def __init__(
        self,
        smoothing: float = 1e-2,
        norm: TVNorm = "isotropic",
        rtol: float | None = None,
    ) -> None:
        super().__init__()
        require_number("smoothing", smoothing)
        if not 0 < smoothing < float("inf"):
            raise ValueError(
                f"smoothing must be positive and finite, got {smoothing!r}; total "
                "variation itself is WeightedTVPrior."
            )
        self.explicit_prior = True
        self.smoothing, self.rtol = float(smoothing), rtol
        self._weighted = WeightedTVPrior(norm, smoothing)

    @property
    def norm(self) -> TVNorm:
        """The norm of the differences, ``"isotropic"`` or ``"componentwise"``."""
        return self._weighted.norm

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        Evaluate the prior.

        :param torch.Tensor x: images, with two or three spatial axes.
        :return: (:class:`torch.Tensor`) :math:`\operatorname{TV}_\varepsilon(x)`, of
            shape :math:`(B,)`.
        :raises ValueError: if ``x`` is not a batch of images.
        """
        return self._weighted.fn(x, 1.0)

    def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        Return the gradient of the prior.

        :param torch.Tensor x: images, with two or three spatial axes.
        :return: (:class:`torch.Tensor`) the gradient, of the shape of ``x``.
        :raises ValueError: if ``x`` is not a batch of images.
        """
        return self._weighted.grad(x, 1.0)

    def prox(
        self, x: Tensor, *args: Any, gamma: Tensor | float = 1.0, **kwargs: Any
    ) -> Tensor:
        r"""
        Evaluate the proximal operator by
        :func:`~deepinv_equilibrium.optim.smooth_prox`, with its exact gradient. A
        :class:`~deepinv_equilibrium.ConvergenceWarning` tells if ``rtol`` is not met.

        :param torch.Tensor x: images, with two or three spatial axes.
        :param torch.Tensor, float gamma: :math:`\gamma \geq 0`, a number or one number
            an image.
        :return: (:class:`torch.Tensor`)
            :math:`\operatorname{prox}_{\gamma \operatorname{TV}_\varepsilon}(x)`.
        :raises ValueError: if ``x`` is not a batch of images, or ``gamma`` is negative
            or not finite.
        """
        check_image(x)
        scale = as_weight(gamma, x, "gamma").squeeze(2)
        smoothness = self.gradient_bounds(x.shape[1:]).upper.value
        return smooth_prox(self.grad, x, scale, smoothness, self.rtol)

    def gradient_bounds(self, img_size: Sequence[int]) -> Interval:
        r"""
        Return bounds of the Jacobian of :meth:`grad`, which is symmetric, for all
        images of a size.

        :param Sequence img_size: :math:`(C, H, W)`, or with three spatial axes.
        :return: (Interval) from 0 to :math:`\|D\|^2 / \varepsilon`, certified.
        """
        smoothness = differences_norm_squared(img_size[1:]) / self.smoothing
        source = f"squared norm of the differences, over smoothing = {self.smoothing:g}"
        return Interval(
            Bound(0.0, source="a convex function", is_lower=True),
            Bound(outward(smoothness), source=source),
        )

    def extra_repr(self) -> str:
        """Return the smoothing and the norm."""
        return f"smoothing={self.smoothing:g}, norm={self.norm!r}"
