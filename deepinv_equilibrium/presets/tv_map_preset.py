"""Total variation with an estimated weight, by name."""

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
    Return an untrained :class:`~deepinv_equilibrium.models.TVMapReconstructor`: total
    variation whose weight a :class:`~deepinv_equilibrium.models.UNetTVMap` estimates
    from the measurement, or a trained constant, the baseline
    :class:`~deepinv_equilibrium.models.ConstantTVMap`.

    By default the model makes 256 iterations, the largest number in
    :footcite:t:`kofler2023learning`, and the gradient passes through the last 8 of
    them: ``ReTune(layers=8, restarts=32)``.

    :param int in_channels: number of real channels of the images. A complex channel
        counts as two, its real and its imaginary part. Default: 1.
    :param list, tuple directions: index of the weight of each spatial axis. ``(0, 0)``
        is one weight for both axes of an image, ``(0, 1, 1)`` one weight for time and
        one for space. Default: ``(0, 0)``.
    :param bool constant: whether the weights are trained numbers instead of the output
        of a network. Default: ``False``.
    :param int filters: number of channels on the first level of the U-Net. Default: 8.
    :param int depth: number of levels of the U-Net. Default: 3.
    :param float, list initial_weight: initial weight, in the units of the images; one
        number, or one for each weight. Default: 0.1.
    :param int max_iter: number of iterations to unroll. Default: ``None``.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: solver,
        adjoint and number of layers, instead of ``max_iter``. Default: ``None``,
        ``ReTune(layers=8, restarts=32)``.
    :param str norm: ``"isotropic"`` or ``"componentwise"``. Default: ``"isotropic"``.
    :param int input_iterations: number of iterations of conjugate gradients that
        compute the input of the map. Default: 8.
    :param float stepsize: initial value of :math:`\tau \|A\|^2`, in (0, 1.98). Default:
        1.
    :param bool show_progress_bar: whether to show a progress bar during the iterations.
        Default: ``False``.
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
