from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

from deepinv_equilibrium import fixed_points

FOLDER = Path(fixed_points.__file__).parent
MODULES = [
    fixed_points.__name__,
    *(
        m.name
        for m in pkgutil.walk_packages([str(FOLDER)], f"{fixed_points.__name__}.")
    ),
]


@pytest.mark.parametrize(
    "path", sorted(FOLDER.rglob("*.py")), ids=lambda p: str(p.relative_to(FOLDER))
)
def test_imports_torch_and_the_standard_library_only(path: Path) -> None:
    depth = len(path.relative_to(FOLDER).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [str(node.module)]
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= depth, f"line {node.lineno} leaves fixed_points"
            continue
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            assert top == "torch" or top in sys.stdlib_module_names, name


def test_every_public_name_is_there_and_sorted() -> None:
    assert len(set(fixed_points.__all__)) == len(fixed_points.__all__)
    for name in fixed_points.__all__:
        assert getattr(fixed_points, name) is not None


def test_docstring_examples_run() -> None:
    attempted = 0
    for name in MODULES:
        result = doctest.testmod(importlib.import_module(name))
        assert result.failed == 0, name
        attempted += result.attempted
    assert attempted >= 5
