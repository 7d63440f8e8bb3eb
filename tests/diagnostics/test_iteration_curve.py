from __future__ import annotations

import matplotlib.pyplot as plt
import pytest
import torch

from deepinv_equilibrium.diagnostics import IterationCurve, plot_iterations

X = torch.rand(2, 1, 6, 7)


def test_psnr_and_residual_of_each_sample() -> None:
    images = [X + 0.1, X + 0.01, X + 0.01]
    curve = IterationCurve.of(images, X, every=5)
    assert curve.iterations.tolist() == [5, 10, 15]
    expected = torch.tensor([[20.0, 20.0], [40.0, 40.0], [40.0, 40.0]])
    torch.testing.assert_close(curve.psnr, expected, rtol=0, atol=1e-3)
    assert curve.residual[0].isnan().all()
    sizes = images[1].flatten(1).norm(dim=1)
    moved = (images[1] - images[0]).flatten(1).norm(dim=1)
    torch.testing.assert_close(curve.residual[1], (moved / sizes).double())
    assert (curve.residual[2] == 0).all()


def test_counts_the_layers_of_a_block() -> None:
    class Blocks(list):
        layers = 4

    assert IterationCurve.of(Blocks([X, X]), X).iterations.tolist() == [4, 8]
    assert IterationCurve.of(Blocks([X]), X, every=3).iterations.tolist() == [3]


def test_images_are_taken_from_a_generator() -> None:
    curve = IterationCurve.of((X + 1 / k for k in range(1, 4)), X)
    assert curve.iterations.tolist() == [1, 2, 3]
    assert (curve.psnr.diff(dim=0) > 0).all()


def test_plots_what_is_finite_and_marks_the_training() -> None:
    good = IterationCurve.of([X + 1 / k for k in range(1, 9)], X)
    bad = IterationCurve.of([X * 10.0**k for k in range(0, 60, 6)], X)
    figure = plot_iterations({"one": good, "two": bad}, {"two": 3})
    left, right = figure.axes
    assert [line.get_label() for line in left.lines[:2]] == ["one", "two"]
    shown = torch.as_tensor(left.lines[0].get_ydata())
    torch.testing.assert_close(shown, good.psnr.double().mean(1))
    assert left.lines[2].get_xdata() == [3, 3]
    assert right.get_yscale() == "log"
    plt.close(figure)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="images is empty"):
        IterationCurve.of([], X)
    with pytest.raises(ValueError, match="shape of x"):
        IterationCurve.of([X[:1]], X)
    with pytest.raises(ValueError, match="every"):
        IterationCurve.of([X], X, every=0)
    with pytest.raises(ValueError, match="at least one curve"):
        plot_iterations({})
    with pytest.raises(TypeError, match="must be a dictionary"):
        plot_iterations(IterationCurve.of([X], X))
    with pytest.raises(ValueError, match="'other'"):
        plot_iterations({"one": IterationCurve.of([X], X)}, {"other": 3})
