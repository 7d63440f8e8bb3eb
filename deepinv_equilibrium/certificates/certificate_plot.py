"""The plot of a solve and its envelope."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .contraction_bounds import Contraction

if TYPE_CHECKING:
    from matplotlib.figure import Figure


OBSERVED, ENVELOPE = "#2a78d6", "#52514e"


def plot_envelope(title: str, contraction: Contraction, residuals: Tensor) -> Figure:
    r"""
    Plot the absolute residuals of every sample and the envelope
    :math:`c \rho^k r_0` of the plain iteration. Here :math:`r_0` is the largest first
    residual and :math:`c` the ``residual_factor`` of the contraction. Residuals of an
    accelerated solver may exceed the envelope.

    :param str title: the title of the figure.
    :param Contraction contraction: the contraction, with the rate :math:`\rho`.
    :param torch.Tensor residuals: absolute residuals of shape :math:`(K, B)`, for
        :math:`K` iterations and :math:`B` samples.
    :return: the figure.
    :raises ImportError: if matplotlib is not installed.
    :raises ValueError: if the rate is not below 1.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "plotting needs matplotlib: pip install 'deepinv_equilibrium[gallery]'."
        ) from error
    rate = contraction.rate
    if not rate.value < 1:
        raise ValueError(
            f"there is no envelope to plot: the rate is not below 1, {rate}."
        )
    history = residuals.double().cpu()
    steps = torch.arange(len(history), dtype=torch.float64)
    factor = contraction.residual_factor.value
    envelope = factor * history[0].max() * rate.value**steps

    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    count = history.shape[1]
    label = (
        "observed residual" if count == 1 else f"observed residuals, {count} samples"
    )
    for sample in range(count):
        axes.semilogy(
            steps,
            history[:, sample],
            color=OBSERVED,
            linewidth=2 if count == 1 else 1.2,
            alpha=1 if count == 1 else 0.7,
            label=label if sample == 0 else None,
        )
    envelope_label = rf"{rate.kind} envelope of plain steps, $\rho$ = {rate.value:.4g}"
    axes.semilogy(
        steps,
        envelope,
        color=ENVELOPE,
        linewidth=1.5,
        dashes=(4, 2),
        label=envelope_label,
    )
    axes.set_xlabel("step $k$")
    axes.set_ylabel(r"absolute residual $\Vert T(x_k) - x_k \Vert$")
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", color="#e1e0d9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    axes.margins(x=0.02)
    return figure
