"""Denoising by weighted total variation."""

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
    :class:`~deepinv_equilibrium.optim.WeightedTVPrior`. Where
    :class:`deepinv.models.TVDenoiser` keeps its last result to start from, and lets
    the gradient of that call be cut off there, this denoiser has no memory: the same
    input gives the same output, a start is an argument of :meth:`solve`, and the
    gradient in the image and the weight is the implicit one, whatever the start. Each
    sample is solved to its own duality gap.

    :param str norm: ``"isotropic"`` (default) or ``"componentwise"``.
    :param float tol: tolerance on the duality gap, relative to the energy; the image
        is then within :math:`\sqrt{2 \, \text{tol} \, P}` of the exact one, with the
        energy :math:`P` of the minimum.
    :param int max_iter: the most iterations.
    :param str on_failure: what to do where the tolerance is not met, forward or
        backward: ``"warn"`` (default), ``"raise"`` or ``"ignore"``.
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
        :param torch.Tensor, float sigma: the weight :math:`\Lambda \geq 0`, in the
            units of ``x``, in deepinv's place for a noise level: a number, or a tensor
            of shape :math:`(B,)`, with the axes of ``x``, or with one more for the
            directions, see
            :func:`~deepinv_equilibrium.optim.total_variation.as_weight`.
        :return: (:class:`torch.Tensor`) denoised images, of the shape of ``x``.
        :raises ValueError: if ``x`` is no batch of images, or the weight does not fit.
        """
        return self.solve(x, sigma).x

    def solve(
        self, x: Tensor, weight: Tensor | float, dual: Tensor | None = None
    ) -> TVDenoising:
        r"""
        Denoise, and report on each sample.

        :param torch.Tensor x: images, as for :meth:`forward`.
        :param torch.Tensor, float weight: :math:`\Lambda`, likewise.
        :param torch.Tensor dual: where to start: the ``dual`` of an earlier result.
        :return: (TVDenoising) images, dual, duality gaps and iterations.
        :raises ValueError: as :meth:`forward`, or if ``dual`` has another shape.
        """
        return weighted_tv_prox(
            x, weight, self.norm, self.tol, self.max_iter, dual, self.on_failure
        )

    def lipschitz_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Lipschitz constant in the :math:`\ell_2` norm, for every weight. The exact
        proximal operator is firmly nonexpansive. What is computed is within
        ``solve(...).error_bound`` of it, which is proved; that it does not expand is
        not.

        :param tuple img_size: size of the images; it does not matter.
        :return: (Bound) estimated, 1.
        """
        return Bound(
            1.0,
            kind=Kind.ESTIMATED,
            source=f"proximal operator, computed to a duality gap of {self.tol:g}",
        )
