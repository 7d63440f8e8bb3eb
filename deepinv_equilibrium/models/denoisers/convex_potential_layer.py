"""A layer that makes one gradient step on a convex potential."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ...certificates import convolution_norm
from ...fixed_points.argument_checks import require_count
from .oriented_filters import centred_orbit, random_generators
from .reflected_borders import extend_by_reflection, extend_levels
from .weight_bounds import WeightBound
from .weight_copies import WeightCopy


class ConvexPotentialLayer(nn.Module):
    r"""
    One gradient step on a convex potential, nonexpansive for all weights,

    .. math::

        T_\sigma(x) = x - \lambda V^\top s_\sigma(V x), \qquad
        V = W / B, \quad B \geq \|W\|, \qquad
        s_\sigma(v) = v \min\left(1, \frac{\theta_\sigma}{\|v\|_2}\right), \quad
        \theta_\sigma = \theta \sigma^{p}.

    At each pixel, :math:`s_\sigma` projects the vector of all filter responses onto a
    ball, whose radius depends on the noise level at this pixel if :math:`\sigma` is a
    map. :math:`s_\sigma` is the gradient of a Huber function of the norm of the
    responses, and its Jacobian is symmetric, between 0 and :math:`I`. Hence the
    Jacobian of the layer is symmetric, between :math:`(1 - \lambda) I` and :math:`I`,
    at every image, for every noise level and every map of noise levels. With
    :math:`\lambda = 1` the layer is firmly nonexpansive; with :math:`\lambda = 2` it is
    the reflection :math:`2 T - I` of such a layer. The convex potential layers of
    :footcite:t:`meunier2022dynamical` have :math:`\lambda = 2`, rectified units for
    :math:`s`, and a power iteration for :math:`\|W\|`, which does not bound the norm.

    :func:`deepinv_equilibrium.certificates.convolution_norm` computes :math:`B` from
    the current weights. The constraint is a parametrisation, and holds after every step
    of an optimiser.

    **Borders.** The layer is applied to the image :math:`E x` of period :math:`2H
    \times 2W`, which extends :math:`x` by reflection with repeated edges; a map of
    noise levels is extended in the same way. The mirror images of each filter of
    :math:`W` are filters of :math:`W` too, and the norm of the responses does not
    depend on their order. So the layer on periodic images commutes with reflections,
    and its output is :math:`E` of an image. Since :math:`\frac12 E` is an isometry
    :math:`U`, the Jacobian at :math:`x` is :math:`U^\top J U`, where :math:`J` is the
    Jacobian at :math:`E x` of the layer on periodic images. Therefore the bounds hold
    for every image size, and every filter acts on every pixel.

    The filters are the eight rotations and reflections of ``generators``, from which
    the mean over each channel is subtracted. If a constant is added to a channel of the
    image, it is added to that channel of the output.

    :param int channels: channels of the images.
    :param int generators: number of filters up to rotation and reflection.
    :param int kernel_size: side of the filters in pixels, odd.
    :param float relaxation: :math:`\lambda`, in (0, 2].
    :raises ValueError: if an argument is out of its range.
    """

    run_state = frozenset(("_bound", "_filters"))  # certificates do not cover it

    def __init__(
        self,
        channels: int,
        generators: int = 4,
        kernel_size: int = 5,
        relaxation: float = 1.0,
    ) -> None:
        super().__init__()
        require_count("channels", channels, 1)
        if not 0 < relaxation <= 2:
            raise ValueError(f"relaxation must be in (0, 2], got {relaxation}.")
        self.relaxation = float(relaxation)
        self.generators = random_generators(generators, channels, kernel_size)
        # A quarter of the largest response to noise of variance 1, for the exponent 1.
        start = math.log(0.25 * math.sqrt(channels))
        self.log_threshold = nn.Parameter(torch.tensor(start))
        self.log_exponent = nn.Parameter(torch.tensor(0.0))
        self._bound = WeightBound(_norm_bound)
        # A bound, and the filters that were divided by it.
        self._filters: tuple[Tensor, Tensor] | None = None

    @property
    def weight_copies(self) -> list[tuple[WeightCopy, nn.Parameter]]:
        """The copy of the weights whose bound is known, if there is one, with the
        weights."""
        return self._bound.copies(self.generators)

    def filters(self) -> Tensor:
        r"""
        Return the normalised filters :math:`V`.

        :return: (:class:`torch.Tensor`) filters of shape ``(8 * generators, channels,
            kernel_size, kernel_size)``, in the dtype of the weights.
        """
        bound = self._bound(self.generators)
        if torch.is_grad_enabled():
            return centred_orbit(self.generators) / bound
        # The bound is the same tensor as long as the weights have the same values.
        if self._filters is None or self._filters[0] is not bound:
            self._filters = bound, centred_orbit(self.generators) / bound
        return self._filters[1]

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        r"""
        Apply the layer.

        :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
        :param torch.Tensor sigma: noise levels of shape :math:`(B, 1, 1, 1)`, or maps
            of shape :math:`(B, 1, H, W)`.
        :return: (:class:`torch.Tensor`) images of the shape of ``x``.
        """
        filters = self.filters().to(x.dtype)
        kernel_size = filters.shape[-1]
        extended = extend_by_reflection(x, kernel_size - 1)
        responses = conv2d(extended, filters)
        norm = torch.linalg.vector_norm(responses, dim=1, keepdim=True)
        limits = torch.finfo(x.dtype)
        log_level = sigma.clamp_min(limits.tiny).log()
        threshold = (self.log_threshold + self.log_exponent.exp() * log_level).exp()
        threshold = threshold.to(x.dtype).clamp(limits.tiny, limits.max)
        threshold = extend_levels(threshold, kernel_size)
        projected = responses * (threshold / torch.maximum(norm, threshold))
        # V^T on the extended image is the correlation with the flipped filters.
        adjoint = filters.flip(-2, -1).transpose(0, 1)
        return x - self.relaxation * conv2d(projected, adjoint)

    def norm(self) -> float:
        r"""
        Return a certified upper bound of the norm :math:`\|V\|` of the filters that are
        applied.

        :return: (float) the bound, which is at most 1.
        """
        with torch.no_grad():
            return float(convolution_norm(self.filters().double()))

    def extra_repr(self) -> str:
        """Return the sizes of the filters and the relaxation."""
        generators, channels, kernel_size, _ = self.generators.shape
        return (
            f"channels={channels}, generators={generators}, "
            f"kernel_size={kernel_size}, relaxation={self.relaxation}"
        )


def _norm_bound(generators: Tensor) -> Tensor:
    # Rounding changes each entry of W / B by a relative eps at most, and the norm by at
    # most eps times the norm of the absolute values of the filters, which is at most
    # kernel_size * channels.
    limits = torch.finfo(generators.dtype)
    rounding = generators.shape[-1] * generators.shape[1] * limits.eps
    bound = convolution_norm(centred_orbit(generators)) * (1 + 2 * rounding)
    return bound.clamp_min(limits.tiny).to(generators.dtype)
