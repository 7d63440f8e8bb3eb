"""Imports run one way: fixed_points <- certificates <- optim <- models, with physics
and loss beside optim."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import deepinv_equilibrium

ROOT = Path(deepinv_equilibrium.__file__).parent
# What each folder may import of the package, besides itself.
ALLOWED = {
    "fixed_points": set(),
    "certificates": {"fixed_points"},
    "physics": {"fixed_points", "certificates"},
    "loss": {"fixed_points", "certificates"},
    "datasets": set(),
    "optim": {"fixed_points", "certificates", "plugins"},
    "models": {"fixed_points", "certificates", "optim", "plugins"},
}
FILES = sorted(path for folder in ALLOWED for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Absolute names of the modules that a file imports, anywhere in it."""
    package = ("deepinv_equilibrium", *path.relative_to(ROOT).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1])
            parts = [base] if node.level else []
            parts += [node.module] if node.module else []
            name = ".".join(parts)
            found.add(name)
            if name == "deepinv_equilibrium":
                found |= {f"{name}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    own = {
        name.split(".")[1]
        for name in imports(path)
        if name.startswith("deepinv_equilibrium.")
    }
    assert own <= ALLOWED[folder] | {folder}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "fixed_points").rglob("*.py")), ids=lambda p: p.stem
)
def test_fixed_points_know_torch_only(path: Path) -> None:
    outside = {name.split(".")[0] for name in imports(path)} - {"deepinv_equilibrium"}
    assert outside - set(sys.stdlib_module_names) <= {"torch"}
