"""The architecture page describes the folders that exist and draws their imports."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
DOCS, PACKAGE = ROOT / "docs", ROOT / "deepinv_equilibrium"


@pytest.fixture(scope="module")
def picture() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS / "_ext")
        return importlib.import_module("folder_picture")


def test_table_lists_exactly_the_folders_of_the_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*/__init__.py")}
    text = (DOCS / "architecture.rst").read_text("utf-8")
    assert set(re.findall(r"``(\w+)/``", text)) == {folder.name for folder in folders}
    top = {folder.name for folder in folders if folder.parent == PACKAGE}
    assert set(re.findall(r"\* - ``(\w+)/``", text)) == top


def test_read_counts_modules_and_imports(picture: ModuleType, tmp_path: Path) -> None:
    files = {
        "__init__.py": "from .high import a",
        "low/__init__.py": "",
        "low/a.py": "import os",
        "low/deep/__init__.py": "from ..a import os",
        "high/__init__.py": "from ..low import a",
        "high/b.py": "import house.low.a\nfrom ..middle import x, y",
        "middle.py": "def f():\n    from .low.a import os",
    }
    for name, text in files.items():
        path = tmp_path / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    package = picture.read(tmp_path / "house")
    assert package.modules == {"low": 1, "high": 1, "middle": 1}
    assert package.rooms == {"low": ["deep"], "high": [], "middle": []}
    counts = {("high", "low"): 2, ("high", "middle"): 2, ("middle", "low"): 1}
    assert package.imports == counts
    assert picture.levels(package) == [["low"], ["middle"], ["high"]]
    # high imports low as well, which follows from the other two.
    assert picture.arrows(package) == [("high", "middle"), ("middle", "low")]


def test_draw_writes_a_picture_whose_arrows_point_down(
    picture: ModuleType, tmp_path: Path
) -> None:
    package = picture.read(PACKAGE)
    centres = picture.place(package)
    assert set(centres) == set(package.modules)
    assert len(set(centres.values())) == len(centres)
    for user, used in package.imports:
        assert centres[user][1] > centres[used][1]
    for theme in picture.COLOURS:
        picture.draw(package, tmp_path / f"{theme}.svg", theme)
        assert (tmp_path / f"{theme}.svg").stat().st_size > 10_000
