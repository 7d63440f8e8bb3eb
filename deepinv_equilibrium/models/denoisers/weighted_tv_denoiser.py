"""Denoising with weighted total variation."""

from __future__ import annotations

from deepinv.models import Denoiser
from torch import Tensor

from ...certificates import Bound, Kind
from ...fixed_points import OnFailure
from ...optim.total_variation.tv_denoising import TVDenoising
from ...optim.total_variation.tv_groups import TVNorm
from ...optim.total_variation.tv_proximal import check_options, weighted_tv_prox


class WeightedTVDenoiser(Denoiser):
    r"""
    The proximal operator of total variation with a weight for every sample, channel,
    pixel and direction,

    .. math::

        \operatorname{D}(v, \Lambda) = \operatorname*{arg\,min}_x
        \tfrac12 \|x - v\|^2 + \|\Lambda D x\|_{2, 1},

    or with :math:`\|\Lambda D x\|_1`; see
    :class:`~deepinv_equilibrium.optim.WeightedTVPrior`. Each sample is solved until its
    own duality gap meets the tolerance.

    :class:`deepinv.models.TVDenoiser` starts from its last result, so that its output
    depends on earlier calls, and its gradient is cut off at this start. The denoiser
    here has no memory: equal inputs give equal outputs, and the initial dual variable
    is an argument of :meth:`solve`. The gradient in the image and the weight is the
    implicit one, which does not depend on the start.

    :param str norm: ``"isotropic"`` (default) or ``"componentwise"``.
    :param float tol: tolerance on the duality gap relative to the energy. The distance
        to the exact image is at most :math:`\sqrt{2 \, \text{tol} \, P}`, where
        :math:`P` is the energy of the minimum.
    :param int max_iter: largest number of iterations.
    :param str on_failure: what to do if the tolerance is not met in the forward or
        backward pass: ``"warn"`` (default), ``"raise"`` or ``"ignore"``.
    :raises ValueError: if an argument is out of its range.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.models import WeightedTVDenoiser
    >>> denoiser, v = WeightedTVDenoiser(), torch.rand(2, 1, 32, 32)
    >>> weight = torch.full_like(v, 0.1, requires_grad=True)  # one for every pixel
    >>> denoiser(v, weight).square().sum().backward()
    >>> weight.grad.shape
    torch.Size([2, 1, 32, 32])
    >>> result = denoiser.solve(v, 0.1)
    >>> bool((result.residual <= 1e-4).all())
    True
    """

    def __init__(
        self,
        norm: TVNorm = "isotropic",
        tol: float = 1e-4,
        max_iter: int = 10000,
        on_failure: OnFailure = "warn",
    ) -> None:
        check_options(norm, tol, max_iter, on_failure)
        super().__init__()
        self.norm, self.tol = norm, tol
        self.max_iter, self.on_failure = max_iter, on_failure

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        r"""
        Denoise a batch of images.

        :param torch.Tensor x: images of shape :math:`(B, C, H, W)`,
            :math:`(B, C, D, H, W)` or :math:`(B, C, T, H, W)`, real or complex.
        :param torch.Tensor, float sigma: the weight :math:`\Lambda \geq 0` in the units
            of ``x``, at the position of deepinv's noise level: a number, or a tensor of
            shape :math:`(B,)`, with the axes of ``x``, or with one more axis for the
            directions; see
            :func:`~deepinv_equilibrium.optim.total_variation.as_weight`.
        :return: (:class:`torch.Tensor`) denoised images, of the shape of ``x``.
        :raises ValueError: if ``x`` is not a batch of images, or the weight is negative
            or has another shape.
        """
        return self.solve(x, sigma).x

    def solve(
        self, x: Tensor, weight: Tensor | float, dual: Tensor | None = None
    ) -> TVDenoising:
        r"""
        Denoise a batch of images, and report on each sample.

        :param torch.Tensor x: images, as for :meth:`forward`.
        :param torch.Tensor, float weight: :math:`\Lambda`, as for ``sigma`` of
            :meth:`forward`.
        :param torch.Tensor dual: initial dual variable, e.g. the ``dual`` of an earlier
            result. Default: ``None``, zero.
        :return: (TVDenoising) images, dual variable, duality gaps and iterations.
        :raises ValueError: for the same arguments as :meth:`forward`, or if ``dual``
            has another shape.
        """
        return weighted_tv_prox(
            x, weight, self.norm, self.tol, self.max_iter, dual, self.on_failure
        )

    def lipschitz_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Return a Lipschitz constant in the :math:`\ell_2` norm, for every weight.

        The exact proximal operator is firmly nonexpansive. The distance of the computed
        image from the exact one is proved to be at most ``solve(...).error_bound``, but
        the computed map is not proved to be nonexpansive.

        :param tuple img_size: size of the images; the bound holds for every size.
        :return: (Bound) 1, estimated.
        """
        return Bound(
            1.0,
            kind=Kind.ESTIMATED,
            source=f"proximal operator, computed to a duality gap of {self.tol:g}",
        )
