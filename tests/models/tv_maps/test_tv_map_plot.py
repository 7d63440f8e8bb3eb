"""Figures of a TV map and images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from deepinv.physics import Denoising
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from deepinv_equilibrium.models import ConstantTVMap, TVMapReconstructor, UNetTVMap
from deepinv_equilibrium.models.tv_maps.tv_map_plot import plot_tv_map


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def titles(figure: Figure) -> list[str]:
    return [title for axis in figure.axes if (title := axis.get_title())]


def shown(figure: Figure, index: int) -> np.ndarray:
    return np.asarray(figure.axes[index].images[0].get_array())


def test_model_plots_its_map() -> None:
    model = TVMapReconstructor(UNetTVMap(1, (0, 1), filters=2, depth=2), max_iter=3)
    y, physics = torch.rand(2, 1, 8, 7), Denoising()
    figure = model.plot(y, physics)
    assert titles(figure) == [
        r"$A^\top y$",
        "reconstruction",
        "weight of $D_y$",
        "weight of $D_x$",
    ]
    with torch.no_grad():
        x, weight = model(y, physics), model.parameter_map(y, physics)
    np.testing.assert_array_equal(shown(figure, 0), y[0, 0])
    np.testing.assert_array_equal(shown(figure, 1), x[0, 0].clamp(0, 1))
    np.testing.assert_array_equal(shown(figure, 2), weight[0, 0, 0])
    np.testing.assert_array_equal(shown(figure, 3), weight[0, 0, 1])
    assert not x.requires_grad


def test_plot_shows_one_panel_for_each_group() -> None:
    weight = torch.rand(1, 1, 3, 4, 6, 5)
    figure = plot_tv_map({"x": torch.rand(1, 2, 4, 6, 5)}, weight, (0, 1, 1))
    assert titles(figure) == ["x", "weight of $D_t$", "weight of $D_y$, $D_x$"]
    np.testing.assert_array_equal(shown(figure, 1), weight[0, 0, 0, 2])
    np.testing.assert_array_equal(shown(figure, 2), weight[0, 0, 1, 2])


def test_plot_expands_a_constant_weight() -> None:
    model = TVMapReconstructor(ConstantTVMap((0, 0), 0.2), max_iter=3)
    figure = model.plot(torch.rand(1, 3, 8, 7), Denoising())
    assert shown(figure, 0).shape == (8, 7, 3)
    np.testing.assert_allclose(shown(figure, 2), np.full((8, 7), 0.2), rtol=1e-6)


def test_plot_shows_the_modulus_of_complex_images() -> None:
    x = torch.rand(1, 2, 6, 5) / 2
    weight = torch.rand(1, 1, 2, 6, 5)
    both = {"parts": x, "complex": torch.complex(x[:, :1], x[:, 1:])}
    figure = plot_tv_map(both, weight, (0, 0))
    modulus = x[0].norm(dim=0)
    for index in range(2):
        np.testing.assert_allclose(shown(figure, index), modulus, rtol=1e-6)
