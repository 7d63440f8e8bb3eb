"""Each row of the table of systems says what exists."""

from __future__ import annotations

import operator
import re
from pathlib import Path

import pytest

import deepinv_equilibrium
from deepinv_equilibrium import plugins

from .one_test import in_one_test

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "user_guide" / "systems.rst").read_text("utf-8")
HEADER = ["System", "Class", "Entry point", "Paper, equation", "Test", "Page"]

_rows = re.findall(r"   \* - (.+(?:\n     - .+){5})", TEXT)
ROWS = [re.split(r"\n     - ", row) for row in _rows]
SYSTEMS = [row for row in ROWS if row != HEADER]


def test_every_line_of_the_tables_was_read() -> None:
    assert TEXT.count("   * - ") == len(ROWS)
    assert ROWS.count(HEADER) == TEXT.count(".. list-table::")


@in_one_test("row", SYSTEMS, ids=lambda row: row[0][:40])
def test_row(row: list[str]) -> None:
    _, classes, entry_points, paper, test, page = row
    assert re.search(r":(class|func):`~deepinv_equilibrium\.", classes)
    known = {name for kind in plugins.KINDS for name in plugins.names(kind)}
    named = [n for n in re.findall(r"``([^`]+)``", entry_points) if "-" in n]
    assert set(named) <= known
    assert named or entry_points.startswith(("every", "``"))
    assert paper.strip()
    assert (ROOT / "tests" / test.strip("`")).exists()
    example = re.fullmatch(r":class:`Example <deepinv_equilibrium\.(.+)>`", page)
    if example is not None:
        component = operator.attrgetter(example[1])(deepinv_equilibrium)
        assert ":Example:" in component.__doc__
        return
    script = re.fullmatch(r":doc:`/auto_gallery/([\w/]+)`", page)
    assert script is not None
    assert (ROOT / "gallery" / f"{script[1]}.py").exists()


@pytest.mark.parametrize("kind", ["reconstructors", "priors", "data_fidelities"])
def test_every_component_of_the_package_has_a_row_or_is_a_part(kind: str) -> None:
    # Not systems of the papers: GSPnP of deepinv with an energy, and parts of others.
    parts = {"gradient-step-pgd", "ridge-regulariser", "ridge-l2", "channelwise"}
    listed = set(re.findall(r"``([\w-]+)``", TEXT))
    own = plugins.names(kind)
    assert set(own) - parts <= listed
