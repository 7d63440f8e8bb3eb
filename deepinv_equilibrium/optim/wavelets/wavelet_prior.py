"""The weighted wavelet norm as a prior of deepinv."""

from __future__ import annotations

import math
from typing import Any

import torch
from deepinv.optim import Prior
from torch import Tensor, nn

from ...certificates import Bound
from ...fixed_points.argument_checks import require_count, require_number
from .group_proximal import group_prox
from .wavelet_transform import WaveletTransform

# Keeps theta and its square within the range of float32 for every step of training.
_LARGEST_LOGARITHM = 20.0


class WeightedWaveletPrior(Prior):
    r"""
    The group norm :math:`\|\theta D x\|_{1,2}` of wavelet coefficients with trained
    weights, equations (43) to (45) of :footcite:t:`davy2025restarted`.

    There is one weight for each scale :math:`j` and orientation :math:`b`
    (``channels=None``, :math:`\theta_B`, 7 numbers for 4 scales), or for each scale,
    orientation and channel :math:`c` (``channels=3``, :math:`\theta_{B, C}`, 13
    numbers):

    .. math::

        \operatorname{R}_{\theta_B}(x) = \sum_j \lambda_j \sum_{k, c} \Bigl(\sum_b
        \Lambda_b (D x)_{j, k, b, c}^2\Bigr)^{1/2}, \qquad
        \operatorname{R}_{\theta_{B, C}}(x) = \sum_j \lambda_j \sum_k \Bigl(\sum_{b, c}
        \Lambda_{b, c} (D x)_{j, k, b, c}^2\Bigr)^{1/2},

    A group is the coefficients of all orientations, and in the second form of all
    channels, at a position :math:`k`. The weight of a coefficient is
    :math:`\theta = \lambda_j \sqrt{\Lambda_{b, c}}`. The approximation is not
    penalised. :math:`D` is
    :class:`~deepinv_equilibrium.optim.wavelets.WaveletTransform`. The logarithms of
    :math:`\lambda` and :math:`\Lambda` are learned, within :math:`\pm 20`.

    :param int, None channels: number of channels of the images; each channel has
        weights, and groups extend over all channels. Default: ``None``, for images with
        any number of channels, which share their weights and form separate groups.
    :param str wavelet: name of an orthonormal wavelet of PyWavelets. Default:
        ``"db4"``.
    :param int levels: number of scales. Default: 4.
    :param float initial_weight: initial value of the :math:`\lambda_j`, in the unit of
        the images; :math:`\Lambda` starts at 1. Default: 0.1.
    :raises ValueError: if an argument is out of range.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.optim import WeightedWaveletPrior
    >>> prior, x = WeightedWaveletPrior(channels=3), torch.rand(2, 3, 24, 31)
    >>> sum(p.numel() for p in prior.parameters())
    13
    >>> prior(x).shape, prior.prox(x, gamma=0.5).shape
    (torch.Size([2]), torch.Size([2, 3, 24, 31]))
    """

    #: The proximal operator of every convex function is firmly nonexpansive.
    is_firmly_nonexpansive = True

    def __init__(
        self,
        channels: int | None = None,
        wavelet: str = "db4",
        levels: int = 4,
        initial_weight: float = 0.1,
    ) -> None:
        super().__init__()
        if channels is not None:
            require_count("channels", channels, 1)
        require_number("initial_weight", initial_weight)
        if not 0 < initial_weight < math.inf:
            raise ValueError(
                f"initial_weight must be positive and finite, got {initial_weight!r}."
            )
        self.explicit_prior = True
        self.channels = channels
        self.transform = WaveletTransform(wavelet, levels)
        self.log_scale = nn.Parameter(torch.full((levels,), math.log(initial_weight)))
        self.log_band = nn.Parameter(torch.zeros(channels or 1, 3))

    @property
    def group(self) -> tuple[int, ...]:
        """The axes of the details, of shape (B, C, 3, h, w), that form a group."""
        return (2,) if self.channels is None else (1, 2)

    def weights(self, like: Tensor) -> tuple[Tensor, ...]:
        r"""
        Return the weights of the details, from the coarsest scale to the finest.

        :param torch.Tensor like: a tensor with the dtype and device of the weights.
        :return: (tuple) :math:`\theta > 0` of each scale, of shape
            :math:`(1, C, 3, 1, 1)`; the axis of channels has length 1 if they share
            their weights.
        """
        scale, band = (
            log.to(like).clamp(-_LARGEST_LOGARITHM, _LARGEST_LOGARITHM)
            for log in (self.log_scale, self.log_band)
        )
        theta = (scale[:, None, None] + band / 2).exp()
        return tuple(theta[:, None, :, :, None, None].unbind())

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        Evaluate the prior.

        :param torch.Tensor x: real images of shape :math:`(B, C, H, W)`, in single or
            double precision.
        :return: (:class:`torch.Tensor`) :math:`\operatorname{R}_\theta(x)`, of shape
            :math:`(B,)`.
        :raises TypeError: if ``x`` is not a tensor of such a dtype.
        :raises ValueError: if ``x`` has another shape or number of channels.
        """
        self.check_channels(x)
        _, *details = self.transform.analysis(x)
        norms = [
            torch.linalg.vector_norm(theta * detail, dim=self.group)
            for theta, detail in zip(self.weights(x), details, strict=True)
        ]
        return torch.stack([norm.flatten(1).sum(1) for norm in norms]).sum(0)

    def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        Raise: the norm has no gradient.

        :raises ValueError: always.
        """
        raise ValueError(
            "the wavelet norm has no gradient: use an algorithm with proximal steps on "
            "the prior (PGD, HQS, ADMM, DRS, FISTA)."
        )

    def prox(
        self, x: Tensor, *args: Any, gamma: Tensor | float = 1.0, **kwargs: Any
    ) -> Tensor:
        r"""
        Evaluate the proximal operator exactly, with its exact gradient.

        As :math:`D` is orthonormal, it acts on each group of coefficients separately,
        equations (46) to (48):
        :func:`~deepinv_equilibrium.optim.wavelets.group_prox`, a soft threshold if the
        weights of a group are equal.

        :param torch.Tensor x: real images of shape :math:`(B, C, H, W)`, in single or
            double precision.
        :param torch.Tensor, float gamma: :math:`\gamma \geq 0`, a number or one number
            an image.
        :return: (:class:`torch.Tensor`)
            :math:`\operatorname{prox}_{\gamma \operatorname{R}_\theta}(x)`.
        :raises TypeError: if ``x`` is not a tensor of such a dtype.
        :raises ValueError: if ``x`` has another shape or number of channels, or
            ``gamma`` is negative or does not fit.
        """
        self.check_channels(x)
        gamma = _as_gamma(gamma, x)
        approximation, *details = self.transform.analysis(x)
        shrunk = [
            group_prox(detail, theta, gamma, self.group)
            for theta, detail in zip(self.weights(x), details, strict=True)
        ]
        return self.transform.synthesis((approximation, *shrunk), x.shape[-2:])

    def check_channels(self, x: Tensor) -> None:
        r"""
        Raise unless images have the number of channels that the prior has weights for.

        :param torch.Tensor x: the images.
        :raises ValueError: if they have another number of channels.
        """
        if self.channels is not None and x.shape[1:2] != (self.channels,):
            raise ValueError(
                f"this WeightedWaveletPrior has weights for channels={self.channels}, "
                f"got images of shape {tuple(x.shape)}; build it with their number of "
                "channels, or with channels=None for the same weights for all."
            )

    def lipschitz_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Return the Lipschitz constant of :meth:`prox`, for all weights.

        :param tuple img_size: size of the images. The bound holds for every size.
        :return: (Bound) 1, certified.
        """
        return Bound(1.0, source="exact proximal operator of a convex function")

    def extra_repr(self) -> str:
        """Return the arguments of the constructor."""
        return (
            f"channels={self.channels}, wavelet={self.transform.wavelet!r}, "
            f"levels={self.transform.levels}"
        )


def _as_gamma(gamma: Tensor | float, x: Tensor) -> Tensor:
    """Return gamma with the axes of the details."""
    given = torch.as_tensor(gamma, dtype=x.dtype, device=x.device)
    if given.numel() not in (1, len(x)) or not bool((given >= 0).all()):
        raise ValueError(
            f"gamma must be a nonnegative number, or one for each of the {len(x)} "
            f"images, got {gamma!r}."
        )
    return given.reshape(-1, 1, 1, 1, 1)
