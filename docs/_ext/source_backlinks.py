"""Mend the links ``[docs]`` of the source pages.

Sphinx forms their anchors from one public name for each module. Objects of a module may
be public under several names, such as ``deq.Solution`` and ``deq.fixed_points.Report``.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from typing import Any

from sphinx.application import Sphinx


def mend(
    app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Replace anchors that the page of an object does not have."""
    if not pagename.startswith("_modules/"):
        return
    anchors: dict[str, set[str]] = defaultdict(set)
    for _, _, _, docname, anchor, _ in app.env.domains["py"].get_objects():
        anchors[docname].add(anchor)

    def mended(match: re.Match[str]) -> str:
        start, path, anchor = match.groups()
        folder = posixpath.dirname(pagename)
        page = anchors[posixpath.normpath(posixpath.join(folder, path))]
        parts = anchor.split(".")
        for first in range(len(parts)):  # the longest end that they share
            for other in sorted(page):
                if f".{other}".endswith("." + ".".join(parts[first:])):
                    return f'{start}{path}.html#{other}"'
        return match[0]

    link = r'(<a class="viewcode-back" href=")([^"#]*)\.html#([^"]*)"'
    context["body"] = re.sub(link, mended, context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the hook."""
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
