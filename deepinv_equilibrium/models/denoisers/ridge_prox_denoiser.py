"""The denoiser that minimises a learned convex regulariser."""

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
    The converged proximal operator of a learned convex regulariser: firmly nonexpansive
    or strictly contractive, whatever its weights,

    .. math::

        \operatorname{D}(x, \sigma) = \tfrac12 + c \left(
        \operatorname{prox}_{\operatorname{R}_\sigma}(x) - \tfrac12 \right), \qquad
        \operatorname{prox}_{\operatorname{R}_\sigma}(x) = \operatorname*{arg\,min}_z
        \tfrac12 \|z - x\|^2 + \operatorname{R}_\sigma(z),

    for images in :math:`[0, 1]`, with :math:`\operatorname{R}_\sigma` a
    :class:`~deepinv_equilibrium.models.RidgeRegulariser` of smoothness :math:`L`. Its
    Jacobian is symmetric, between :math:`\frac{c}{1 + L} I` and :math:`c I`, for every
    image, image size, noise level and weights; with ``contraction`` :math:`c < 1` it is
    contracted about mid-grey, where that moves images least.

    **This is proved of the exact proximal operator**, and only of it: a truncated solve
    need not be nonexpansive. Each image is solved for until the relative residual is
    near the rounding of its dtype, :meth:`error_bound` certifies how far the result is
    from the exact one, and a solve that fails warns. The gradient is the implicit one,
    at the same tolerance. ``rtol`` trades the error for time, e.g. in training; the
    denoiser then declares its bounds as estimated, and no rate is certified from them.

    The bundled weights were trained by ``python
    gallery/training/ridge_prox_denoiser.py`` on the training photos of
    :class:`deepinv_equilibrium.datasets.Photos`. PSNR in dB on held-out photos, in grey
    (the centres of 256 x 256, borders included; of total variation, at
    :math:`0.65 \sigma`):

    ======================= ======= ====== ===== ===== =====
    :math:`255 \sigma`      chelsea retina coins moon  page
    ======================= ======= ====== ===== ===== =====
    15                      30.76   38.44  29.69 36.90 28.81
    15, total variation     30.13   37.52  29.47 36.20 28.46
    25                      28.67   35.97  27.26 34.70 25.57
    25, total variation     27.97   33.67  27.05 32.87 25.26
    ======================= ======= ====== ===== ===== =====

    ``gallery/training/compare_denoisers.py`` compares more.

    :param int in_channels: channels of the images. The bundled weights are for 1
        (grey) and for 3 (colour).
    :param float contraction: :math:`c`, in (0, 1].
    :param str, pathlib.Path, None pretrained: ``"bundled"``, a path of a
        ``state_dict``, or ``None`` for random weights.
    :param float smoothness: :math:`L > 0`; the bundled weights were trained with the
        default.
    :param float rtol: tolerance of the solve, see
        :class:`~deepinv_equilibrium.models.RidgeRegulariser`.
    :param int generators: number of filters up to rotation and reflection.
    :param int kernel_size: side of the filters, odd.
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
            all images, or one for each, of shape :math:`(B,)` or :math:`(B, 1, 1, 1)`.
            At 0 the images are only contracted.
        :return: (:class:`torch.Tensor`) denoised images, of the shape of ``x``.
        :raises ValueError: if ``x`` is no batch of real images with the right number of
            channels, or ``sigma`` has another shape.
        """
        prox = self.regulariser.prox(x, sigma)
        if self.contraction == 1:
            return prox
        return 0.5 + self.contraction * (prox - 0.5)

    def error_bound(self, denoised: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
        r"""
        Certified bound of how far a result is from the exact denoiser. For any two,
        :math:`\|\operatorname{D}(x_1) - \operatorname{D}(x_2)\| \leq c \|x_1 - x_2\| +
        e_1 + e_2`.

        :param torch.Tensor denoised: the value of the denoiser, or any other guess.
        :param torch.Tensor x: noisy images.
        :param torch.Tensor, float sigma: noise level, as for :meth:`forward`.
        :return: (:class:`torch.Tensor`) a bound of the :math:`\ell_2` distance for each
            image, in float64, of shape :math:`(B,)`.
        """
        prox = 0.5 + (denoised.double() - 0.5) / self.contraction
        return self.contraction * self.regulariser.prox_error(prox, x, sigma)

    @property
    def is_firmly_nonexpansive(self) -> bool:
        """Whether it is proved: of the exact proximal operator, but not of one that is
        solved for to a tolerance of the user's."""
        return self.regulariser.rtol is None

    def lipschitz_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Lipschitz constant of the exact :math:`x \mapsto \operatorname{D}(x, \sigma)` in
        the :math:`\ell_2` norm, for every noise level. The computed one is within
        :meth:`error_bound` of it.

        :param tuple img_size: size of the images; the bound holds for every size.
        :return: (Bound) :math:`c`, certified, or estimated where ``rtol`` is given.
        """
        source = "exact proximal operator of a convex function"
        if self.contraction == 1:
            return self._bound(1.0, source)
        source += f", times {self.contraction:g}"
        return self._bound(outward(self.contraction), source)

    def residual_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Lipschitz constant of the exact :math:`\operatorname{D} - I`, whose Jacobian is
        between :math:`(\frac{c}{1 + L} - 1) I` and :math:`(c - 1) I`, likewise.

        :param tuple img_size: size of the images; the bound holds for every size.
        :return: (Bound) :math:`1 - \frac{c}{1 + L}`, certified or estimated likewise.
        """
        smoothness = self.regulariser.gradient_bounds(img_size).upper.value
        source = f"proximal operator of a function of smoothness {smoothness:.4g}"
        return self._bound(outward(1 - self.contraction / (1 + smoothness)), source)

    def _bound(self, value: float, source: str) -> Bound:
        """Of the exact map, from which a loose tolerance leads away."""
        rtol = self.regulariser.rtol
        if rtol is None:
            return Bound(value, source=source)
        source += f"; the computed one only has rtol = {rtol:g}"
        return Bound(value, Kind.ESTIMATED, source)
