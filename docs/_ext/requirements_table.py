"""The directive ``requirements``: the versions that the package is declared to support.

They are read from ``pyproject.toml``, beside the versions with which the documentation
was built.
"""

from __future__ import annotations

import platform
import re
from importlib import metadata
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; Sphinx requires tomli there
    import tomli as tomllib

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def rows(project: Path = PROJECT) -> list[tuple[str, str, str]]:
    """Return name, supported versions and installed version of what is required."""
    table = tomllib.loads(project.read_text("utf-8"))["project"]
    found = [("Python", table["requires-python"], platform.python_version())]
    for requirement in table["dependencies"]:
        name, versions = re.fullmatch(
            r"([\w.-]+)(?:\[[^]]*\])?\s*(.*)", requirement
        ).groups()
        found.append((name, versions or "any", metadata.version(name)))
    return found


class Requirements(SphinxDirective):
    """``.. requirements::``: a table with a row for Python and each dependency."""

    def run(self) -> list[nodes.Node]:
        """Write the table as reST and parse it."""
        self.env.note_dependency(str(PROJECT))
        lines = [".. list-table::", "   :header-rows: 1", ""]
        header = ("Package", "Supported versions", "Version here")
        for row in (header, *rows()):
            for first, cell in zip("*  ", row, strict=True):
                lines.append(f"   {first} - {cell}")
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("requirements", Requirements)
    return {"parallel_read_safe": True}
