"""A convex regulariser with learned filters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from deepinv.optim import Prior
from torch import Tensor, nn

from ...certificates import Bound, Interval, convolution_norm
from ...certificates.bounds import outward
from ...equilibrium.input_checks import check_images
from ...fixed_points.argument_checks import require_count, require_in_range
from ...optim.priors.smooth_proximal import smooth_prox, smooth_prox_error
from .bundled_weights import colours, each_image, load_pretrained, noise_levels
from .oriented_filters import (
    extend_levels,
    normalised_orbit,
    orientation_norm,
    oriented_adjoint,
    oriented_responses,
    random_generators,
)

SIGMA_0 = 0.1


class RidgeRegulariser(Prior):
    r"""
    A convex regulariser that penalises the responses to learned filters,

    .. math::

        \operatorname{R}_\sigma(x) = L \sum_{c, i, p}
        h\bigl(\|(V_i (T x)_c)_p\|_2, t_{ci}(\sigma)\bigr), \qquad
        h(r, t) = \begin{cases} r^2 / 2 & r \leq t, \\
        t r - t^2 / 2 & r > t, \end{cases} \qquad
        t_{ci}(\sigma) = \theta_{ci} \left(\frac{\sigma}{0.1}\right)^q,

    summed over channels :math:`c`, filters :math:`i` and pixels :math:`p`, for images
    in :math:`[0, 1]`. If :math:`\sigma` is a map, the threshold at the pixel :math:`p`
    is :math:`t_{ci}(\sigma_p)`. :math:`V_i` computes the responses to the eight
    rotations and reflections of a filter; their norm does not depend on the orientation
    of the image. :math:`T` is the orthonormal discrete cosine transform of the
    channels, which maps colours to their sum and two opponent colours. We depart from
    the convex ridge regulariser of :footcite:t:`goujon2023neural` in three points:
    groups of filters replace single filters, Huber functions with learned thresholds
    replace splines, and a proved bound of the norm replaces a power iteration. The
    gradient

    .. math::

        \nabla \operatorname{R}_\sigma(x) = L\, T^\top V^\top s_\sigma(V T x), \qquad
        s_\sigma(r)_i = r_i \min\left(1, \frac{t_i(\sigma)}{\|r_i\|_2}\right),

    has a symmetric Jacobian between 0 and :math:`L I` for every image, image size,
    noise level, every map of noise levels and all weights, because :math:`V = W / B`
    with the bound :math:`B \geq \|W\|` of
    :func:`deepinv_equilibrium.certificates.convolution_norm`, and :math:`s_\sigma`
    projects onto balls. The constraint is a parametrisation, and holds after every step
    of an optimiser. The regulariser can be the prior of
    :class:`deepinv_equilibrium.optim.GD` and, through its proximal operator, of the
    other algorithms.

    **Borders.** The image is extended by reflection with repeated edges to the periodic
    image :math:`E x` of period :math:`2H \times 2W`, where :math:`\frac12 E` is an
    isometry :math:`U`; a map of noise levels is extended in the same way. The penalty
    of a periodic image does not change under reflection. Hence the four quadrants of
    :math:`E x` contribute equally, and the sum over the image is a quarter of the sum
    over the period. The Jacobian of the gradient is :math:`U^\top \tilde J U`, where
    :math:`0 \preceq \tilde J \preceq L I` is the Jacobian on periodic images. Every
    filter acts on every pixel, in images smaller than the filter too.

    The filters have mean 0, so that constant images are not penalised.

    :param int in_channels: channels of the images. The bundled weights are for 1
        (grey) and for 3 (colour).
    :param str, pathlib.Path, None pretrained: ``"bundled"``, a path of a
        ``state_dict``, or ``None`` for random weights.
    :param float smoothness: :math:`L > 0`. The regulariser is proportional to
        :math:`L`.
    :param float rtol: tolerance on the relative residual of the solve in :meth:`prox`.
        Default: ``None``, which means ``1e-6``, and ``1e-10`` for images in float64.
        These values are near the rounding error.
    :param int generators: number of filters up to rotation and reflection.
    :param int kernel_size: side of the filters in pixels, odd.
    :param torch.device, str device: device of the weights.
    :raises ValueError: if an argument is out of its range, or no weights are bundled
        for ``in_channels``.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.models import RidgeRegulariser
    >>> prior = RidgeRegulariser()
    >>> prior.grad(torch.rand(2, 1, 20, 30), 0.1).shape
    torch.Size([2, 1, 20, 30])
    >>> print(prior.gradient_bounds().upper)
    <= 59.9998 (certified: filters of norm 1, times L = 60)
    """

    def __init__(
        self,
        in_channels: int = 1,
        pretrained: str | Path | None = "bundled",
        smoothness: float = 60.0,
        rtol: float | None = None,
        generators: int = 6,
        kernel_size: int = 7,
        device: torch.device | str | None = None,
    ) -> None:
        require_count("in_channels", in_channels, 1)
        require_in_range("smoothness", smoothness)
        super().__init__()
        self.explicit_prior = True
        self.in_channels = in_channels
        self.smoothness = float(smoothness)
        self.rtol = rtol
        self.generators = random_generators(generators, 1, kernel_size)
        thresholds = torch.full((in_channels, generators), 0.1 / smoothness)
        self.log_threshold = nn.Parameter(thresholds.log())
        self.log_exponent = nn.Parameter(torch.tensor(2.0).log())
        bundled = f"ridge_{colours(in_channels)}.pt"
        load_pretrained(self, pretrained, bundled, in_channels)
        self.to(device)

    def filters(self) -> Tensor:
        r"""
        Return the normalised filters :math:`V`.

        :return: (:class:`torch.Tensor`) filters of shape ``(8 * generators, 1,
            kernel_size, kernel_size)``, in the dtype of the weights.
        """
        weight = self.generators
        # Rounding changes each entry of W / B by a relative eps at most, and the norm
        # by at most eps times the norm of the absolute values of the filters, which is
        # at most kernel_size. The channel transform T adds a similar error.
        eps = max(torch.finfo(dtype).eps for dtype in (weight.dtype, torch.float32))
        taps = weight.shape[-1] + self.in_channels
        return normalised_orbit(weight, taps * eps)

    def fn(
        self, x: Tensor, sigma_denoiser: Tensor | float, *args: Any, **kwargs: Any
    ) -> Tensor:
        r"""
        Return the value of the regulariser.

        :param torch.Tensor x: images of shape :math:`(B, C, H, W)`, of any size.
        :param torch.Tensor, float sigma_denoiser: noise level :math:`\sigma \geq 0`, in
            the units of ``x``: one for all images; one for each, of shape
            :math:`(B,)` or :math:`(B, 1, 1, 1)`; or a map with one for each pixel, of
            shape :math:`(B, 1, H, W)`, or :math:`(1, 1, H, W)` for all images.
        :return: (:class:`torch.Tensor`) :math:`\operatorname{R}_\sigma(x)`, of shape
            :math:`(B,)`.
        :raises ValueError: if ``x`` is not a batch of real images with ``in_channels``
            channels, or ``sigma_denoiser`` has another shape.
        """
        check_images(x, self.in_channels)
        filters = self.filters().to(x.dtype)
        norm = orientation_norm(oriented_responses(x, filters, filters.shape[-1] // 2))
        levels = noise_levels("sigma_denoiser", sigma_denoiser, x)
        inside = torch.minimum(norm, self._thresholds(levels, x))
        penalty = inside * (norm - inside / 2)
        return self.smoothness * penalty.reshape(len(x), -1).sum(1)

    def grad(
        self, x: Tensor, sigma_denoiser: Tensor | float, *args: Any, **kwargs: Any
    ) -> Tensor:
        r"""
        Return the gradient of the regulariser.

        :param torch.Tensor x: images, as for :meth:`fn`.
        :param torch.Tensor, float sigma_denoiser: noise level, as for :meth:`fn`.
        :return: (:class:`torch.Tensor`) :math:`\nabla \operatorname{R}_\sigma(x)`, of
            the shape of ``x``.
        :raises ValueError: for the same arguments as :meth:`fn`.
        """
        check_images(x, self.in_channels)
        filters = self.filters().to(x.dtype)
        return self._gradient(x, filters, self._extended_thresholds(sigma_denoiser, x))

    def prox(
        self,
        x: Tensor,
        sigma_denoiser: Tensor | float,
        *args: Any,
        gamma: Tensor | float = 1.0,
        **kwargs: Any,
    ) -> Tensor:
        r"""
        Return the converged proximal operator, with its exact gradient; see
        :func:`deepinv_equilibrium.optim.smooth_prox`.

        :param torch.Tensor x: images, as for :meth:`fn`.
        :param torch.Tensor, float sigma_denoiser: noise level, as for :meth:`fn`.
        :param torch.Tensor, float gamma: :math:`\gamma \geq 0`, one number for all
            images or one for each. Default: 1.
        :return: (:class:`torch.Tensor`) the proximal operator up to :meth:`prox_error`.
            A :class:`~deepinv_equilibrium.ConvergenceWarning` is issued if ``rtol`` is
            not met.
        :raises ValueError: for the same arguments as :meth:`fn`, or if ``gamma`` is
            negative or not finite.
        """
        check_images(x, self.in_channels)
        filters = self.filters().to(x.dtype)
        thresholds = self._extended_thresholds(sigma_denoiser, x)
        return smooth_prox(
            lambda z: self._gradient(z, filters, thresholds),
            x,
            each_image("gamma", gamma, x),
            self.smoothness,
            self.rtol,
        )

    @torch.no_grad()
    def prox_error(
        self,
        prox: Tensor,
        x: Tensor,
        sigma_denoiser: Tensor | float,
        gamma: Tensor | float = 1.0,
    ) -> Tensor:
        r"""
        Return a bound of the distance of a computed proximal operator from the exact
        one; see :func:`deepinv_equilibrium.optim.smooth_prox_error`.

        :param torch.Tensor prox: :math:`z`, e.g. the value of :meth:`prox`.
        :param torch.Tensor x: images, as for :meth:`prox`.
        :param torch.Tensor, float sigma_denoiser: noise level, as for :meth:`fn`.
        :param torch.Tensor, float gamma: :math:`\gamma`, as for :meth:`prox`.
        :return: (:class:`torch.Tensor`) bounds of :math:`\|z -
            \operatorname{prox}_{\gamma \operatorname{R}_\sigma}(x)\|_2` in float64, of
            shape :math:`(B,)`.
        """
        # The weights and noise levels that were applied are rounded to the dtype of x.
        filters = self.filters().to(x.dtype).double()
        thresholds = self._extended_thresholds(sigma_denoiser, x).double()
        return smooth_prox_error(
            lambda z: self._gradient(z, filters, thresholds),
            prox,
            x,
            each_image("gamma", gamma, x),
            self.smoothness,
        )

    @torch.no_grad()
    def gradient_bounds(self, img_size: tuple[int, ...] | None = None) -> Interval:
        r"""
        Return bounds of the symmetric Jacobian of :meth:`grad` for all images, noise
        levels and maps of noise levels.

        They are computed in float64 from the filters that are applied.

        :param tuple img_size: size of the images; the bounds hold for every size.
        :return: (Interval) from 0 to :math:`L`, certified.
        """
        norm = float(convolution_norm(self.filters().double()))
        source = f"filters of norm {norm:.4g}, times L = {self.smoothness:g}"
        return Interval(
            Bound(0.0, source="a convex function", is_lower=True),
            Bound(outward(self.smoothness * norm**2), source=source),
        )

    def _gradient(self, x: Tensor, filters: Tensor, thresholds: Tensor) -> Tensor:
        responses = oriented_responses(x, filters, filters.shape[-1] - 1)
        scale = thresholds / torch.maximum(orientation_norm(responses), thresholds)
        pull = oriented_adjoint(responses * scale, filters, x.shape)
        return self.smoothness * pull

    def _extended_thresholds(self, sigma: Tensor | float, x: Tensor) -> Tensor:
        """Return the thresholds for the responses in :meth:`_gradient`."""
        levels = noise_levels("sigma_denoiser", sigma, x)
        return self._thresholds(extend_levels(levels, self.generators.shape[-1]), x)

    def _thresholds(self, levels: Tensor, x: Tensor) -> Tensor:
        """Return the thresholds for noise levels, one or P for each image, of shape
        (B * C, 1, generators, 1) or (B * C, 1, generators, P)."""
        tiny = torch.finfo(x.dtype).tiny
        level = levels.expand(len(x), -1, -1, -1).flatten(2)[:, :, None]
        level = (level / SIGMA_0).clamp_min(tiny)
        log_threshold = self.log_threshold.to(x.dtype)[None, :, :, None]
        exponent = self.log_exponent.exp().to(x.dtype)
        thresholds = (log_threshold + exponent * level.log()).exp()
        # The projection divides by the thresholds, and their squares must not be 0.
        return thresholds.clamp_min(tiny**0.5).flatten(0, 1)[:, None]

    def extra_repr(self) -> str:
        """Return the sizes and the smoothness."""
        generators, _, size, _ = self.generators.shape
        return (
            f"in_channels={self.in_channels}, smoothness={self.smoothness:g}, "
            f"generators={generators}, kernel_size={size}"
        )
