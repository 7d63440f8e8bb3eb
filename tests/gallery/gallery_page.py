"""Run a page of the gallery with other settings, as ``repeat.py`` does."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

GALLERY = Path(__file__).parents[2] / "gallery"
REPEAT = runpy.run_path(str(GALLERY / "experiments" / "repeat.py"))

Record = dict[str, dict[str, list[float]]]


def run_page(name: str, folder: Path, **settings: object) -> dict[str, Any]:
    """The names that a page defines, and under "printed" what it prints.

    Its figures are written to ``folder``, small and without a layout and ticks, which
    would take a fifth of the time; a page without a figure fails.
    """
    values = {constant: repr(value) for constant, value in settings.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(Figure, "savefig", _save_small)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names: dict[str, Any] = REPEAT["run_page"](name, values)
    assert all(path.stat().st_size > 5_000 for path in folder.glob("*.png"))
    assert list(folder.glob("*.png"))
    return names | {"printed": printed.getvalue()}


def _save_small(figure: Figure, path: str, **_: object) -> None:
    figure.set_layout_engine("none")
    figure.set_dpi(40)
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([])
            axis.set_ticks([], minor=True)
    # print_figure would draw it twice.
    FigureCanvasAgg(figure).print_png(path)


def record(page: str) -> dict[str, Any]:
    """The command, the seeds and the results of the longer runs of a page."""
    path = GALLERY / "experiments" / f"{page}.json"
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content
