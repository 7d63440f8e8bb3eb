"""A prior of grey images, applied to each channel of an image."""

from __future__ import annotations

from typing import Any

from deepinv.optim import Prior
from torch import Tensor

from ...certificates import Interval, UncertifiableModuleError
from ...certificates.declarations import declares, undeclared


class ChannelwisePrior(Prior):
    r"""
    The sum of a prior over the channels of an image,

    .. math::

        g(x) = \sum_{c=1}^{C} g_1(x_c), \qquad
        \operatorname{prox}_{\gamma g}(x)_c = \operatorname{prox}_{\gamma g_1}(x_c),

    for a prior :math:`g_1` of images with one channel. The Hessian is block diagonal,
    so that bounds of the curvature of :math:`g_1` hold for :math:`g`.

    With a grey :class:`~deepinv_equilibrium.models.RidgeRegulariser` it regularises the
    real and the imaginary part of images of magnetic resonance, which are two channels,
    or the bands of a spectrum, for which no weights are bundled. It does not use that
    channels resemble each other.

    :param deepinv.optim.Prior prior: :math:`g_1`, which treats the images of a batch
        alike.
    :raises TypeError: if ``prior`` is not a prior.

    |sep|

    :Example:

    >>> import torch, deepinv_equilibrium as deq
    >>> prior = deq.optim.ChannelwisePrior(deq.models.RidgeRegulariser())
    >>> prior.grad(torch.rand(3, 2, 20, 30), 0.1).shape
    torch.Size([3, 2, 20, 30])
    """

    def __init__(self, prior: Prior) -> None:
        if not isinstance(prior, Prior):
            raise TypeError(
                f"prior must be a deepinv.optim.Prior, got {type(prior).__name__}."
            )
        super().__init__()
        self.prior = prior
        self.explicit_prior = prior.explicit_prior

    @property
    def rtol(self) -> float | None:
        """The tolerance of the proximal operator of the prior, if it has one."""
        rtol: float | None = getattr(self.prior, "rtol", None)
        return rtol

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        Evaluate the prior.

        :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
        :param args: parameters of the prior of one channel; a tensor of length
            :math:`B` has one entry for each image.
        :return: (:class:`torch.Tensor`) :math:`g(x)`, of shape :math:`(B,)`.
        """
        args, kwargs = self._for_channels(x, args, kwargs)
        values: Tensor = self.prior.fn(_as_grey(x), *args, **kwargs)
        return values.reshape(x.shape[:2]).sum(1)

    def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        Evaluate the gradient.

        :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
        :param args: parameters, as for :meth:`fn`.
        :return: (:class:`torch.Tensor`) :math:`\nabla g(x)`, of the shape of ``x``.
        """
        args, kwargs = self._for_channels(x, args, kwargs)
        gradient: Tensor = self.prior.grad(_as_grey(x), *args, **kwargs)
        return gradient.reshape(x.shape)

    def prox(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        Evaluate the proximal operator.

        :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
        :param args: parameters, as for :meth:`fn`, and ``gamma``, by its name.
        :return: (:class:`torch.Tensor`) the images, of the shape of ``x``.
        """
        args, kwargs = self._for_channels(x, args, kwargs)
        value: Tensor = self.prior.prox(_as_grey(x), *args, **kwargs)
        return value.reshape(x.shape)

    def gradient_bounds(self, img_size: tuple[int, ...]) -> Interval:
        r"""
        Return bounds of the Hessian, those of the prior of one channel.

        :param tuple img_size: size of the images, :math:`(C, H, W)`.
        :return: (Interval) bounds of the eigenvalues.
        :raises UncertifiableModuleError: if the prior of one channel declares none.
        """
        prior: Any = self.prior
        if not declares(prior, "gradient_bounds", "grad", "fn", "prox"):
            reason = f"{undeclared(prior, 'gradient_bounds')} (gradient_bounds)."
            raise UncertifiableModuleError(prior, reason, self)
        bounds: Interval = prior.gradient_bounds((1, *img_size[1:]))
        return bounds

    @staticmethod
    def _for_channels(
        x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Repeat parameters that images have of their own for each channel."""
        batch, channels = x.shape[:2]

        def repeated(value: Any) -> Any:
            if isinstance(value, Tensor) and value.ndim and len(value) == batch:
                return value.repeat_interleave(channels, 0)
            return value

        return tuple(map(repeated, args)), {k: repeated(v) for k, v in kwargs.items()}


def _as_grey(x: Tensor) -> Tensor:
    """Return each channel as an image of a batch."""
    return x.flatten(0, 1).unsqueeze(1)
