"""The check of the built pages finds dead links and remote files."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

OTHER = '<h1 id="title"></h1><a name="old"></a>'


@pytest.mark.parametrize(
    ("html", "message"),
    [
        ('<a href="#here" id="here">', None),
        ('<a href="folder/other.html#title">', None),
        ('<a href="folder/#title">', "does not exist"),
        ('<a href="folder/other.html#old">', None),
        ('<a href="folder/other.html#gone">', "id that does not exist"),
        ('<a href="folder/gone.html">', "file that does not exist"),
        ('<img src="gone.png">', "file that does not exist"),
        ('<a href="../index.html">', "leaves the site"),
        ('<a href="/index.html">', "leaves the site"),
        ('<a href="https://example.org/page">', None),
        ('<a href="mailto:a@example.org">', None),
        ('<img src="data:image/png;base64,AAAA">', None),
        ('<script src="https://example.org/a.js">', "remote file"),
        ('<script src="//example.org/a.js">', "remote file"),
        ('<link rel="stylesheet" href="https://example.org/a.css">', "remote file"),
        ('<link rel="canonical" href="https://example.org/">', None),
    ],
)
def test_faults(tmp_path: Path, html: str, message: str | None) -> None:
    page, other = tmp_path / "page.html", tmp_path / "folder" / "other.html"
    page.write_text(html, "utf-8")
    other.parent.mkdir()
    other.write_text(OTHER, "utf-8")
    internal_links = importlib.import_module("internal_links")
    found = internal_links.faults(tmp_path, [page, other])
    assert [file for file, _ in found] == ([] if message is None else [page])
    assert all(message in text for _, text in found)
