"""A convex or weakly convex regulariser with learned filters and potentials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from deepinv.optim import Prior
from torch import Tensor

from ...certificates import Bound, Interval, convolution_norm
from ...certificates.bounds import outward
from ...certificates.declarations import require_type
from ...equilibrium.input_checks import check_image
from ...fixed_points.argument_checks import require_in_range, require_number
from ...optim.priors.smooth_proximal import smooth_prox, smooth_prox_error
from .bundled_weights import colours, each_image, load_pretrained, noise_levels
from .composed_filters import (
    ComposedFilters,
    grid_size,
    responses,
    responses_adjoint,
)
from .linear_spline import (
    LinearSpline,
    spline_integral,
    spline_slope,
    spline_value,
)
from .noise_scaling import NoiseScaling

# The bundled weights, and their numbers of filters up to reflection.
_BUNDLED = {
    ("convex", "grey"): 16,
    ("convex", "colour"): 32,
    ("weakly_convex", "grey"): 16,
    ("weakly_convex", "colour"): 32,
}
# The responses of 64 filters to an image of 1024 x 1024 pixels take a quarter of a
# gigabyte in float32. Without a graph, a gradient holds those to some filters only,
# which takes about as long, and applies the spline to parts that stay in the cache of a
# CPU, which takes less than half of the time.
_RESPONSES_AT_ONCE = 2**24
_SPLINE_AT_ONCE = 2**18


class RidgeRegulariser(Prior):
    r"""
    A convex or weakly convex regulariser of the responses to learned filters,

    .. math::

        \operatorname{R}_\sigma(x) = \sum_{i, p} \frac{1}{\alpha_i(\sigma_p)^2}
        \psi\bigl(\alpha_i(\sigma_p) (V_i x)_p\bigr), \qquad
        \psi' = \varphi, \qquad -\rho \leq \varphi' \leq \mu,

    summed over filters :math:`i` and pixels :math:`p`, for images in :math:`[0, 1]`.
    :math:`V` are :class:`~deepinv_equilibrium.models.ComposedFilters` of norm at most
    1, :math:`\varphi` is a :class:`~deepinv_equilibrium.models.LinearSpline`, and
    :math:`\alpha` is a :class:`~deepinv_equilibrium.models.NoiseScaling`. The noise
    level :math:`\sigma_p` is one for each image, or a map. The gradient

    .. math::

        \nabla \operatorname{R}_\sigma(x) = V^\top \bigl(\varphi(\alpha(\sigma)\, V x) /
        \alpha(\sigma)\bigr)

    has a symmetric Jacobian :math:`V^\top \operatorname{diag}(\varphi') V`, which is
    between :math:`-\rho I` and :math:`\mu I` for every image, image size, noise level,
    every map of noise levels and all weights, and so in every training step. With
    :math:`\rho = 0` the regulariser is convex, otherwise :math:`\rho`-weakly convex:
    :math:`\operatorname{R}_\sigma + \frac{\rho}{2} \|\cdot\|^2` is convex.

    This is the regulariser of :footcite:t:`goujon2023neural` (:math:`\rho = 0`) and
    :footcite:t:`goujon2024weakly` (:math:`\rho = 1`). We depart from it in four points:
    a proved bound of the norm of :math:`V` replaces a power iteration; the filters come
    with their reflections, so that the borders are treated without padding; the
    constraints of the splines are a parametrisation; and the noise level may be a map.

    The regulariser can be the prior of :class:`deepinv_equilibrium.optim.GD` and,
    through its proximal operator, of the other algorithms. The regulariser of a complex
    image is the sum of those of its real and imaginary parts.

    :param int in_channels: channels of the images. The bundled weights are for 1
        (grey) and for 3 (colour).
    :param str, pathlib.Path, None pretrained: ``"bundled"``, a path of a
        ``state_dict``, or ``None`` for random weights.
    :param float weak_convexity: :math:`\rho`, in [0, 1]. Weights are bundled for 0
        and 1.
    :param float rtol: tolerance on the relative residual of the solve in :meth:`prox`.
        Default: ``None``, which means ``1e-6``, and ``1e-10`` for images in float64.
        These values are near the rounding error.
    :param float smoothness: initial value of :math:`\mu`, which is learned.
    :param Sequence hidden_channels: channels between the convolutions that compose the
        filters.
    :param int generators: number of filters up to reflection. Default: ``None``, the
        number of the bundled weights for ``in_channels`` and ``weak_convexity``, or 32.
    :param int kernel_size: taps of each convolution along each axis, odd.
    :param int dim: 2 for images, 3 for volumes.
    :param torch.device, str device: device of the weights.
    :raises ValueError: if an argument is out of its range, or no weights are bundled
        for ``in_channels`` and ``weak_convexity``.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.models import RidgeRegulariser
    >>> prior = RidgeRegulariser()
    >>> prior.grad(torch.rand(2, 1, 20, 30), 0.1).shape
    torch.Size([2, 1, 20, 30])
    >>> prior.gradient_bounds().lower.value
    0.0
    """

    expects_unit_range = True
    """The noise levels are in units of images in [0, 1]."""

    def __init__(
        self,
        in_channels: int = 1,
        pretrained: str | Path | None = "bundled",
        weak_convexity: float = 0.0,
        rtol: float | None = None,
        smoothness: float = 20.0,
        hidden_channels: Sequence[int] = (4, 8),
        generators: int | None = None,
        kernel_size: int = 5,
        dim: int = 2,
        device: torch.device | str | None = None,
    ) -> None:
        require_number("weak_convexity", weak_convexity)
        if not 0 <= weak_convexity <= 1:
            raise ValueError(
                f"weak_convexity must be in [0, 1], got {weak_convexity!r}: the "
                "proximal operator is not unique above 1."
            )
        require_in_range("smoothness", smoothness)
        super().__init__()
        kind = {0.0: "convex", 1.0: "weakly_convex"}.get(float(weak_convexity), "")
        colour_or_grey = colours(in_channels)
        if generators is None:
            generators = _BUNDLED.get((kind, colour_or_grey), 32)
        self.explicit_prior = True
        self.in_channels = in_channels
        self.weak_convexity = float(weak_convexity)
        self.rtol = rtol
        self.filters = ComposedFilters(
            in_channels, hidden_channels, generators, kernel_size, dim
        )
        self.spline = LinearSpline(self.weak_convexity, smoothness)
        self.scaling = NoiseScaling(generators)
        known = dim == 2 and (kind, colour_or_grey) in _BUNDLED
        if pretrained == "bundled" and in_channels in (1, 3) and not known:
            raise ValueError(
                "weights are bundled for images with a weak_convexity of 0 or 1, got "
                f"dim={dim} and weak_convexity={weak_convexity}. Use pretrained=None."
            )
        bundled = f"ridge_{kind}_{colour_or_grey}.pt"
        load_pretrained(self, pretrained, bundled, in_channels)
        self.to(device)

    def fn(
        self, x: Tensor, sigma_denoiser: Tensor | float, *args: Any, **kwargs: Any
    ) -> Tensor:
        r"""
        Return the value of the regulariser.

        :param torch.Tensor x: real or complex images of shape :math:`(B, C, H, W)`, or
            :math:`(B, C, D, H, W)` for volumes, of any size.
        :param torch.Tensor, float sigma_denoiser: noise level :math:`\sigma \geq 0`, in
            the units of ``x``: one for all images; one for each, of shape
            :math:`(B,)` or :math:`(B, 1, 1, 1)`; or a map with one for each pixel, of
            shape :math:`(B, 1, H, W)`, or :math:`(1, 1, H, W)` for all images.
        :return: (:class:`torch.Tensor`) :math:`\operatorname{R}_\sigma(x)`, of shape
            :math:`(B,)`.
        :raises ValueError: if ``x`` is not a batch of images with ``in_channels``
            channels, or ``sigma_denoiser`` has another shape.
        """
        if x.is_complex():
            parts = (self.fn(part, sigma_denoiser) for part in (x.real, x.imag))
            return sum(parts, start=x.real.new_zeros(len(x)))
        ridge = self._ridge(x, sigma_denoiser)
        u = responses(x, ridge.filters)
        potential = spline_integral(u * ridge.scale, ridge.slopes, self.spline.radius)
        return (potential / ridge.scale.square()).flatten(1).sum(1)

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
        if x.is_complex():
            parts = [self.grad(part, sigma_denoiser) for part in (x.real, x.imag)]
            return torch.complex(*parts)
        return self._gradient(x, self._ridge(x, sigma_denoiser))

    def hessian_product(
        self, x: Tensor, v: Tensor, sigma_denoiser: Tensor | float
    ) -> Tensor:
        r"""
        Return the product of the Hessian of the regulariser with images.

        Where :math:`\varphi` has a kink, its derivative behind the kink is used.

        :param torch.Tensor x: images, as for :meth:`fn`.
        :param torch.Tensor v: images of the shape of ``x``.
        :param torch.Tensor, float sigma_denoiser: noise level, as for :meth:`fn`.
        :return: (:class:`torch.Tensor`) :math:`\nabla^2 \operatorname{R}_\sigma(x)\,
            v`, of the shape of ``x``.
        :raises ValueError: for the same arguments as :meth:`fn`.
        """
        if x.is_complex():
            pairs = ((x.real, v.real), (x.imag, v.imag))
            return torch.complex(
                *(self.hessian_product(a, b, sigma_denoiser) for a, b in pairs)
            )
        ridge = self._ridge(x, sigma_denoiser)
        u = responses(x, ridge.filters) * ridge.scale
        curvature = spline_slope(u, ridge.slopes, self.spline.radius)
        return responses_adjoint(curvature * responses(v, ridge.filters), ridge.filters)

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
            images or one for each, with :math:`\gamma \rho \leq 1`. Default: 1.
        :return: (:class:`torch.Tensor`) the proximal operator up to :meth:`prox_error`.
            A :class:`~deepinv_equilibrium.ConvergenceWarning` is issued if ``rtol`` is
            not met.
        :raises ValueError: for the same arguments as :meth:`fn`, or if ``gamma`` is
            negative, not finite, or so large that the proximal operator is not unique.
        """
        if x.is_complex():
            parts = [
                self.prox(part, sigma_denoiser, gamma=gamma)
                for part in (x.real, x.imag)
            ]
            return torch.complex(*parts)
        ridge = self._ridge(x, sigma_denoiser)
        low, high = ridge.slopes.detach().aminmax()
        return smooth_prox(
            lambda z: self._gradient(z, ridge),
            x,
            each_image("gamma", gamma, x),
            float(high),
            self.rtol,
            weak_convexity=max(0.0, -float(low)),
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
            shape :math:`(B,)`; infinite where the proximal operator is not proved to be
            unique.
        """
        if x.is_complex():
            pairs = ((prox.real, x.real), (prox.imag, x.imag))
            errors = [self.prox_error(z, v, sigma_denoiser, gamma) for z, v in pairs]
            return torch.hypot(*errors)
        # The weights and noise levels that were applied are rounded to the dtype of x.
        ridge = _Ridge(*(part.double() for part in self._ridge(x, sigma_denoiser)))
        bounds = _curvature(ridge.filters, ridge.slopes)
        return smooth_prox_error(
            lambda z: self._gradient(z, ridge),
            prox,
            x,
            each_image("gamma", gamma, x),
            bounds.upper.value,
            weak_convexity=-bounds.lower.value,
        )

    @torch.no_grad()
    def gradient_bounds(self, img_size: tuple[int, ...] | None = None) -> Interval:
        r"""
        Return bounds of the symmetric Jacobian of :meth:`grad` for all images, noise
        levels and maps of noise levels.

        They are computed in float64 from the filters and slopes that are applied.

        :param tuple img_size: size of the images; the bounds hold for every size.
        :return: (Interval) from :math:`\min \varphi' \|V\|^2 \geq -\rho` to
            :math:`\max \varphi' \|V\|^2 \leq \mu`, certified.
        :raises UncertifiableModuleError: if the filters, the spline or the scalings
            were replaced by a module of another type.
        """
        # Other filters need not be closed under reflection, on which the proof for the
        # borders rests, and other scalings need not be equal for reflected filters.
        require_type(self.filters, ComposedFilters)
        require_type(self.spline, LinearSpline)
        require_type(self.scaling, NoiseScaling)
        return _curvature(self.filters().double(), self.spline.slopes().double())

    def _gradient(self, x: Tensor, ridge: _Ridge) -> Tensor:
        if torch.is_grad_enabled():
            forces = self._forces(responses(x, ridge.filters), ridge)
            return responses_adjoint(forces, ridge.filters)
        total, pixels = torch.zeros_like(x), x[:, 0].numel()
        for group in ridge.split(max(1, _RESPONSES_AT_ONCE // pixels)):
            u = responses(x, group.filters)
            parts = group.split(max(1, _SPLINE_AT_ONCE // pixels))
            for part, v in zip(parts, u.split(len(parts[0].filters), 1), strict=True):
                v.copy_(self._forces(v, part))
            total += responses_adjoint(u, group.filters)
        return total

    def _forces(self, u: Tensor, ridge: _Ridge) -> Tensor:
        value = spline_value(u * ridge.scale, ridge.slopes, self.spline.radius)
        return value / ridge.scale

    def _ridge(self, x: Tensor, sigma: Tensor | float) -> _Ridge:
        check_image(x)
        if x.ndim != self.filters.dim + 2 or x.shape[1] != self.in_channels:
            axes = "H, W" if self.filters.dim == 2 else "D, H, W"
            raise ValueError(
                f"x must be images of shape (B, {self.in_channels}, {axes}), got "
                f"{x.dtype} of shape {tuple(x.shape)}."
            )
        levels = noise_levels("sigma_denoiser", sigma, x)
        filters, slopes = self.filters().to(x.dtype), self.spline.slopes().to(x.dtype)
        scale = self.scaling(levels).repeat(1, 2**self.filters.dim, *[1] * (x.ndim - 2))
        return _Ridge(filters, slopes, scale)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        if prefix + "log_threshold" in state_dict:
            raise RuntimeError(
                "these are weights of a former RidgeRegulariser, with Huber functions "
                "of groups of filters, which the present one cannot represent. "
                "Train it again by gallery/training/ridge_regulariser.py."
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Return the weak convexity."""
        return f"weak_convexity={self.weak_convexity:g}"


class _Ridge(NamedTuple):
    """The filters, slopes and scalings that are applied, in one dtype."""

    filters: Tensor
    slopes: Tensor
    scale: Tensor

    def split(self, size: int) -> list[_Ridge]:
        """Return parts with at most ``size`` filters each."""
        parts = zip(self.filters.split(size), self.scale.split(size, 1), strict=True)
        return [_Ridge(filters, self.slopes, scale) for filters, scale in parts]


def _curvature(filters: Tensor, slopes: Tensor) -> Interval:
    """Return bounds of the Jacobian of the gradient for filters and slopes in
    float64."""
    grid = grid_size(filters.shape[-1], filters.ndim - 2)
    square = outward(float(convolution_norm(filters, grid=grid)) ** 2)
    low, high = float(slopes.min()), float(slopes.max())
    source = f"filters of norm {math.sqrt(square):.4g}, slopes up to {high:.4g}"
    upper = Bound(outward(high * square), source=source)
    if low >= 0:
        return Interval(Bound(0.0, source="a convex function", is_lower=True), upper)
    source = f"filters of norm {math.sqrt(square):.4g}, slopes from {low:.4g}"
    return Interval(
        Bound(outward(low * square, is_lower=True), source=source, is_lower=True), upper
    )
