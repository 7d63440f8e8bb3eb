"""Warn of links of the built pages that lead nowhere, and of remote scripts and styles.

Sphinx checks its own references. This extension reads the HTML as a browser does: it
also sees raw HTML, the theme, and the pages that are generated.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

GENERATED = ("genindex.html", "py-modindex.html", "search.html", "_modules/**/*.html")
NEEDED = {"script": "src", "link": "href"}
"""Tags whose files a page needs to be shown, and the attribute with the address."""


@dataclass
class Page(HTMLParser):
    """The identifiers and addresses of a page."""

    text: str
    identifiers: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    remote: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read the text."""
        super().__init__()
        self.feed(self.text)

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

    def __hash__(self) -> int:
        """Pages are compared by identity."""
        return id(self)


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
    pages: dict[Path, Page] = {}

    def read(path: Path) -> Page:
        if path not in pages:
            pages[path] = Page(path.read_text("utf-8"))
        return pages[path]

    found = []
    for file in files:
        page = read(file)
        for address in dict.fromkeys(page.remote):
            found.append((file, f"needs a remote file: {address}"))
        for link in dict.fromkeys(page.links):
            if is_remote(link):
                continue
            parts = urlsplit(link)
            path = unquote(parts.path)
            if path.startswith("/"):
                found.append((file, f"link that leaves the site: {link}"))
                continue
            target = Path(os.path.normpath(file.parent / path)) if path else file
            if target.is_dir():
                target /= "index.html"
            if not target.is_relative_to(root) or not target.exists():
                found.append((file, f"link to a file that does not exist: {link}"))
            elif parts.fragment and target.suffix == ".html":
                if unquote(parts.fragment) not in read(target).identifiers:
                    found.append((file, f"link to an id that does not exist: {link}"))
    return found


def check(app: Sphinx, exception: Exception | None) -> None:
    """Warn of the faults of a build that has succeeded."""
    if exception is not None or app.builder.format != "html":
        return
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
