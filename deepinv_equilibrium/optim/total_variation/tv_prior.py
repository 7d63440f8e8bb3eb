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
from .tv_groups import TVNorm, group_norm
from .tv_proximal import check_options, weighted_tv_prox
from .tv_weights import as_weight


class WeightedTVPrior(Prior):
    r"""
    Total variation with a weight for every sample, channel, pixel and direction,

    .. math::

        \operatorname{R}_\Lambda(x) = \|\Lambda D x\|_{2, 1}
        = \sum_{c, p} \Bigl(\sum_d \Lambda_{c, d, p}^2 |(D x)_{c, d, p}|^2
        \Bigr)^{1/2} \qquad \text{or} \qquad
        \|\Lambda D x\|_1 = \sum_{c, d, p} \Lambda_{c, d, p} |(D x)_{c, d, p}|,

    with forward differences :math:`D` of images :math:`(B, C, H, W)`, volumes
    :math:`(B, C, D, H, W)` or time series :math:`(B, C, T, H, W)`, real or complex,
    as regularised in :footcite:t:`kofler2023learning` (their code has the componentwise
    form). The weight is the ``g_param`` of deepinv's optimisers.

    With ``smoothing`` :math:`\varepsilon > 0` each norm :math:`r = \|(\Lambda D x)_i\|`
    is replaced by the Huber function

    .. math::

        \begin{cases} r^2 / (2 \varepsilon m_i) & r \leq \varepsilon m_i, \\
        r - \varepsilon m_i / 2 & r > \varepsilon m_i, \end{cases} \qquad
        m_i = \Bigl(\tfrac1d \sum_d \Lambda_{d, i}^2\Bigr)^{1/2},

    which is quadratic for differences below about :math:`\varepsilon`, at most
    :math:`\varepsilon m_i / 2` less than :math:`r`, and has the gradient
    :math:`D^\top \Lambda w / \max(\|w\|, \varepsilon m)`, :math:`w = \Lambda D x`. The
    norm itself has a proximal operator and no gradient; the smoothed one is for
    algorithms that need a gradient.

    :param str norm: ``"isotropic"`` (default) or ``"componentwise"``.
    :param float smoothing: :math:`\varepsilon \geq 0`, in the units of the images.
    :param float tol: tolerance of :meth:`prox` on the duality gap, relative to the
        energy.
    :param int max_iter: the most iterations of :meth:`prox`.
    :param str on_failure: what to do where :meth:`prox` does not meet its tolerance:
        ``"warn"`` (default), ``"raise"`` or ``"ignore"``.
    :raises ValueError: if an argument is out of its range.

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
        :param torch.Tensor x: images, with two or three spatial axes.
        :param torch.Tensor, float weight: :math:`\Lambda \geq 0`, see
            :func:`~deepinv_equilibrium.optim.total_variation.as_weight`.
        :return: (:class:`torch.Tensor`) :math:`\operatorname{R}_\Lambda(x)`, smoothed
            where ``smoothing`` is set, of shape :math:`(B,)`.
        :raises ValueError: if ``x`` is no batch of images, or the weight does not fit.
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
        The gradient of the smoothed form.

        :param torch.Tensor x: images, as for :meth:`fn`.
        :param torch.Tensor, float weight: :math:`\Lambda`, as for :meth:`fn`.
        :return: (:class:`torch.Tensor`) the gradient, of the shape of ``x``.
        :raises ValueError: as :meth:`fn`, or if ``smoothing`` is 0.
        """
        if not self.smoothing:
            raise ValueError(
                "total variation has no gradient: give WeightedTVPrior a smoothing, "
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
        The proximal operator, to the tolerance on its duality gap and with its exact
        gradient: see
        :func:`~deepinv_equilibrium.optim.total_variation.weighted_tv_prox`, which also
        returns the dual and what is known of the accuracy.

        :param torch.Tensor x: images, as for :meth:`fn`.
        :param torch.Tensor, float weight: :math:`\Lambda`, as for :meth:`fn`.
        :param torch.Tensor, float gamma: :math:`\gamma \geq 0`, one or one an image.
        :param torch.Tensor dual: where to start, see there.
        :return: (:class:`torch.Tensor`)
            :math:`\operatorname{prox}_{\gamma \operatorname{R}_\Lambda}(x)`.
        :raises ValueError: as :meth:`fn`, or if ``smoothing`` is not 0.
        """
        if self.smoothing:
            raise ValueError(
                f"the proximal operator is that of total variation itself, and this "
                f"prior is smoothed (smoothing={self.smoothing:g}); leave smoothing "
                "out, or use an algorithm with gradient steps on the prior (GD)."
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
        r""":math:`\Lambda D x`, and the weight in its axes."""
        check_image(x)
        weight = as_weight(weight, x)
        return weight * differences(x), weight

    def _corner(self, weight: Tensor) -> Tensor:
        r""":math:`\varepsilon m`, where the Huber function turns linear."""
        if self.norm == "isotropic":
            weight = weight.square().mean(dim=2, keepdim=True).sqrt()
        return self.smoothing * weight
