from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.diagnostics import (
    IterationCurve,
    iteration_curve,
    plot_iterations,
)

from .step_model import PHYSICS, StepModel

X = torch.rand(2, 1, 6, 7, dtype=torch.float64)


def curve_of(images: Iterable[Tensor], x: Tensor = X, **options: Any) -> IterationCurve:
    """The curve of a model whose step returns one given image after the other."""
    images = list(images)
    following = iter(images)
    DEQ = deq.Equilibrium(**options)
    model = StepModel(lambda state: next(following), X, DEQ)
    return iteration_curve(model, X, PHYSICS, x, len(images))


def test_curve_has_psnr_and_residual_of_each_sample() -> None:
    images = [X + 0.1, X + 0.01, X + 0.01]
    curve = curve_of(images)
    assert curve.iterations.tolist() == [1, 2, 3]
    expected = torch.tensor([[20.0, 20.0], [40.0, 40.0], [40.0, 40.0]]).double()
    torch.testing.assert_close(curve.psnr.double(), expected, rtol=0, atol=1e-3)
    assert curve.residual[0].isnan().all()
    sizes = images[1].flatten(1).norm(dim=1)
    moved = (images[1] - images[0]).flatten(1).norm(dim=1)
    torch.testing.assert_close(curve.residual[1], moved / sizes)
    assert (curve.residual[2] == 0).all()


def test_curve_counts_the_layers_of_a_block() -> None:
    assert curve_of([X, X], layers=4).iterations.tolist() == [4, 8]


def test_psnr_rises_with_images_that_approach_the_truth() -> None:
    curve = curve_of(X + 1 / k for k in range(1, 4))
    assert (curve.psnr.diff(dim=0) > 0).all()


def test_plot_shows_finite_means_and_marks_training() -> None:
    good = curve_of(X + 1 / k for k in range(1, 9))
    bad = curve_of(X.float() * 10.0**k for k in range(0, 60, 6))
    figure = plot_iterations({"one": good, "two": bad}, {"two": 3})
    left, right = figure.axes
    assert [line.get_label() for line in left.lines[:2]] == ["one", "two"]
    shown = torch.as_tensor(left.lines[0].get_ydata())
    torch.testing.assert_close(shown, good.psnr.double().mean(1))
    assert left.lines[2].get_xdata() == [3, 3]
    assert right.get_yscale() == "log"
    plt.close(figure)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="x must have the shape"):
        curve_of([X], X[:1])
    with pytest.raises(ValueError, match="count must be"):
        curve_of([])
    with pytest.raises(ValueError, match="at least one curve"):
        plot_iterations({})
    with pytest.raises(TypeError, match="must be a dictionary"):
        plot_iterations(curve_of([X]))
    with pytest.raises(ValueError, match="'other'"):
        plot_iterations({"one": curve_of([X])}, {"other": 3})
