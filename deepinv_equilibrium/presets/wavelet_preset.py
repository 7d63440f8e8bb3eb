"""A reconstructor with a weighted wavelet norm from numbers alone."""

from __future__ import annotations

from typing import Literal

from ..equilibrium import Equilibrium, ReTune
from ..models.wavelet_reconstructor import WaveletReconstructor
from ..optim.wavelets.wavelet_prior import WeightedWaveletPrior


def wavelet(
    channels: int | None = None,
    wavelet: str = "db4",
    levels: int = 4,
    initial_weight: float = 0.1,
    DEQ: Equilibrium | None = None,
    stepsize: float | Literal["optimal"] = 1.95,
    normalised: bool = False,
) -> WaveletReconstructor:
    r"""
    A weighted wavelet norm whose weights are to be trained: a
    :class:`~deepinv_equilibrium.models.WaveletReconstructor` of a
    :class:`~deepinv_equilibrium.optim.WeightedWaveletPrior`, of Section 4.1 of
    :footcite:t:`davy2025restarted`.

    :param int, None channels: number of channels, for weights of each; ``None``: the
        same weights for all, for any number of them.
    :param str wavelet: name of an orthonormal wavelet of PyWavelets.
    :param int levels: number of scales.
    :param float initial_weight: the weight of each scale to start from.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: the solver
        and its gradient. Default: ``None``, the paper's
        ``ReTune(layers=10, restarts=10)``.
    :param float, str stepsize: :math:`\tau L` in (0, 2), or ``"optimal"``.
    :param bool normalised: whether the weights of each scale are normalised.
    :return: (deepinv_equilibrium.models.WaveletReconstructor) the model, ready for
        :class:`deepinv.Trainer`.
    :raises TypeError: if ``DEQ`` is none.
    :raises ValueError: if an argument is out of its range.

    |sep|

    :Example:

    >>> import deepinv_equilibrium as deq
    >>> model = deq.plugins.create("reconstructors", "wavelet", channels=3)
    >>> sum(p.numel() for p in model.parameters())
    13
    """
    return WaveletReconstructor(
        WeightedWaveletPrior(channels, wavelet, levels, initial_weight),
        ReTune(layers=10, restarts=10) if DEQ is None else DEQ,
        stepsize,
        normalised,
    )
