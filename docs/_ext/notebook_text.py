"""Write the text of notebooks without roles and directives of Sphinx.

sphinx-gallery turns headings and formulas into Markdown. What a reader of a notebook
would see of the rest, such as ``:class:`~package.Name``` and citations, is turned into
plain text here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from pybtex.database import Entry, Person, parse_file
from pybtex.richtext import Text
from sphinx.application import Sphinx
from sphinx_gallery import notebook

_ROLE = re.compile(r":(?:\w+:)*(?P<role>\w+):`(?P<text>[^`]+)`")
_TITLED = re.compile(r"(?P<title>.+?)\s*<[^<>]+>", re.DOTALL)
_DIRECTIVE = re.compile(
    r"^\.\. (?P<name>footbibliography|literalinclude|include|list-table)::"
    r"[ ]*(?P<argument>.*)(?:\n+[ ]+.*)*",
    re.MULTILINE,
)


def plain_role(match: re.Match[str], cite: Callable[[str, bool], str]) -> str:
    """Return the text that Sphinx would show for a role."""
    role, text = match["role"], match["text"]
    if role in ("p", "t"):
        return cite(text, role == "p")
    if role == "math":
        return match[0]  # sphinx-gallery has a form for it
    titled = _TITLED.fullmatch(text)
    if titled is not None:
        name = titled["title"]
    elif role == "doc":
        name = Path(text).name.replace("_", " ")
    else:
        name = text.rsplit(".", 1)[-1] if text.startswith("~") else text
    return f"*{name}*" if role == "doc" else f"`{name}`"


class Bibliography:
    """Citations of a page, and their list at its end.

    :param pathlib.Path file: the BibTeX file.
    """

    def __init__(self, file: Path) -> None:
        self.entries = parse_file(str(file)).entries
        self.cited: dict[str, None] = {}

    def cite(self, keys: str, in_parentheses: bool) -> str:
        """Return the citation of keys that are separated by commas."""
        texts = []
        for key in (key.strip() for key in keys.split(",")):
            self.cited[key] = None
            authors, year = (
                _authors(self.entries[key]),
                self.entries[key].fields["year"],
            )
            texts.append(
                f"{authors}, {year}" if in_parentheses else f"{authors} ({year})"
            )
        return f"({'; '.join(texts)})" if in_parentheses else " and ".join(texts)

    def listed(self) -> str:
        """Return the list of what was cited since the last one."""
        lines = []
        for key in self.cited:
            entry = self.entries[key]
            fields = [_plain(entry.fields["title"]), entry.fields["year"]]
            lines.append(f"- {_authors(entry)}: {', '.join(fields)}.")
        self.cited.clear()
        return "\n".join(lines)


def _authors(entry: Entry) -> str:
    names = [_last_name(person) for person in entry.persons["author"]]
    return f"{names[0]} et al." if len(names) > 2 else " and ".join(names)


def _last_name(person: Person) -> str:
    return _plain(" ".join([*person.prelast_names, *person.last_names]))


def _plain(latex: str) -> str:
    return Text.from_latex(latex).render_as("text")


def plain(text: str, bibliography: Bibliography) -> str:
    """Return a block of text without roles and directives of Sphinx."""

    def directive(match: re.Match[str]) -> str:
        if match["name"] == "footbibliography":
            return bibliography.listed()
        if match["name"] == "literalinclude":
            return f"See `{match['argument'].removeprefix('/../')}` in the repository."
        return "The table is on this page of the documentation."

    text = _ROLE.sub(lambda match: plain_role(match, bibliography.cite), text)
    return _DIRECTIVE.sub(directive, text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Wrap the function that writes the text of a block."""
    to_markdown = notebook.rst2md
    bibliography = Bibliography(Path(app.srcdir) / "refs.bib")

    def without_sphinx(text: str, *args: object) -> str:
        return to_markdown(plain(text, bibliography), *args)

    notebook.rst2md = without_sphinx
    return {"parallel_read_safe": True}
