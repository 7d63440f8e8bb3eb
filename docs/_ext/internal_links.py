"""Warn of links of the built pages that lead nowhere, and of remote scripts and styles.

Sphinx checks its own references. This extension reads the HTML as a browser does: it
also sees raw HTML, the theme, and the pages that are generated.
"""

from __future__ import annotations

import os
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:  # the tests of this module run without Sphinx
    from sphinx.application import Sphinx

GENERATED = ("genindex.html", "py-modindex.html", "search.html", "_modules/**/*.html")
NEEDED = {"script": "src", "link": "href"}
"""Tags whose files a page needs to be shown, and the attribute with the address."""


class Page(HTMLParser):
    """The identifiers and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.identifiers: set[str] = set()
        self.links: list[str] = []
        self.remote: list[str] = []
        """Addresses of scripts and styles outside the site."""
        self.feed(text)

    def handle_starttag(
        self, tag: str, attributes: list[tuple[str, str | None]]
    ) -> None:
        """Collect what a tag declares and to what it refers."""
        values = {name: value for name, value in attributes if value is not None}
        self.identifiers.update(values[n] for n in ("id", "name") if n in values)
        self.links.extend(values[n] for n in ("href", "src") if n in values)
        address = values.get(NEEDED.get(tag, ""), "")
        if is_remote(address) and values.get("rel") != "canonical":
            self.remote.append(address)


def is_remote(address: str) -> bool:
    """Whether an address is not that of a file of the site."""
    parts = urlsplit(address)
    return bool(parts.scheme or parts.netloc)


def faults(root: Path, files: list[Path]) -> list[tuple[Path, str]]:
    """Find the links of pages to files and identifiers that do not exist.

    :param pathlib.Path root: folder of the site.
    :param list files: its pages.
    :return: page and message of each fault.
    """

    @cache
    def read(path: Path) -> Page:
        return Page(path.read_text("utf-8"))

    def fault(file: Path, link: str) -> str | None:
        parts = urlsplit(link)
        path, identifier = unquote(parts.path), unquote(parts.fragment)
        target = Path(os.path.normpath(file.parent / path)) if path else file
        if target.is_dir():
            target /= "index.html"
        if not target.is_relative_to(root):
            return f"link that leaves the site: {link}"
        if not target.exists():
            return f"link to a file that does not exist: {link}"
        declared = read(target).identifiers if target.suffix == ".html" else ()
        if identifier and identifier not in declared:
            return f"link to an id that does not exist: {link}"
        return None

    found = []
    for file in files:
        page = read(file)
        messages = [f"needs a remote file: {address}" for address in page.remote]
        messages += [fault(file, link) for link in page.links if not is_remote(link)]
        found += [(file, message) for message in dict.fromkeys(messages) if message]
    return found


def check(app: Sphinx, exception: Exception | None) -> None:
    """Warn of the faults of a build that has succeeded."""
    if exception is not None or app.builder.format != "html":
        return
    from sphinx.util import logging

    logger = logging.getLogger(__name__)
    root = Path(app.outdir)
    names = [app.builder.get_outfilename(name) for name in app.env.found_docs]
    files = [Path(name) for name in names]
    files += [path for pattern in GENERATED for path in root.glob(pattern)]
    for file, message in faults(root, sorted(files)):
        logger.warning("%s: %s", file.relative_to(root), message)


def setup(app: Sphinx) -> dict[str, bool]:
    """Check the pages after everything else has been written."""
    app.connect("build-finished", check, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
