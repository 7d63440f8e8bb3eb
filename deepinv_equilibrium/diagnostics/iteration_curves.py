"""Images and quality of a model that iterates further than it was trained to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from deepinv.loss.metric import PSNR
from deepinv.optim import BaseOptim, DEQConfig
from deepinv.physics import Physics
from torch import Tensor

from ..certificates.gradients.step_jacobians import sample_norms
from ..fixed_points import State, Step
from ..fixed_points.argument_checks import require_count
from .fixed_point_models import fixed_point_problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Iterates:
    r"""
    Iterable over the images after 1, 2, ..., ``count`` applications of a model's step
    to its initial state, without acceleration and without gradient. Each image is
    computed when it is requested. The number of iterations that the model itself makes
    does not matter.

    - For a model that solves a fixed-point problem, the step is one block of
      :attr:`layers` iterations.
    - For an optimiser of deepinv, plain or unfolded, the step is one iteration. If each
      of its :math:`K` iterations has its own parameters and prior, all iterations
      beyond :math:`K` use the last ones.

    :param model: a model of this package, an optimiser of deepinv, or another model
        with ``fixed_point_problem(y, physics)`` and ``DEQ``.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param int count: number of images, at least 1.
    :raises TypeError: if the model is not one of these.
    :raises ValueError: if ``count`` is less than 1.
    """

    layers: int
    """Number of iterations between two images."""

    def __init__(self, model: Any, y: Tensor, physics: Physics, count: int) -> None:
        require_count("count", count, 1)
        self.model, self.y, self.physics, self.count = model, y, physics, count
        self.layers = 1
        self._problem: tuple[Step, State] | None = None
        # Without DEQ, an optimiser of this package is an optimiser of deepinv, whose
        # own attribute DEQ is a bool.
        if not isinstance(model, BaseOptim) or isinstance(model.DEQ, DEQConfig):
            with torch.no_grad():
                self._problem = fixed_point_problem(model, y, physics)
            self.layers = model.DEQ.layers

    def __iter__(self) -> Iterator[Tensor]:
        return self._iterations() if self._problem is None else self._steps()

    def _steps(self) -> Iterator[Tensor]:
        assert self._problem is not None
        step, state = self._problem
        evaluate = getattr(step, "step_and_output", None)
        for _ in range(self.count):
            with torch.no_grad():
                if evaluate is not None:
                    state, image = evaluate(state)
                else:
                    state = step(state)
                    image = state if isinstance(state, Tensor) else state[0]
            yield image

    def _iterations(self) -> Iterator[Tensor]:
        model, y, physics = self.model, self.y, self.physics
        lengths = [len(values) for values in model.params_algo.values()]
        last = max([*lengths, len(model.prior), len(model.data_fidelity)]) - 1
        with torch.no_grad():
            X = model.init_iterate_fn(y, physics)
        for k in range(self.count):
            layer = min(k, last)
            with torch.no_grad():
                X = model.fixed_point.iterator(
                    X,
                    model.update_data_fidelity_fn(layer),
                    model.update_prior_fn(layer),
                    model.update_params_fn(layer),
                    y,
                    physics,
                )
                image = model.get_output(X)
            yield image


@dataclass(frozen=True)
class IterationCurve:
    r"""
    Quality of a model's images against the number of iterations, observed. Computed by
    :func:`~deepinv_equilibrium.diagnostics.iteration_curve`.

    :param torch.Tensor iterations: numbers of iterations, of shape :math:`(n,)`.
    :param torch.Tensor psnr: PSNR in dB for images in :math:`[0, 1]`, of shape
        :math:`(n, B)`.
    :param torch.Tensor residual: :math:`\|x_k - x_{k-1}\| / \|x_k\|` for the images
        :math:`x_k`, of shape :math:`(n, B)`; NaN for the first image.
    """

    iterations: Tensor
    psnr: Tensor
    residual: Tensor


@torch.no_grad()
def iteration_curve(
    model: Any, y: Tensor, physics: Physics, x: Tensor, count: int
) -> IterationCurve:
    r"""
    Observe the quality of a model's images while it iterates further than it was
    trained to.

    :class:`~deepinv_equilibrium.diagnostics.Iterates` describes the images.

    :param model: a model of this package, an optimiser of deepinv, or another model
        with ``fixed_point_problem(y, physics)`` and ``DEQ``.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param torch.Tensor x: the true images, in :math:`[0, 1]`.
    :param int count: number :math:`n` of applications of the step, at least 1.
    :return: (IterationCurve) the curve, of :math:`n` points.
    :raises TypeError: if the model is not one of these.
    :raises ValueError: if ``count`` is less than 1, or ``x`` does not have the shape of
        the model's images.
    """
    images = Iterates(model, y, physics, count)
    metric, before = PSNR(), None
    values, residuals = [], []
    for image in images:
        if image.shape != x.shape:
            raise ValueError(
                "x must have the shape of the model's images, "
                f"{tuple(image.shape)}, got {tuple(x.shape)}."
            )
        values.append(metric(image, x).reshape(-1).cpu())
        size = sample_norms(image)
        moved = torch.nan if before is None else sample_norms(image - before)
        residuals.append((moved / size).cpu())
        before = image
    iterations = images.layers * torch.arange(1, count + 1)
    return IterationCurve(iterations, torch.stack(values), torch.stack(residuals))


_COLOURS = ("#2a78d6", "#c8553d", "#3f9b6c", "#8a5fbf", "#52514e")


def plot_iterations(
    curves: Mapping[str, IterationCurve], trained: Mapping[str, int] | None = None
) -> Figure:
    r"""
    Plot PSNR and residual against the number of iterations: the mean over the samples,
    and the range from the smallest to the largest sample.

    The quality of an unrolled network is highest near the number of iterations it was
    trained for and may drop beyond, whereas an equilibrium model keeps its quality
    :footcite:p:`gilton2021deep`.

    :param Mapping curves: a curve for the name of each model.
    :param Mapping trained: for some of these names, the number of iterations the model
        was trained with, which is marked by a vertical line. Default: ``None``.
    :return: (matplotlib.figure.Figure) a figure with two panels.
    :raises ImportError: if matplotlib is not installed.
    :raises TypeError: if ``curves`` is not a mapping.
    :raises ValueError: if ``curves`` is empty, or ``trained`` has a name that
        ``curves`` does not have.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "plotting needs matplotlib: pip install 'deepinv_equilibrium[gallery]'."
        ) from error
    if not isinstance(curves, Mapping):
        raise TypeError(
            "curves must be a dictionary, as in {'name': curve}, got "
            f"{type(curves).__name__}."
        )
    trained = {} if trained is None else trained
    unknown = sorted(set(trained) - set(curves))
    if not curves or unknown:
        raise ValueError(
            "curves must have at least one curve, and trained only names of curves: "
            f"{unknown} are not among {sorted(curves)}."
        )
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    for index, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        steps = curve.iterations.numpy()
        for axes, values in zip(panels, (curve.psnr, curve.residual), strict=True):
            values = values.double().nan_to_num(torch.nan, torch.nan, torch.nan)
            axes.plot(steps, values.mean(dim=1).numpy(), color=colour, label=name)
            axes.fill_between(
                steps,
                values.amin(dim=1).numpy(),
                values.amax(dim=1).numpy(),
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
            if name in trained:
                axes.axvline(trained[name], color=colour, linestyle=":", linewidth=1)
    for axes, title in zip(
        panels,
        ("PSNR in dB", r"residual $\Vert x_k - x_{k-1} \Vert / \Vert x_k \Vert$"),
        strict=True,
    ):
        axes.set(xscale="log", xlabel="iterations $k$")
        axes.set_title(title, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, color="#e1e0d9", linewidth=0.8)
        axes.set_axisbelow(True)
    panels[1].set_yscale("log")
    panels[0].legend(frameon=False)
    return figure
