"""The plot of a solve under its certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..fixed_points import Solution
    from .certificate import Certificate


OBSERVED, ENVELOPE = "#2a78d6", "#52514e"


def plot_envelope(certificate: Certificate, solution: Solution) -> Figure:
    r"""
    Absolute residuals of every sample, and the envelope :math:`c \rho^k r_0` of the
    plain iteration from the largest first residual, with the ``residual_factor``
    :math:`c` of the contraction. Residuals of an accelerated solver need not stay under
    it.

    :param Certificate certificate: has the rate.
    :param Solution solution: has the residuals.
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
    rate = certificate.rate
    if not rate.value < 1:
        raise ValueError(
            f"there is no envelope to plot: the rate is not below 1, {rate}."
        )
    history = solution.absolute_history.double().cpu()
    steps = torch.arange(len(history), dtype=torch.float64)
    factor = certificate.contraction.residual_factor.value
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
    axes.set_title(f"{certificate.model} with {certificate.physics}", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", color="#e1e0d9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    axes.margins(x=0.02)
    return figure
