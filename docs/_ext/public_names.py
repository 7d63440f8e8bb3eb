"""Resolve references to an object by any name that it can be imported by.

An object has one page, under its public name; docstrings and signatures may name it by
the module that defines it, by a package that re-exports it, or by its name alone.
"""

from __future__ import annotations

import importlib
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

PACKAGE = "deepinv_equilibrium"


def _import(name: str) -> Any:
    """Return the object of a dotted name, or None."""
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:split]))
        except ImportError:
            continue
        for attribute in parts[split:]:
            value = getattr(value, attribute, None)
        return value
    return None


def _inherited(owner: str, member: str) -> str:
    """Return the full name of a member that a class inherits, else ``member``."""
    for base in getattr(_import(owner), "__mro__", ()):
        if base.__module__.startswith(PACKAGE) and member in vars(base):
            return f"{base.__module__}.{base.__qualname__}.{member}"
    return member


def _has_field(name: str, field: str) -> bool:
    owner = _import(name)
    fields = getattr(owner, "__dataclass_fields__", ())
    return not field or field in fields or hasattr(owner, field)


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Element
) -> nodes.Element | None:
    """Resolve a reference that Sphinx did not find."""
    target, field = node.get("reftarget", ""), ""
    if node.get("refdomain") != "py":
        return None
    if node.get("py:class"):  # inherited members are on the page of their class
        target = _inherited(f"{node['py:module']}.{node['py:class']}", target)
    if node.get("reftype") == "attr":  # the fields of a dataclass are on its page
        target, _, field = target.rpartition(".")
    wanted = _import(target) if target.startswith(PACKAGE) else None
    for name, _, kind, docname, anchor, _ in env.domains["py"].get_objects():
        # Values such as numbers and tuples are equal without being the same thing.
        same = kind != "module" and callable(wanted) and _import(name) is wanted
        if (same or name.endswith(f".{target}")) and _has_field(name, field):
            reference = nodes.reference("", "", contnode, internal=True)
            reference["refuri"] = (
                app.builder.get_relative_uri(node["refdoc"], docname) + "#" + anchor
            )
            return reference
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the resolver."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}
