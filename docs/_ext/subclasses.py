"""List the subclasses of a class that the package exports.

``.. subclasses:: fixed_points.Adjoint`` becomes an ``autosummary``, with the options of
the directive and a row for each subclass. A new adjoint thus gets its row and its page
by being exported.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.autosummary import generate

PACKAGE = "deepinv_equilibrium"


def _exported_subclasses(base: str) -> list[str]:
    """Return the concrete subclasses by the shortest name that is exported."""
    folder, _, name = base.rpartition(".")
    package = importlib.import_module(PACKAGE)
    module = importlib.import_module(f"{PACKAGE}.{folder}")
    found = []
    for exported in module.__all__:
        value = getattr(module, exported)
        if inspect.isclass(value) and issubclass(value, getattr(module, name)):
            short = exported if hasattr(package, exported) else f"{folder}.{exported}"
            found += [] if inspect.isabstract(value) else [short]
    return found


def _expand(text: str) -> str:
    def autosummary(match: re.Match[str]) -> str:
        rows = "".join(f"   {name}\n" for name in _exported_subclasses(match["base"]))
        return f".. autosummary::\n{match['options']}\n{rows}"

    pattern = r"^\.\. subclasses:: (?P<base>\S+)\n(?P<options>(?:   :.*\n)*)"
    return re.sub(pattern, autosummary, text, flags=re.MULTILINE)


def _source_read(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = _expand(source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Expand the directive, also where autosummary looks for the pages to generate."""
    app.connect("source-read", _source_read)
    find = generate.find_autosummary_in_lines

    def find_in_expanded(lines: list[str], *args: Any, **kwargs: Any) -> Any:
        return find(_expand("\n".join(lines) + "\n").splitlines(), *args, **kwargs)

    generate.find_autosummary_in_lines = find_in_expanded
    return {"parallel_read_safe": True}
