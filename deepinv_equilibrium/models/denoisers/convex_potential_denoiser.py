"""A denoiser of convex potential layers with a certified Lipschitz constant."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from deepinv.models import Denoiser
from torch import Tensor, nn

from ...certificates import Bound
from ...certificates.bounds import outward
from ...certificates.declarations import require_type
from ...certificates.rates import averaged_composition
from ...equilibrium.input_checks import check_images
from ...fixed_points.argument_checks import require_count, require_number
from ...fixed_points.constant_weights import constant_weights
from .bundled_weights import colours, load_pretrained, noise_levels
from .convex_potential_layer import ConvexPotentialLayer
from .weight_copies import compare_weights


class ConvexPotentialDenoiser(Denoiser):
    r"""
    A network of convex potential layers that is averaged, firmly nonexpansive or
    strictly contractive for all weights,

    .. math::

        \operatorname{D}(x, \sigma) = c + L \left((1 - w) x + w\, T_K \circ \dots \circ
        T_1(x) - c\right), \qquad c = \tfrac12,

    for images in :math:`[0, 1]`. Each :math:`T_k` is a
    :class:`~deepinv_equilibrium.models.ConvexPotentialLayer` at the noise level
    :math:`\sigma`. The following holds for every noise level, every map of noise
    levels, every image size and all weights, and so in every training step:

    - With ``contraction`` :math:`L < 1`, :math:`\operatorname{D}` is
      :math:`L`-Lipschitz. It contracts towards mid-grey, which changes images least.
    - By default, the layers are firmly nonexpansive and :math:`w = 1`. Then, with
      :math:`L = 1`, :math:`\operatorname{D}` is :math:`K/(K+1)`-averaged
      :footcite:p:`bauschke2017convex`.
    - With ``firmly_nonexpansive=True``, the layers are reflections and :math:`w =
      \tfrac12`, so that :math:`\operatorname{D} = \tfrac12 (I + Q)` with a nonexpansive
      :math:`Q`, as Douglas-Rachford and ADMM need. Its bundled weights are different.

    In general, :math:`\operatorname{D}` is not the proximal operator of a function: the
    Jacobian of each layer is symmetric, but the Jacobian of the composition is not.

    The bundled weights were trained by
    ``python gallery/training/convex_potential_denoiser.py`` on BSD400. The user guide
    has their PSNR beside that of other denoisers. Reflections restore less at high
    noise: the firmly nonexpansive weights are .3, .6 and .8 dB behind the averaged ones
    on BSD68 at the noise levels 5, 15 and 25 over 255.

    :param int in_channels: channels of the images. The bundled weights are for 3
        (colour) and for 1 (grey).
    :param bool firmly_nonexpansive: whether the denoiser is firmly nonexpansive.
    :param float contraction: :math:`L`, in (0, 1].
    :param str, pathlib.Path, None pretrained: ``"bundled"``, a path of a
        ``state_dict``, or ``None`` for random weights.
    :param int layers: number of layers :math:`K`.
    :param int generators: filters of a layer up to rotation and reflection.
    :param int kernel_size: side of the filters in pixels, odd.
    :param torch.device, str device: device of the network.
    :raises ValueError: if an argument is out of its range, or no weights are bundled
        for ``in_channels``.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium import lipschitz
    >>> from deepinv_equilibrium.models import ConvexPotentialDenoiser
    >>> denoiser = ConvexPotentialDenoiser(contraction=0.99)
    >>> with torch.no_grad():
    ...     denoised = denoiser(torch.rand(1, 3, 37, 50), sigma=0.1)
    >>> print(lipschitz(denoiser))
    <= 0.99 (certified: 8 convex potential layers, contracted by 0.99)
    """

    def __init__(
        self,
        in_channels: int = 3,
        firmly_nonexpansive: bool = False,
        contraction: float = 1.0,
        pretrained: str | Path | None = "bundled",
        layers: int = 8,
        generators: int = 4,
        kernel_size: int = 5,
        device: torch.device | str | None = None,
    ) -> None:
        require_number("contraction", contraction)
        if not 0 < contraction <= 1:
            raise ValueError(f"contraction must be in (0, 1], got {contraction!r}.")
        require_count("layers", layers, 1)
        super().__init__(device="cpu")
        self.in_channels = in_channels
        self.firmly_nonexpansive = firmly_nonexpansive
        self.contraction = float(contraction)
        self.layers = nn.ModuleList(
            ConvexPotentialLayer(
                in_channels,
                generators,
                kernel_size,
                relaxation=2.0 if firmly_nonexpansive else 1.0,
            )
            for _ in range(layers)
        )
        kind = "firmly_nonexpansive" if firmly_nonexpansive else "averaged"
        bundled = f"convex_potential_{kind}_{colours(in_channels)}.pt"
        load_pretrained(self, pretrained, bundled, in_channels)
        self.to(device)

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
        check_images(x, self.in_channels)
        levels = noise_levels("sigma", sigma, x)
        denoised = x
        with constant_weights():
            compare_weights(
                pair for layer in self._layers for pair in layer.weight_copies
            )
            for layer in self.layers:
                denoised = layer(denoised, levels)
        if self.firmly_nonexpansive:
            denoised = (x + denoised) / 2
        if self.contraction < 1:
            denoised = 0.5 + self.contraction * (denoised - 0.5)
        return denoised

    @property
    def is_firmly_nonexpansive(self) -> bool:
        r"""Whether the denoiser is proved to be firmly nonexpansive, either as
        :math:`\tfrac12 (I + Q)`, or as a single firmly nonexpansive layer."""
        if any(type(layer) is not ConvexPotentialLayer for layer in self.layers):
            return False
        relaxations = [layer.relaxation for layer in self._layers]
        if self.firmly_nonexpansive:
            return max(relaxations) <= 2
        return len(relaxations) == 1 and relaxations[0] <= 1

    def averagedness_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Return a constant :math:`\alpha` such that
        :math:`\operatorname{D} = (1 - \alpha) I + \alpha N` with a nonexpansive
        :math:`N`, for every noise level and every map of noise levels.

        A layer is :math:`\lambda \|V\|^2 / 2`-averaged, and compositions of averaged
        maps are averaged. A contraction by :math:`L` of an :math:`\alpha`-averaged map
        is :math:`(1 - L (1 - \alpha))`-averaged.

        :param tuple img_size: size of the images; the bound holds for every size.
        :return: (Bound) :math:`\alpha`, certified, by default at most
            :math:`K / (K + 1)` up to rounding.
        :raises UncertifiableModuleError: if a layer is not a ConvexPotentialLayer.
        """
        value = 0.0
        for layer in self._layers:
            require_type(layer, ConvexPotentialLayer)
            norm = layer.norm()
            alpha = outward(layer.relaxation * norm**2 / 2)
            if layer.relaxation <= 2 and norm <= 1:
                alpha = min(alpha, 1.0)
            value = averaged_composition(value, alpha)
        if self.firmly_nonexpansive:
            value = value / 2
        if self.contraction < 1:
            value = outward(1 - self.contraction * (1 - value))
        return Bound(value, source=f"{len(self.layers)} averaged layers")

    @property
    def _layers(self) -> list[ConvexPotentialLayer]:
        return cast("list[ConvexPotentialLayer]", list(self.layers))

    def lipschitz_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Return a Lipschitz constant of :math:`x \mapsto \operatorname{D}(x, \sigma)` in
        the :math:`\ell_2` norm, which holds for every noise level and every map of
        noise levels.

        The Jacobian of a layer is between :math:`(1 - \lambda \|V\|^2) I` and
        :math:`I`. The norm is computed in float64 from the filters :math:`V` that are
        applied.

        :param tuple img_size: size of the images; the bound holds for every size.
        :return: (Bound) a certified bound, :math:`L` up to rounding.
        :raises UncertifiableModuleError: if a layer is not a ConvexPotentialLayer.
        """
        constant = 1.0
        for layer in self._layers:
            require_type(layer, ConvexPotentialLayer)
            constant *= max(1.0, layer.relaxation * layer.norm() ** 2 - 1)
        if self.firmly_nonexpansive:
            constant = (1 + constant) / 2
        source = f"{len(self.layers)} convex potential layers"
        if self.firmly_nonexpansive:
            source += ", averaged with the identity"
        if self.contraction < 1:
            source += f", contracted by {self.contraction:g}"
        return Bound(outward(self.contraction * constant), source=source)
