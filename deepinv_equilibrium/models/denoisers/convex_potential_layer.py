"""A layer that is one step down the gradient of a convex potential."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ...certificates import convolution_norm
from .bounded_convolution import WeightVersion, has_version
from .oriented_filters import extend_by_reflection, normalised_orbit, random_generators


class ConvexPotentialLayer(nn.Module):
    r"""
    One step down the gradient of a convex potential, nonexpansive whatever its weights.

    .. math::

        T_\sigma(x) = x - \lambda V^\top s_\sigma(V x), \qquad
        V = W / B, \quad B \geq \|W\|, \qquad
        s_\sigma(v) = v \min\left(1, \frac{\theta_\sigma}{\|v\|_2}\right), \quad
        \theta_\sigma = \theta \sigma^{p}.

    At each pixel :math:`s_\sigma` projects the vector of all filter responses onto a
    ball: it is the gradient of a Huber function of their norm. Its Jacobian is
    symmetric, between 0 and :math:`I`, so that of the layer is symmetric, between
    :math:`(1 - \lambda) I` and :math:`I`, at every image. With :math:`\lambda = 1` the
    layer is firmly nonexpansive, with :math:`\lambda = 2` it is the reflection
    :math:`2 T - I` of such a layer. These are the convex potential layers of
    :footcite:t:`meunier2022dynamical`, which have :math:`\lambda = 2`, rectified units
    for :math:`s` and a power iteration for :math:`\|W\|`, which is no bound.

    :math:`B` is :func:`deepinv_equilibrium.certificates.convolution_norm`, computed
    from the weights as they are: the constraint is a parametrisation, which no step of
    an optimiser can leave.

    **Borders.** The image is extended by reflection, edges repeated, to the image
    :math:`E x` of period :math:`2H \times 2W`, and the layer is applied to that. For
    each filter of :math:`W` its mirror images are filters too, and the norm of the
    responses does not depend on their order; so the layer on periodic images commutes
    with reflections, and its output is :math:`E` of an image. As :math:`\frac12 E` is
    an isometry :math:`U`, the Jacobian at :math:`x` is :math:`U^\top J U`, with
    :math:`J` the one at :math:`E x` of the layer on periodic images: the same bounds
    hold, and every pixel sees every filter, at every image size.

    The filters are the eight rotations and reflections of ``generators``, without their
    means over each channel: adding a constant to a channel of the image adds it to that
    of the output.

    :param int channels: channels of the images.
    :param int generators: number of filters up to rotation and reflection.
    :param int kernel_size: side of the filters, odd.
    :param float relaxation: :math:`\lambda`, in (0, 2].
    :raises ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        channels: int,
        generators: int = 4,
        kernel_size: int = 5,
        relaxation: float = 1.0,
    ) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}.")
        if not 0 < relaxation <= 2:
            raise ValueError(f"relaxation must be in (0, 2], got {relaxation}.")
        self.relaxation = float(relaxation)
        self.generators = random_generators(generators, channels, kernel_size)
        # A quarter of the largest response to unit noise, at the exponent 1.
        start = math.log(0.25 * math.sqrt(channels))
        self.log_threshold = nn.Parameter(torch.tensor(start))
        self.log_exponent = nn.Parameter(torch.tensor(0.0))
        self._kept: tuple[WeightVersion, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Copied or pickled filters would outlive the weights that they belong to.
        return self.__dict__ | {"_kept": None}

    def filters(self) -> Tensor:
        r"""
        The normalised filters :math:`V`.

        They are computed anew when a gradient may pass through them, and otherwise
        whenever the weights have changed.

        :return: (:class:`torch.Tensor`) of shape ``(8 * generators, channels,
            kernel_size, kernel_size)`` and the dtype of the weights.
        """
        weight = self.generators
        if not has_version(weight) or (
            torch.is_grad_enabled() and weight.requires_grad
        ):
            return self._normalised_filters()
        if self._kept is None or not self._kept[0].is_that_of(weight):
            # They outlive the mode in which the layer is first applied.
            with torch.inference_mode(False), torch.no_grad():
                self._kept = WeightVersion(weight), self._normalised_filters()
        return self._kept[1]

    def _normalised_filters(self) -> Tensor:
        weight = self.generators
        # Rounding moves each entry of W / B by a relative eps at most, and the norm by
        # that of the filters' absolute values, at most kernel_size * channels.
        taps = weight.shape[-1] * weight.shape[1]
        return normalised_orbit(weight, taps * torch.finfo(weight.dtype).eps)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        r"""
        Apply the layer.

        :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
        :param torch.Tensor sigma: noise levels of shape :math:`(B, 1, 1, 1)`.
        :return: (:class:`torch.Tensor`) of the shape of ``x``.
        """
        filters = self.filters().to(x.dtype)
        extended = extend_by_reflection(x, filters.shape[-1] - 1)
        responses = conv2d(extended, filters)
        norm = torch.linalg.vector_norm(responses, dim=1, keepdim=True)
        limits = torch.finfo(x.dtype)
        log_level = sigma.clamp_min(limits.tiny).log()
        threshold = (self.log_threshold + self.log_exponent.exp() * log_level).exp()
        threshold = threshold.to(x.dtype).clamp(limits.tiny, limits.max)
        projected = responses * (threshold / torch.maximum(norm, threshold))
        # V^T on the extended image: correlation with the filters turned about.
        adjoint = filters.flip(-2, -1).transpose(0, 1)
        return x - self.relaxation * conv2d(projected, adjoint)

    def norm(self) -> float:
        r"""
        Certified upper bound of :math:`\|V\|`, from the filters that are applied.

        :return: (float) it is at most 1.
        """
        with torch.no_grad():
            return float(convolution_norm(self.filters().double()))

    def extra_repr(self) -> str:
        """Show the sizes."""
        generators, channels, kernel_size, _ = self.generators.shape
        return (
            f"channels={channels}, generators={generators}, "
            f"kernel_size={kernel_size}, relaxation={self.relaxation}"
        )
