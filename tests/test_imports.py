"""Imports run one way, in no circle, and every module has a name of its own."""

from __future__ import annotations

import ast
import collections
import functools
import graphlib
import importlib
import sys
from pathlib import Path

import deepinv_equilibrium

NAME = "deepinv_equilibrium"
ROOT = Path(deepinv_equilibrium.__file__).parent
# From the lowest to the highest; a folder imports itself and the levels below it.
LEVELS = (
    ("fixed_points",),
    ("certificates",),
    ("diagnostics",),
    ("equilibrium",),
    ("physics", "loss", "datasets"),
    ("optim",),
    ("models",),
    ("presets",),
)
# The registry, which only the presets may import, as they look names up. It imports the
# base classes of the kinds of components, which deepinv and the lowest level define.
REGISTRY = "plugins"
REGISTRY_IMPORTS = {f"{NAME}.{LEVELS[0][0]}"}
# The contract suites may import everything, and nothing imports them.
SUITES = "testing"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join((NAME, *parts)).removesuffix(".__init__")


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
FOLDERS = [path.parent for path in FILES.values() if path.name == "__init__.py"]


@functools.cache
def imports(module: str) -> set[str]:
    """Absolute names of what a file imports, in functions and under TYPE_CHECKING too,
    and of modules of the package that it names in strings, to look them up."""
    path = FILES[module]
    package = module.split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            whole = {f"{name}.{alias.name}" for alias in node.names}
            modules = whole & FILES.keys()
            found |= modules or {name}
        elif isinstance(node, ast.Constant) and node.value in FILES.keys() - {NAME}:
            found.add(node.value)
    return found - {module}


def folder(module: str) -> str:
    return [*module.split("."), ""][1]


def inside(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == NAME}


def test_imports_run_down_the_levels() -> None:
    allowed: set[str] = set()
    for level in LEVELS:
        for own in level:
            known = allowed | {own} | ({REGISTRY} if own == "presets" else set())
            for module in (name for name in FILES if folder(name) == own):
                assert {folder(name) for name in inside(module)} <= known, module
        allowed |= {*level}


def test_registry_imports_the_base_classes_only() -> None:
    assert inside(f"{NAME}.{REGISTRY}") == REGISTRY_IMPORTS


def test_every_folder_has_its_level() -> None:
    levels = {name for names in LEVELS for name in names}
    assert {folder(name) for name in FILES} - {""} == levels | {REGISTRY, SUITES}


def test_nothing_imports_the_contract_suites() -> None:
    users = [name for name in FILES if SUITES in map(folder, inside(name))]
    assert {folder(name) for name in users} <= {SUITES}


def test_no_circle() -> None:
    # CycleError, raised where there is one, shows it.
    graphlib.TopologicalSorter({m: inside(m) for m in FILES}).prepare()


def test_fixed_points_know_torch_and_numpy_only() -> None:
    # NumPy keeps the books of a batch on the host, several times as fast as torch.
    for module in (name for name in FILES if folder(name) == "fixed_points"):
        outside = {name.split(".")[0] for name in imports(module)} - {NAME}
        assert outside - set(sys.stdlib_module_names) <= {"torch", "numpy"}, module


def test_no_module_is_shadowed() -> None:
    for module in FILES:
        parent, _, name = module.rpartition(".")
        loaded = importlib.import_module(module)
        if parent:
            assert getattr(importlib.import_module(parent), name) is loaded, module


def test_every_module_has_a_name_of_its_own() -> None:
    counts = collections.Counter(module.rpartition(".")[2] for module in FILES)
    assert [name for name, count in counts.items() if count > 1] == []


def test_a_folder_fits_a_glance() -> None:
    for path in FOLDERS:
        shown = [
            p
            for p in path.iterdir()
            if p.suffix == ".py" or (p / "__init__.py").is_file()
        ]
        assert len(shown) <= 20, path
