"""Run pages of the gallery and how-to pages as notebooks that a reader has downloaded.

A page is converted as for its download and executed in a fresh kernel, in an empty
folder. The command stops at the first page that fails, with its name and the error::

    python docs/run_notebooks.py                       # how-to pages and quickstart
    python docs/run_notebooks.py --all                 # every page
    python docs/run_notebooks.py gallery/ideas/*.py    # these
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from sphinx_gallery.gen_gallery import DEFAULT_GALLERY_CONF
from sphinx_gallery.notebook import jupyter_notebook
from sphinx_gallery.py_source_parser import split_code_and_text_blocks

ROOT = Path(__file__).resolve().parents[1]
NO_PAGES = ("training", "experiments")  # folders of the gallery


def how_to_pages() -> list[Path]:
    """Return the how-to pages."""
    return sorted((ROOT / "docs" / "how_to").glob("*.py"))


def gallery_pages() -> list[Path]:
    """Return the pages of the gallery."""
    gallery = ROOT / "gallery"
    pages = sorted([*gallery.glob("*.py"), *gallery.glob("*/*.py")])
    return [page for page in pages if page.parent.name not in NO_PAGES]


def notebook(page: Path) -> nbformat.NotebookNode:
    """Convert a page, without the cell that installs the package."""
    _, blocks = split_code_and_text_blocks(str(page))
    settings = copy.deepcopy(DEFAULT_GALLERY_CONF)
    content = json.dumps(jupyter_notebook(blocks, settings, page.parent))
    return nbformat.reads(content, as_version=4)


def run(page: Path) -> None:
    """Execute a page.

    :raises nbclient.exceptions.CellExecutionError: if a cell raises.
    """
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook(page),
            timeout=None,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": folder}},
        ).execute()


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and run the pages; return the exit status."""
    parser = argparse.ArgumentParser(description="Run pages as notebooks.")
    parser.add_argument("pages", type=Path, nargs="*", help="scripts of the pages")
    parser.add_argument("--all", action="store_true", help="run every page")
    args = parser.parse_args(arguments)
    pages = args.pages or [*how_to_pages(), ROOT / "gallery" / "quickstart.py"]
    if args.all:
        pages = [*how_to_pages(), *gallery_pages()]
    os.environ.pop("MPLBACKEND", None)  # notebooks show figures by their own
    for page in pages:
        start = time.monotonic()
        try:
            run(page)
        except CellExecutionError as error:
            print(f"{page} fails as a notebook:\n{error}", file=sys.stderr)
            return 1
        print(f"{page.stem}: {time.monotonic() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
