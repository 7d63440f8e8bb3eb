"""A DnCNN with a certified Lipschitz constant of its residual."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
from deepinv.models import Denoiser
from torch import Tensor, nn
from torch.nn.functional import relu

from ...certificates import Bound
from ...certificates.bounds import outward
from ...certificates.declarations import require_type
from ...equilibrium.input_checks import check_images
from ...fixed_points.argument_checks import require_count, require_in_range
from ...fixed_points.constant_weights import constant_weights
from .bounded_convolution import BoundedConvolution
from .bundled_weights import load_pretrained
from .weight_copies import compare_weights


class BoundedDnCNN(Denoiser):
    r"""
    DnCNN with nonexpansive layers, whose residual is :math:`\epsilon`-Lipschitz for all
    weights,

    .. math::

        \operatorname{D}(x) = x + \epsilon N(x), \qquad
        N = C_d \circ \operatorname{ReLU} \circ C_{d-1} \circ \dots \circ
        \operatorname{ReLU} \circ C_1,

    where each :math:`C_k` is a :class:`~deepinv_equilibrium.models.BoundedConvolution`.
    :math:`N` is nonexpansive for every image size and in every training step. The
    default sizes are those of :footcite:t:`zhang2017beyond`: 17 convolutions of
    :math:`3 \times 3` pixels with 64 filters. As in :class:`deepinv.models.DnCNN`,
    there is no batch normalisation, because its Lipschitz constant is not bounded.

    Convergence of plug-and-play needs a bound of :math:`\operatorname{D} - I`
    :footcite:p:`ryu2019plug`. The usual spectral normalisation does not give one: it
    normalises the reshaped kernels instead of the convolutions, and the layers of
    :math:`\operatorname{D}` instead of those of :math:`\operatorname{D} - I`.

    With ``residual=False``, the denoiser itself is :math:`\epsilon`-Lipschitz, and a
    contraction if :math:`\epsilon < 1`,

    .. math::

        \operatorname{D}(x) = \tfrac{\epsilon}{2} \left( x + N(x) \right),

    as DE-GRAD needs (see :data:`deepinv_equilibrium.presets.de_grad`): with
    :math:`S = I - \operatorname{D}`, :math:`S - I = -\operatorname{D}` is
    :math:`\epsilon`-Lipschitz. The last bias of :math:`N` determines the image towards
    which :math:`\operatorname{D}` contracts.

    :param int in_channels: channels of the images.
    :param float epsilon: :math:`\epsilon > 0`.
    :param bool residual: whether the first form is used, which adds the network to the
        identity. Default: ``True``.
    :param int depth: number of convolutions :math:`d`, at least 2.
    :param int filters: channels of the hidden layers.
    :param str, pathlib.Path, None pretrained: path of a ``state_dict``, or ``None`` for
        random weights.
    :param torch.device, str device: device of the network.
    :raises TypeError: if ``epsilon`` is not a number.
    :raises ValueError: if an argument is out of its range.

    |sep|

    :Example:

    >>> from deepinv_equilibrium import lipschitz
    >>> from deepinv_equilibrium.models import BoundedDnCNN
    >>> denoiser = BoundedDnCNN(in_channels=1, epsilon=0.5, depth=3, filters=8)
    >>> denoiser.residual_bound().value <= 0.5, lipschitz(denoiser).value <= 1.5
    (True, True)
    """

    def __init__(
        self,
        in_channels: int = 3,
        epsilon: float = 1.0,
        residual: bool = True,
        depth: int = 17,
        filters: int = 64,
        pretrained: str | Path | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        require_count("in_channels", in_channels, 1)
        require_in_range("epsilon", epsilon)
        require_count("depth", depth, 2)
        require_count("filters", filters, 1)
        super().__init__(device="cpu")
        self.in_channels = in_channels
        self.epsilon = float(epsilon)
        self.residual = residual
        widths = [in_channels, *[filters] * (depth - 1), in_channels]
        self.layers = nn.ModuleList(
            BoundedConvolution(inputs, outputs) for inputs, outputs in pairwise(widths)
        )
        for layer in self._convolutions[2:-2]:
            # The inner layers start as the identity, because features are positive and
            # pass a ReLU unchanged. Each random layer of norm 1 would reduce the
            # features to a third, and 17 such layers to nothing.
            nn.init.dirac_(layer.weight)
        load_pretrained(self, pretrained, None, in_channels)
        self.to(device)

    def forward(self, x: Tensor, sigma: Tensor | float | None = None) -> Tensor:
        r"""
        Denoise a batch of images.

        :param torch.Tensor x: noisy images of shape :math:`(B, C, H, W)`, of any size.
        :param torch.Tensor, float sigma: not used, because the network is trained for
            one noise level, as in :class:`deepinv.models.DnCNN`.
        :return: (:class:`torch.Tensor`) denoised images, of the shape of ``x``.
        :raises ValueError: if ``x`` is not a batch of real images with ``in_channels``
            channels.
        """
        check_images(x, self.in_channels)
        if self.residual:
            return x + self.epsilon * self._network(x)
        return 0.5 * self.epsilon * (x + self._network(x))

    def _network(self, x: Tensor) -> Tensor:
        *hidden, last = self._convolutions
        with constant_weights():
            compare_weights(
                pair for layer in self._convolutions for pair in layer.weight_copies
            )
            for layer in hidden:
                x = relu(layer(x))
            return cast(Tensor, last(x))

    @property
    def _convolutions(self) -> list[BoundedConvolution]:
        return cast("list[BoundedConvolution]", list(self.layers))

    def _network_bound(self) -> Bound:
        """Return the product of the norms of the layers of N, computed in float64 from
        the filters that are applied. It is often well below 1, because the fast bound
        by which the layers divide is larger than their norm."""
        product = 1.0
        for layer in self._convolutions:
            require_type(layer, BoundedConvolution)
            product = outward(product * layer.norm())
        return Bound(product, source=f"product of {len(self.layers)} convolutions")

    def lipschitz_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Return a Lipschitz constant of :math:`\operatorname{D}` in the :math:`\ell_2`
        norm.

        :param tuple img_size: size of the images; the bound holds for every size.
        :return: (Bound) a certified bound, at most :math:`1 + \epsilon`, or
            :math:`\epsilon` without ``residual``, up to rounding.
        :raises UncertifiableModuleError: if a layer is not a BoundedConvolution.
        """
        network = self._network_bound()
        if self.residual:
            value, how = 1 + self.epsilon * network.value, "1 + epsilon times"
        else:
            value, how = (
                self.epsilon * (1 + network.value) / 2,
                "epsilon (1 + N) / 2, N",
            )
        return Bound(outward(value), source=f"{how} the {network.source}")

    def residual_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Return a Lipschitz constant of :math:`\operatorname{D} - I` in the
        :math:`\ell_2` norm.

        :param tuple img_size: size of the images; the bound holds for every size.
        :return: (Bound) a certified bound, at most :math:`\epsilon` up to rounding;
            at least 1 without ``residual``.
        :raises UncertifiableModuleError: if a layer is not a BoundedConvolution.
        """
        network = self._network_bound()
        if self.residual:
            value, how = self.epsilon * network.value, "epsilon times"
        else:
            half = self.epsilon / 2
            value = abs(1 - half) + half * network.value
            how = "|1 - epsilon / 2| + epsilon / 2 times"
        return Bound(outward(value), source=f"{how} the {network.source}")
