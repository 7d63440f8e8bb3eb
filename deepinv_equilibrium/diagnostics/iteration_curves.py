"""The images that a model goes through, iteration by iteration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from deepinv.loss.metric import PSNR
from deepinv.optim import BaseOptim
from deepinv.physics import Physics
from torch import Tensor

from ..fixed_points.argument_checks import require_count

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Iterates:
    r"""
    The images after 1, 2, ..., ``count`` applications of a model's step to its initial
    state, however many it makes itself, without acceleration and without gradient: to
    be iterated over.

    - A model that solves a fixed-point problem (it has ``fixed_point_problem``): its
      step, one block of :attr:`layers` iterations.
    - Another optimiser of deepinv, plain or unfolded: its iteration. Parameters and
      priors of their own for each of its :math:`K` iterations are followed as far as
      they go; those of the last are repeated from there on.

    :param model: the model.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param int count: how many, at least 1.
    :raises TypeError: if the model is neither; what it goes through cannot be known.
    :raises ValueError: if ``count`` is not positive.
    """

    layers: int
    """Iterations between two of the images."""

    def __init__(self, model: Any, y: Tensor, physics: Physics, count: int) -> None:
        require_count("count", count, 1)
        self.model, self.y, self.physics, self.count = model, y, physics, count
        # An optimiser of this package without DEQ is deepinv's own.
        config: Any = getattr(model, "equilibrium", None)
        self._of_step = hasattr(model, "fixed_point_problem") and config is not None
        self.layers = config.layers if self._of_step else 1
        if not self._of_step and not isinstance(model, BaseOptim):
            raise TypeError(
                "model must solve a fixed-point problem (deq.optim.PGD(..., DEQ=...)) "
                f"or be an optimiser of deepinv, got {type(model).__name__}; give "
                "IterationCurve.of the images of its iterations in the place of them."
            )

    def __iter__(self) -> Iterator[Tensor]:
        """The images, as they are asked for."""
        return self._steps() if self._of_step else self._iterations()

    def _steps(self) -> Iterator[Tensor]:
        with torch.no_grad():
            step, state = self.model.fixed_point_problem(self.y, self.physics)
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


COLOURS = ("#2a78d6", "#c8553d", "#3f9b6c", "#8a5fbf", "#52514e")


@dataclass(frozen=True)
class IterationCurve:
    r"""
    What iterating further does to a model's images, observed.

    :param torch.Tensor iterations: the numbers of iterations, of shape :math:`(n,)`.
    :param torch.Tensor psnr: PSNR in dB for images in :math:`[0, 1]`, iterations
        :math:`\times` samples.
    :param torch.Tensor residual: :math:`\|x_k - x_{k-1}\| / \|x_k\|`, likewise; NaN for
        the first, which has none before it.
    """

    iterations: Tensor
    psnr: Tensor
    residual: Tensor

    @staticmethod
    def of(
        images: Iterable[Tensor], x: Tensor, every: int | None = None
    ) -> IterationCurve:
        r"""
        :param Iterable images: the images after each step, such as those of
            :class:`~deepinv_equilibrium.diagnostics.Iterates`.
        :param torch.Tensor x: the true images.
        :param int every: iterations between two images. Default: ``None``, the layers
            that :class:`~deepinv_equilibrium.diagnostics.Iterates` knows, else 1.
        :return: (IterationCurve) the curve.
        :raises ValueError: if there is no image, or they are of another shape than the
            true ones.
        """
        if every is None:
            every = getattr(images, "layers", 1)
        require_count("every", every, 1)
        metric, before = PSNR(), None
        values, residuals = [], []
        for image in images:
            if image.shape != x.shape:
                raise ValueError(
                    f"images must have the shape of x, {tuple(x.shape)}, got "
                    f"{tuple(image.shape)}."
                )
            values.append(metric(image, x).detach().reshape(-1).cpu())
            moved = image if before is None else image - before
            ratio = _norms(moved) / _norms(image)
            residuals.append(
                torch.full_like(ratio, torch.nan) if before is None else ratio
            )
            before = image
        if not values:
            raise ValueError("images is empty: give at least one.")
        steps = every * torch.arange(1, len(values) + 1)
        return IterationCurve(steps, torch.stack(values), torch.stack(residuals))


def plot_iterations(
    curves: Mapping[str, IterationCurve], trained: Mapping[str, int] | None = None
) -> Figure:
    r"""
    PSNR and residual against the number of iterations: the mean over the samples, and
    all of them between the least and the largest.

    An unrolled network is best where it was trained and may lose everything beyond; an
    equilibrium model goes on as it was :footcite:p:`gilton2021deep`.

    :param Mapping curves: a name and a curve for each model.
    :param Mapping trained: for some of the names the iterations it was trained with,
        which are marked.
    :return: (matplotlib.figure.Figure) two panels.
    :raises ImportError: if matplotlib is not installed.
    :raises TypeError: if ``curves`` is no dictionary.
    :raises ValueError: if there is no curve, or a name in ``trained`` has none.
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
        colour = COLOURS[index % len(COLOURS)]
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


def _norms(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.flatten(1), dim=1).double().cpu()
