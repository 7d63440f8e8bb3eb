"""No page needs what a notebook does not have."""

from __future__ import annotations

import re
from pathlib import Path

from ..one_test import in_one_test
from .gallery_page import GALLERY

PAGES = [
    path
    for path in sorted([*GALLERY.glob("*.py"), *GALLERY.glob("*/*.py")])
    if path.parent.name not in ("training", "experiments")
] + sorted((GALLERY.parent / "docs" / "how_to").glob("*.py"))


@in_one_test("page", PAGES, ids=lambda page: page.stem)
def test_page_has_no_file_beside_it_and_no_command_line(page: Path) -> None:
    source = page.read_text("utf-8")
    assert not re.search(r"\b(__file__|argparse|sys\.argv)\b", source)
