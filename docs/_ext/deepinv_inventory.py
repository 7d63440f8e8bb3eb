"""An intersphinx inventory of deepinv's public names, without the network.

deepinv's documentation has one page a name, ``api/stubs/<name>.html``, with an anchor
of the same name.
"""

from __future__ import annotations

import importlib
import inspect
import zlib
from importlib.metadata import version
from pathlib import Path

MODULES = (
    "deepinv",
    "deepinv.datasets",
    "deepinv.loss",
    "deepinv.loss.metric",
    "deepinv.models",
    "deepinv.optim",
    "deepinv.optim.bregman",
    "deepinv.optim.optim_iterators",
    "deepinv.physics",
    "deepinv.physics.generator",
    "deepinv.utils",
)


def write_inventory(path: Path) -> Path:
    """Write the inventory of the installed deepinv to ``path``, and return ``path``."""
    lines = [line for module in MODULES for line in _entries(module)]
    path.parent.mkdir(parents=True, exist_ok=True)
    header = (
        "# Sphinx inventory version 2\n"
        "# Project: deepinv\n"
        f"# Version: {version('deepinv')}\n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    path.write_bytes(header.encode() + zlib.compress("\n".join(lines).encode()))
    return path


def _entries(module: str) -> list[str]:
    """List what a module offers, by the public name and by where it is defined."""
    entries = [f"{module} py:module 1 api/{module}.html {module}"]
    for name, value in vars(importlib.import_module(module)).items():
        if name.startswith("_") or not getattr(value, "__module__", "").startswith(
            "deepinv"
        ):
            continue
        public = f"{module}.{name}"
        page = f"api/stubs/{public}.html"
        role = "class" if inspect.isclass(value) else "function"
        # The bases that autodoc shows are named by where they are defined.
        for alias in dict.fromkeys((public, f"{value.__module__}.{name}")):
            entries.append(f"{alias} py:{role} 1 {page}#{public} {public}")
        if inspect.isclass(value):
            for method in (m for m in vars(value) if not m.startswith("_")):
                member = f"{public}.{method}"
                entries.append(f"{member} py:method 1 {page}#{member} {member}")
    return entries
