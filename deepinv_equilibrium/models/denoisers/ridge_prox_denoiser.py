"""The proximal operator of a learned convex regulariser as a denoiser."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from deepinv.models import Denoiser
from torch import Tensor

from ...certificates import Bound, Interval, Kind, UncertifiableModuleError
from ...certificates.bounds import outward
from ...certificates.declarations import require_type
from ...fixed_points.argument_checks import require_number
from .ridge_regulariser import RidgeRegulariser


class RidgeProxDenoiser(Denoiser):
    r"""
    The converged proximal operator of a learned convex or weakly convex regulariser,

    .. math::

        \operatorname{D}(x, \sigma) = \tfrac12 + c \left(
        \operatorname{prox}_{\operatorname{R}_\sigma}(x) - \tfrac12 \right), \qquad
        \operatorname{prox}_{\operatorname{R}_\sigma}(x) = \operatorname*{arg\,min}_z
        \tfrac12 \|z - x\|^2 + \operatorname{R}_\sigma(z),

    for images in :math:`[0, 1]`. The regulariser :math:`\operatorname{R}_\sigma` is a
    :class:`~deepinv_equilibrium.models.RidgeRegulariser`, whose Hessian is between
    :math:`-\rho I` and :math:`L I`. The Jacobian of :math:`\operatorname{D}` is
    symmetric, between :math:`\frac{c}{1 + L} I` and :math:`\frac{c}{1 - \rho} I`, for
    every image, image size, noise level, every map of noise levels and all weights:

    - With ``weak_convexity`` 0 (default), :math:`\operatorname{D}` is firmly
      nonexpansive for :math:`c = 1`, and contracts by :math:`c < 1`. It contracts
      towards mid-grey, which changes images least.
    - With ``weak_convexity`` 1, it denoises better and may expand. It is the proximal
      operator of a function, of which convergence of the energy can be proved.

    **These bounds are proved for the exact proximal operator only.** A truncated solve
    need not be nonexpansive. Each image is solved until its relative residual is near
    the rounding error of its dtype; :meth:`error_bound` certifies the distance of the
    result from the exact proximal operator, and a solve that does not converge warns.
    The gradient is the implicit one, to the same tolerance. A larger ``rtol`` saves
    time, e.g. in training; the denoiser then declares its bounds as estimated, and no
    rate is certified from them.

    The bundled weights were trained by ``python gallery/training/ridge_regulariser.py``
    on photos of BSD400, as equilibrium models. The script
    ``gallery/training/measure_denoisers.py`` measures them on a folder of images.

    :param int in_channels: channels of the images. The bundled weights are for 1
        (grey) and for 3 (colour).
    :param float contraction: :math:`c`, in (0, 1].
    :param str, pathlib.Path, None pretrained: ``"bundled"``, a path of a
        ``state_dict``, or ``None`` for random weights.
    :param float weak_convexity: bound of :math:`\rho`, in [0, 1]. Weights are bundled
        for 0 and 1.
    :param float rtol: tolerance of the solve, see
        :class:`~deepinv_equilibrium.models.RidgeRegulariser`.
    :param dict kwargs: further arguments of
        :class:`~deepinv_equilibrium.models.RidgeRegulariser`: ``smoothness``,
        ``hidden_channels``, ``generators``, ``kernel_size``, ``dim``, ``device``.
    :raises ValueError: if an argument is out of its range, or no weights are bundled
        for ``in_channels`` and ``weak_convexity``.

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
        weak_convexity: float = 0.0,
        rtol: float | None = None,
        **kwargs: Any,
    ) -> None:
        require_number("contraction", contraction)
        if not 0 < contraction <= 1:
            raise ValueError(f"contraction must be in (0, 1], got {contraction!r}.")
        super().__init__(device="cpu")
        self.contraction = float(contraction)
        self.regulariser = RidgeRegulariser(
            in_channels, pretrained, weak_convexity, rtol, **kwargs
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
        \operatorname{D}(x_2)\| \leq \frac{c}{1 - \rho} \|x_1 - x_2\| + e_1 + e_2`.

        :param torch.Tensor denoised: the result of the denoiser, or any other images.
        :param torch.Tensor x: noisy images.
        :param torch.Tensor, float sigma: noise level, as for :meth:`forward`.
        :return: (:class:`torch.Tensor`) a bound of the :math:`\ell_2` distance for each
            image, in float64, of shape :math:`(B,)`.
        """
        precise = torch.promote_types(denoised.dtype, torch.float64)
        prox = 0.5 + (denoised.to(precise) - 0.5) / self.contraction
        return self.contraction * self.regulariser.prox_error(prox, x, sigma)

    @property
    def is_firmly_nonexpansive(self) -> bool:
        """Whether the denoiser is proved to be firmly nonexpansive: the regulariser is
        convex. The proof is for the exact proximal operator, and not for a user-defined
        tolerance ``rtol``."""
        try:
            convex = self._curvature().lower.value >= 0
        except UncertifiableModuleError:
            return False
        return convex and self.regulariser.rtol is None

    def lipschitz_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Return a Lipschitz constant of the exact :math:`x \mapsto \operatorname{D}(x,
        \sigma)` in the :math:`\ell_2` norm, which holds for every noise level and every
        map of noise levels. :meth:`error_bound` bounds the distance of the computed
        denoiser from the exact one.

        :param tuple img_size: size of the images; the bound holds for every size.
        :return: (Bound) :math:`c / (1 - \rho)`, certified, or estimated if ``rtol`` is
            given; infinite if :math:`\rho = 1`.
        :raises UncertifiableModuleError: if the regulariser or a part of it was
            replaced by a module of another type.
        """
        modulus = -self._curvature().lower.value
        source = "exact proximal operator of a convex function"
        if modulus > 0:
            source = "exact proximal operator of a function of weak convexity "
            source += f"{modulus:.4g}"
        constant = _largest_slope(modulus)
        if self.contraction == 1:
            return self._bound(constant, source)
        source += f", times {self.contraction:g}"
        return self._bound(outward(self.contraction * constant), source)

    def residual_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Return a Lipschitz constant of the exact :math:`\operatorname{D} - I` in the
        :math:`\ell_2` norm, which holds for every noise level and every map of noise
        levels. The Jacobian of :math:`\operatorname{D} - I` is between
        :math:`(\frac{c}{1 + L} - 1) I` and :math:`(\frac{c}{1 - \rho} - 1) I`.

        :param tuple img_size: size of the images; the bound holds for every size.
        :return: (Bound) the larger of the two sizes, certified, or estimated if
            ``rtol`` is given.
        :raises UncertifiableModuleError: as for :meth:`lipschitz_bound`.
        """
        bounds = self._curvature()
        smoothness, modulus = bounds.upper.value, -bounds.lower.value
        source = f"proximal operator of a function of smoothness {smoothness:.4g}"
        if modulus > 0:
            source += f" and weak convexity {modulus:.4g}"
        shrinks = 1 - self.contraction / (1 + smoothness)
        grows = self.contraction * _largest_slope(modulus) - 1
        return self._bound(outward(max(shrinks, grows)), source)

    def convexity_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Return a lower bound of the curvature of the function :math:`h` whose proximal
        operator is the exact :math:`x \mapsto \operatorname{D}(x, \sigma)`. As the
        Jacobian of :math:`\operatorname{D}` is symmetric and at most
        :math:`\frac{c}{1 - \rho} I`, :math:`h - \frac m2 \|\cdot\|^2` is convex for
        :math:`m = \frac{1 - \rho}{c} - 1`.

        :param tuple img_size: size of the images; the bound holds for every size.
        :return: (Bound) :math:`m`, certified, or estimated if ``rtol`` is given.
        :raises UncertifiableModuleError: as for :meth:`lipschitz_bound`.
        """
        lower = self._curvature().lower
        value = lower.value
        if self.contraction < 1:
            value = (1 + lower.value) / self.contraction - 1
            value -= 2.0**-50 / self.contraction  # the rounding of the line above
        return self._bound(value, f"proximal operator, {lower.source}", is_lower=True)

    def _curvature(self) -> Interval:
        """Return bounds of the Hessian of the regulariser. Of a subclass nothing is
        known: it may compute another proximal operator."""
        require_type(self.regulariser, RidgeRegulariser)
        return self.regulariser.gradient_bounds()

    def _bound(self, value: float, source: str, *, is_lower: bool = False) -> Bound:
        """Return a bound for the exact map; it is estimated if a tolerance is given,
        because the computed map is then another one."""
        rtol = self.regulariser.rtol
        if rtol is None or math.isinf(value):
            return Bound(value, source=source, is_lower=is_lower)
        source += f"; the computed one only has rtol = {rtol:g}"
        return Bound(value, Kind.ESTIMATED, source, is_lower=is_lower)


def _largest_slope(modulus: float) -> float:
    """Return the Lipschitz constant of the proximal operator of a function of a weak
    convexity."""
    if modulus <= 0:
        return 1.0
    return outward(1 / (1 - modulus), relative=1e-9) if modulus < 1 else math.inf
