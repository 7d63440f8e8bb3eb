"""Leave citations out of the tables of autosummary.

A summary is the first sentence of a docstring. The footnote of a citation in it is on
the page of the object and not on the page of the table.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext import autosummary


def setup(app: Sphinx) -> dict[str, bool]:
    """Wrap the function that extracts the summaries."""
    extract_summary = autosummary.extract_summary

    def without_citations(doc: list[str], document: Any) -> str:
        return re.sub(r"\s*:footcite:\w:`[^`]*`", "", extract_summary(doc, document))

    autosummary.extract_summary = without_citations
    return {"parallel_read_safe": True}
