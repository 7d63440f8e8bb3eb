"""A reconstructor with a TV map from numbers alone."""

from __future__ import annotations

from collections.abc import Sequence

from ..equilibrium import Equilibrium, ReTune
from ..models.tv_maps.tv_map import ConstantTVMap, TVMap
from ..models.tv_maps.tv_map_reconstructor import TVMapReconstructor
from ..models.tv_maps.unet_tv_map import UNetTVMap
from ..optim.total_variation.tv_groups import TVNorm


def tv_map(
    in_channels: int = 1,
    directions: Sequence[int] = (0, 0),
    constant: bool = False,
    filters: int = 8,
    depth: int = 3,
    initial_weight: float | Sequence[float] = 0.1,
    max_iter: int | None = None,
    DEQ: Equilibrium | None = None,
    norm: TVNorm = "isotropic",
    input_iterations: int = 8,
    stepsize: float = 1.0,
    show_progress_bar: bool = False,
) -> TVMapReconstructor:
    r"""
    Total variation whose weights a U-Net estimates from the measurement, to be trained:
    a :class:`~deepinv_equilibrium.models.TVMapReconstructor` of a
    :class:`~deepinv_equilibrium.models.UNetTVMap`, or of the baseline
    :class:`~deepinv_equilibrium.models.ConstantTVMap`.

    Without ``max_iter`` and ``DEQ`` it makes 256 iterations, the most of
    :footcite:t:`kofler2023learning`, of which it records 8: ``ReTune(layers=8,
    restarts=32)``.

    :param int in_channels: real channels of the images: the real and imaginary parts of
        a complex channel are two.
    :param list, tuple directions: the group of each spatial axis: ``(0, 0)`` for one
        weight for both axes of an image, ``(0, 1, 1)`` for one for time and another one
        for space.
    :param bool constant: whether the weights are trained numbers, the same for all
        pixels and images, and there is no network.
    :param int filters: channels of the first level of the U-Net.
    :param int depth: number of its levels.
    :param float, list initial_weight: the weight to start from, in the unit of the
        images, or one for each group.
    :param int max_iter: iterations to unroll.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: the
        equilibrium, in the place of ``max_iter``.
    :param str norm: ``"isotropic"`` or ``"componentwise"``.
    :param int input_iterations: iterations of conjugate gradients that make the input
        of the map.
    :param float stepsize: :math:`\tau \|A\|^2` to start from, in (0, 1.98).
    :param bool show_progress_bar: whether to show one during the iterations.
    :return: (deepinv_equilibrium.models.TVMapReconstructor) the model, ready for
        :class:`deepinv.Trainer`.
    :raises TypeError: if an argument is of another type.
    :raises ValueError: if an argument is out of its range, or both ``max_iter`` and
        ``DEQ`` are given.

    |sep|

    :Example:

    >>> import deepinv_equilibrium as deq
    >>> model = deq.plugins.create("reconstructors", "tv-map", max_iter=64)
    >>> model.max_iter, sum(p.numel() for p in model.parameters())
    (64, 32338)
    """
    network: TVMap
    if constant:
        network = ConstantTVMap(directions, initial_weight)
    else:
        network = UNetTVMap(
            in_channels, directions, filters, depth, initial_weight=initial_weight
        )
    if max_iter is None and DEQ is None:
        DEQ = ReTune(layers=8, restarts=32)
    return TVMapReconstructor(
        network, max_iter, DEQ, norm, input_iterations, stepsize, show_progress_bar
    )
