"""Weighted total variation as a prior of deepinv."""

from __future__ import annotations

from typing import Any

import torch
from deepinv.optim import Prior
from torch import Tensor

from ...equilibrium.input_checks import check_image
from ...fixed_points import OnFailure
from ...fixed_points.argument_checks import require_number
from .image_differences import differences, differences_adjoint
from .tv_groups import TVNorm, as_weight, group_norm
from .tv_proximal import check_options, weighted_tv_prox


class WeightedTVPrior(Prior):
    r"""
    Total variation with a weight for every sample, channel, pixel and direction,

    .. math::

        \operatorname{R}_\Lambda(x) = \|\Lambda D x\|_{2, 1}
        = \sum_{c, p} \Bigl(\sum_d \Lambda_{c, d, p}^2 |(D x)_{c, d, p}|^2
        \Bigr)^{1/2} \qquad \text{or} \qquad
        \|\Lambda D x\|_1 = \sum_{c, d, p} \Lambda_{c, d, p} |(D x)_{c, d, p}|,

    with forward differences :math:`D` of images :math:`(B, C, H, W)`, volumes
    :math:`(B, C, D, H, W)` or time series :math:`(B, C, T, H, W)`, real or complex.
    :footcite:t:`kofler2023learning` learn such weights; their code has the
    componentwise form. The weight is the ``g_param`` of deepinv's optimisers.

    With ``smoothing`` :math:`\varepsilon > 0` the Huber function replaces each norm
    :math:`r = \|(\Lambda D x)_i\|`,

    .. math::

        \begin{cases} r^2 / (2 \varepsilon m_i) & r \leq \varepsilon m_i, \\
        r - \varepsilon m_i / 2 & r > \varepsilon m_i, \end{cases} \qquad
        m_i = \Bigl(\tfrac1d \sum_d \Lambda_{d, i}^2\Bigr)^{1/2},

    It is quadratic for differences below about :math:`\varepsilon` and at most
    :math:`\varepsilon m_i / 2` below :math:`r`. Its gradient is
    :math:`D^\top \Lambda w / \max(\|w\|, \varepsilon m)` with :math:`w = \Lambda D x`.
    Without smoothing the prior has a proximal operator and no gradient; with smoothing
    it has a gradient and no proximal operator.

    :param str norm: ``"isotropic"`` (default) or ``"componentwise"``.
    :param float smoothing: :math:`\varepsilon \geq 0`, in the units of the images.
        Default: 0.
    :param float tol: tolerance of :meth:`prox` on the duality gap, relative to the
        energy, in :math:`[0, 1)`. Default: ``1e-4``.
    :param int max_iter: largest number of iterations of :meth:`prox`. Default: 10000.
    :param str on_failure: what to do if :meth:`prox` does not meet its tolerance:
        ``"warn"`` (default), ``"raise"`` or ``"ignore"``.
    :raises ValueError: if an argument is out of range.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.optim import WeightedTVPrior
    >>> prior, x = WeightedTVPrior(), torch.rand(2, 3, 20, 30)
    >>> prior(x, 0.1).shape
    torch.Size([2])
    >>> weight = torch.rand(2, 1, 2, 20, 30)  # one for every pixel and direction
    >>> prior.prox(x, weight, gamma=0.5).shape
    torch.Size([2, 3, 20, 30])
    """

    def __init__(
        self,
        norm: TVNorm = "isotropic",
        smoothing: float = 0.0,
        tol: float = 1e-4,
        max_iter: int = 10000,
        on_failure: OnFailure = "warn",
    ) -> None:
        check_options(norm, tol, max_iter, on_failure)
        require_number("smoothing", smoothing)
        if not 0 <= smoothing < float("inf"):
            raise ValueError(
                f"smoothing must be at least 0 and finite, got {smoothing!r}."
            )
        super().__init__()
        self.explicit_prior = True
        self.norm, self.smoothing = norm, float(smoothing)
        self.tol, self.max_iter, self.on_failure = tol, max_iter, on_failure

    def fn(
        self, x: Tensor, weight: Tensor | float = 1.0, *args: Any, **kwargs: Any
    ) -> Tensor:
        r"""
        Evaluate the prior.

        :param torch.Tensor x: images, with two or three spatial axes.
        :param torch.Tensor, float weight: :math:`\Lambda \geq 0`, see
            :func:`~deepinv_equilibrium.optim.total_variation.as_weight`.
        :return: (:class:`torch.Tensor`) :math:`\operatorname{R}_\Lambda(x)`, smoothed
            if ``smoothing`` is positive, of shape :math:`(B,)`.
        :raises ValueError: if ``x`` is not a batch of images, or the weight does not
            fit.
        """
        field, weight = self._weighted(x, weight)
        size = group_norm(field, self.norm)
        if self.smoothing:
            corner = self._corner(weight)
            inside = torch.minimum(size, corner)
            bowl = inside / (2 * torch.where(corner > 0, corner, 1.0)) * inside
            size = size - inside + bowl
        return size.reshape(len(x), -1).sum(1)

    def grad(
        self, x: Tensor, weight: Tensor | float = 1.0, *args: Any, **kwargs: Any
    ) -> Tensor:
        r"""
        Return the gradient of the smoothed prior.

        :param torch.Tensor x: images, with two or three spatial axes.
        :param torch.Tensor, float weight: :math:`\Lambda`, as for :meth:`fn`.
        :return: (:class:`torch.Tensor`) the gradient, of the shape of ``x``.
        :raises ValueError: if ``x`` is not a batch of images, the weight does not fit,
            or ``smoothing`` is 0.
        """
        if not self.smoothing:
            raise ValueError(
                "total variation has no gradient; give WeightedTVPrior a smoothing, "
                "e.g. smoothing=1e-3 for images in [0, 1], or use an algorithm with "
                "proximal steps on the prior (PGD, HQS, ADMM, DRS)."
            )
        field, weight = self._weighted(x, weight)
        size = torch.maximum(group_norm(field, self.norm), self._corner(weight))
        return differences_adjoint(weight * field / torch.where(size > 0, size, 1.0))

    def prox(
        self,
        x: Tensor,
        weight: Tensor | float = 1.0,
        *args: Any,
        gamma: Tensor | float = 1.0,
        dual: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        r"""
        Evaluate the proximal operator up to the tolerance on the duality gap, with its
        exact gradient.

        :func:`~deepinv_equilibrium.optim.total_variation.weighted_tv_prox` computes it,
        and also returns the dual field and error bounds.

        :param torch.Tensor x: images, with two or three spatial axes.
        :param torch.Tensor, float weight: :math:`\Lambda`, as for :meth:`fn`.
        :param torch.Tensor, float gamma: :math:`\gamma \geq 0`, a number or one number
            an image.
        :param torch.Tensor dual: dual field to start from. Default: ``None``, zero.
        :return: (:class:`torch.Tensor`)
            :math:`\operatorname{prox}_{\gamma \operatorname{R}_\Lambda}(x)`.
        :raises ValueError: if ``x`` is not a batch of images, the weight does not fit,
            or ``smoothing`` is not 0.
        """
        if self.smoothing:
            raise ValueError(
                "a smoothed WeightedTVPrior has no proximal operator, got smoothing="
                f"{self.smoothing:g}; leave smoothing out, use SmoothedTVPrior, or an "
                "algorithm with gradient steps on the prior (GD)."
            )
        check_image(x)
        return weighted_tv_prox(
            x,
            as_weight(weight, x) * as_weight(gamma, x, "gamma"),
            self.norm,
            self.tol,
            self.max_iter,
            dual,
            self.on_failure,
        ).x

    def _weighted(self, x: Tensor, weight: Tensor | float) -> tuple[Tensor, Tensor]:
        r"""Return :math:`\Lambda D x`, and the weight with the axes of that."""
        check_image(x)
        weight = as_weight(weight, x)
        return weight * differences(x), weight

    def _corner(self, weight: Tensor) -> Tensor:
        r"""Return :math:`\varepsilon m`, where the Huber function becomes linear."""
        if self.norm == "isotropic":
            weight = weight.square().mean(dim=2, keepdim=True).sqrt()
        return self.smoothing * weight
