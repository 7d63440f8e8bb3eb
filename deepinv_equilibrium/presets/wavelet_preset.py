"""Reconstruction with a weighted wavelet norm, by name."""

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
    Return an untrained :class:`~deepinv_equilibrium.models.WaveletReconstructor` with
    a :class:`~deepinv_equilibrium.optim.WeightedWaveletPrior`, the model of Section 4.1
    of :footcite:t:`davy2025restarted`.

    :param int channels: number of channels, each of which has its own weights. Default:
        ``None``, all channels share the weights, and any number of channels is
        accepted.
    :param str wavelet: name of an orthonormal wavelet of PyWavelets. Default:
        ``"db4"``.
    :param int levels: number of scales. Default: 4.
    :param float initial_weight: initial weight of each scale. Default: 0.1.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: solver,
        adjoint and number of layers. Default: ``None``, the configuration of the paper,
        ``ReTune(layers=10, restarts=10)``.
    :param float, str stepsize: :math:`\tau L`, in (0, 2), or ``"optimal"``. Default:
        1.95.
    :param bool normalised: whether the weights of each scale are divided by their
        minimum. Default: ``False``.
    :return: (deepinv_equilibrium.models.WaveletReconstructor) the model, ready for
        :class:`deepinv.Trainer`.
    :raises TypeError: if ``DEQ`` is of another type.
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
