"""TV weights that are the same for all pixels and images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .positivity import Positivity
from .tv_map import TVMap


class ConstantTVMap(TVMap):
    r"""
    One trained weight for each group of directions, the same for all pixels and images.

    .. math::

        \Lambda_i = \lambda_{g(i)}, \qquad i = 1, \dots, d.

    It is what a map has to be better than, in the same model and trained in the same
    way: one number with ``directions=(0, 0)``, and the pair :math:`(\lambda_t,
    \lambda_{xy})` of :footcite:t:`kofler2023learning` with ``directions=(0, 1, 1)``.

    :param list, tuple directions: the group of each spatial axis, see
        :class:`~deepinv_equilibrium.models.TVMap`.
    :param float, list initial_weight: the weight to start from, in the unit of the
        images, or one for each group.
    :param deepinv_equilibrium.models.Positivity, None positivity: what keeps the
        weights positive. ``None`` is :class:`Softplus()
        <deepinv_equilibrium.models.Softplus>`.
    :raises TypeError: if an argument is of another type.
    :raises ValueError: if an argument is out of its range.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.models import ConstantTVMap
    >>> tv_map = ConstantTVMap(directions=(0, 1, 1), initial_weight=(0.04, 0.005))
    >>> tv_map(torch.rand(4, 2, 20, 64, 64)).flatten()
    tensor([0.0400, 0.0050, 0.0050], grad_fn=<ViewBackward0>)
    """

    def __init__(
        self,
        directions: Sequence[int],
        initial_weight: float | Sequence[float] = 0.1,
        positivity: Positivity | None = None,
    ) -> None:
        super().__init__(directions, positivity)
        self.raw = nn.Parameter(torch.tensor(self.raw_weight_of(initial_weight)))

    @property
    def weights(self) -> tuple[float, ...]:
        """The current weight of each group."""
        with torch.no_grad():
            return tuple(self.positivity(self.raw).tolist())

    def raw_weight(self, z: Tensor) -> Tensor:
        r"""
        :param torch.Tensor z: images of shape :math:`(B, C, *spatial)`. Only their
            number of axes and their device are read.
        :return: (:class:`torch.Tensor`) raw weights of shape :math:`(1, G, 1, \dots)`.
        """
        return self.raw.to(z.device).view(1, -1, *[1] * (z.ndim - 2))

    def extra_repr(self) -> str:
        """Return what the representation shows first: the directions and weights."""
        weights = ", ".join(f"{weight:.4g}" for weight in self.weights)
        return f"{super().extra_repr()}, weights=({weights})"
