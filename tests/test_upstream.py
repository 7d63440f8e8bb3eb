"""The defects of deepinv that ``upstream`` reproduces are those of the deepinv here."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import deepinv
import pytest

ROOT = Path(__file__).parents[1]
REPRODUCED_WITH = "0.5.0"
FILES = sorted((ROOT / "upstream").glob("test_*.py"))


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"upstream_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _tests_in(module: ModuleType) -> list[Callable[[str], None]]:
    return [test for name, test in vars(module).items() if name.startswith("test_")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem[5:])
def test_deepinv_still_has_the_defect(path: Path) -> None:
    """A skipped test is good news: our own code for the defect can go, or change."""
    module = load(path)
    assert (ROOT / module.OURS).exists()
    for test in _tests_in(module):
        try:
            test("cpu")
        except (AssertionError, KeyError, pytest.fail.Exception):
            continue
        # Users run the suite with newer versions: there it reports, and does not fail.
        report = pytest.fail if deepinv.__version__ == REPRODUCED_WITH else pytest.skip
        report(
            f"deepinv {deepinv.__version__} passes upstream/{path.name}: what "
            f"{module.OURS} does about it may be simplified."
        )


def test_every_reproduction_has_a_patch_and_is_listed() -> None:
    names = {path.stem[5:] for path in FILES}
    assert len(names) >= 10
    assert names == {path.stem for path in (ROOT / "upstream/patches").iterdir()}
    listed = (ROOT / "upstream" / "README.md").read_text("utf-8")
    assert all(f"`{name}`" in listed for name in names)
