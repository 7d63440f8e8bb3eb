"""The proximal operator of a learned convex regulariser as a denoiser."""

from __future__ import annotations

from pathlib import Path

import torch
from deepinv.models import Denoiser
from torch import Tensor

from ...certificates import Bound, Kind
from ...certificates.bounds import outward
from ...fixed_points.argument_checks import require_number
from .ridge_regulariser import RidgeRegulariser


class RidgeProxDenoiser(Denoiser):
    r"""
    The converged proximal operator of a learned convex regulariser, which is firmly
    nonexpansive or strictly contractive for all weights,

    .. math::

        \operatorname{D}(x, \sigma) = \tfrac12 + c \left(
        \operatorname{prox}_{\operatorname{R}_\sigma}(x) - \tfrac12 \right), \qquad
        \operatorname{prox}_{\operatorname{R}_\sigma}(x) = \operatorname*{arg\,min}_z
        \tfrac12 \|z - x\|^2 + \operatorname{R}_\sigma(z),

    for images in :math:`[0, 1]`. The regulariser :math:`\operatorname{R}_\sigma` is a
    :class:`~deepinv_equilibrium.models.RidgeRegulariser` of smoothness :math:`L`. The
    Jacobian of :math:`\operatorname{D}` is symmetric, between :math:`\frac{c}{1 + L} I`
    and :math:`c I`, for every image, image size, noise level, every map of noise levels
    and all weights. With ``contraction`` :math:`c < 1` the denoiser contracts towards
    mid-grey, which changes images least.

    **These bounds are proved for the exact proximal operator only.** A truncated solve
    need not be nonexpansive. Each image is solved until its relative residual is near
    the rounding error of its dtype; :meth:`error_bound` certifies the distance of the
    result from the exact proximal operator, and a solve that does not converge warns.
    The gradient is the implicit one, to the same tolerance. A larger ``rtol`` saves
    time, e.g. in training; the denoiser then declares its bounds as estimated, and no
    rate is certified from them.

    The bundled weights were trained by ``python
    gallery/training/ridge_prox_denoiser.py`` on the training photos of
    :class:`deepinv_equilibrium.datasets.Photos`. PSNR in dB on held-out grey photos
    (256 x 256 pixels in the centre, including the borders; total variation at the
    strength :math:`0.65 \sigma`):

    ======================= ======= ====== ===== ===== =====
    :math:`255 \sigma`      chelsea retina coins moon  page
    ======================= ======= ====== ===== ===== =====
    15                      30.76   38.44  29.69 36.90 28.81
    15, total variation     30.13   37.52  29.47 36.20 28.46
    25                      28.67   35.97  27.26 34.70 25.57
    25, total variation     27.97   33.67  27.05 32.87 25.26
    ======================= ======= ====== ===== ===== =====

    ``gallery/training/compare_denoisers.py`` compares more denoisers.

    :param int in_channels: channels of the images. The bundled weights are for 1
        (grey) and for 3 (colour).
    :param float contraction: :math:`c`, in (0, 1].
    :param str, pathlib.Path, None pretrained: ``"bundled"``, a path of a
        ``state_dict``, or ``None`` for random weights.
    :param float smoothness: :math:`L > 0`. The bundled weights were trained with the
        default value.
    :param float rtol: tolerance of the solve, see
        :class:`~deepinv_equilibrium.models.RidgeRegulariser`.
    :param int generators: number of filters up to rotation and reflection.
    :param int kernel_size: side of the filters in pixels, odd.
    :param torch.device, str device: device of the weights.
    :raises ValueError: if an argument is out of its range, or no weights are bundled
        for ``in_channels``.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium import lipschitz
    >>> from deepinv_equilibrium.models import RidgeProxDenoiser
    >>> denoiser, x = RidgeProxDenoiser(contraction=0.99), torch.rand(1, 1, 37, 50)
    >>> with torch.no_grad():
    ...     denoised = denoiser(x, sigma=0.1)
    >>> print(lipschitz(denoiser))
    <= 0.99 (certified: exact proximal operator of a convex function, times 0.99)
    >>> bool(denoiser.error_bound(denoised, x, sigma=0.1) < 1e-3)
    True
    """

    def __init__(
        self,
        in_channels: int = 1,
        contraction: float = 1.0,
        pretrained: str | Path | None = "bundled",
        smoothness: float = 60.0,
        rtol: float | None = None,
        generators: int = 6,
        kernel_size: int = 7,
        device: torch.device | str | None = None,
    ) -> None:
        require_number("contraction", contraction)
        if not 0 < contraction <= 1:
            raise ValueError(f"contraction must be in (0, 1], got {contraction!r}.")
        super().__init__(device="cpu")
        self.contraction = float(contraction)
        self.regulariser = RidgeRegulariser(
            in_channels,
            pretrained,
            smoothness,
            rtol,
            generators,
            kernel_size,
            device,
        )
        if pretrained is not None:
            self.eval()

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        r"""
        Denoise a batch of images.

        :param torch.Tensor x: noisy images of shape :math:`(B, C, H, W)`, of any size.
        :param torch.Tensor, float sigma: noise level, in the units of ``x``: one for
            all images; one for each, of shape :math:`(B,)` or :math:`(B, 1, 1, 1)`; or
            a map with one for each pixel, of shape :math:`(B, 1, H, W)`, or
            :math:`(1, 1, H, W)` for all images. At 0 the images are only contracted.
        :return: (:class:`torch.Tensor`) denoised images, of the shape of ``x``.
        :raises ValueError: if ``x`` is not a batch of real images with ``in_channels``
            channels, or ``sigma`` has another shape.
        """
        prox = self.regulariser.prox(x, sigma)
        if self.contraction == 1:
            return prox
        return 0.5 + self.contraction * (prox - 0.5)

    def error_bound(self, denoised: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
        r"""
        Return a certified bound :math:`e` of the distance of a result from the exact
        denoiser. Two computed results satisfy :math:`\|\operatorname{D}(x_1) -
        \operatorname{D}(x_2)\| \leq c \|x_1 - x_2\| + e_1 + e_2`.

        :param torch.Tensor denoised: the result of the denoiser, or any other images.
        :param torch.Tensor x: noisy images.
        :param torch.Tensor, float sigma: noise level, as for :meth:`forward`.
        :return: (:class:`torch.Tensor`) a bound of the :math:`\ell_2` distance for each
            image, in float64, of shape :math:`(B,)`.
        """
        prox = 0.5 + (denoised.double() - 0.5) / self.contraction
        return self.contraction * self.regulariser.prox_error(prox, x, sigma)

    @property
    def is_firmly_nonexpansive(self) -> bool:
        """Whether the denoiser is proved to be firmly nonexpansive. The proof is for
        the exact proximal operator, and not for a user-defined tolerance ``rtol``."""
        return self.regulariser.rtol is None

    def lipschitz_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Return a Lipschitz constant of the exact :math:`x \mapsto \operatorname{D}(x,
        \sigma)` in the :math:`\ell_2` norm, which holds for every noise level and every
        map of noise levels. :meth:`error_bound` bounds the distance of the computed
        denoiser from the exact one.

        :param tuple img_size: size of the images; the bound holds for every size.
        :return: (Bound) :math:`c`, certified, or estimated if ``rtol`` is given.
        """
        source = "exact proximal operator of a convex function"
        if self.contraction == 1:
            return self._bound(1.0, source)
        source += f", times {self.contraction:g}"
        return self._bound(outward(self.contraction), source)

    def residual_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Return a Lipschitz constant of the exact :math:`\operatorname{D} - I` in the
        :math:`\ell_2` norm, which holds for every noise level and every map of noise
        levels. The Jacobian of :math:`\operatorname{D} - I` is between
        :math:`(\frac{c}{1 + L} - 1) I` and :math:`(c - 1) I`.

        :param tuple img_size: size of the images; the bound holds for every size.
        :return: (Bound) :math:`1 - \frac{c}{1 + L}`, certified, or estimated if
            ``rtol`` is given.
        """
        smoothness = self.regulariser.gradient_bounds(img_size).upper.value
        source = f"proximal operator of a function of smoothness {smoothness:.4g}"
        return self._bound(outward(1 - self.contraction / (1 + smoothness)), source)

    def _bound(self, value: float, source: str) -> Bound:
        """Return a bound for the exact map; it is estimated if a tolerance is given,
        because the computed map is then another one."""
        rtol = self.regulariser.rtol
        if rtol is None:
            return Bound(value, source=source)
        source += f"; the computed one only has rtol = {rtol:g}"
        return Bound(value, Kind.ESTIMATED, source)
