"""Configuration of Sphinx, see https://www.sphinx-doc.org."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

here = Path(__file__).parent
sys.path.insert(0, str(here / "_ext"))

from deepinv_inventory import write_inventory

project = "deepinv_equilibrium"
author = "The deepinv_equilibrium developers"
copyright = "2026, the deepinv_equilibrium developers"
release = metadata.version("deepinv_equilibrium")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
    "architecture",
    "plain_summaries",
    "public_names",
    "subclasses",
]
exclude_patterns = ["_build", "how_to"]  # sources of sphinx-gallery
templates_path = ["_templates"]
default_role = "code"
# deepinv's docstrings use |sep| for a horizontal line, and so do ours.
rst_prolog = """
.. |sep| raw:: html

   <hr />

"""

# Every reference must lead somewhere, but for packages that have no inventory here.
nitpicky = True
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(torch|torchmetrics|numpy|pathlib|random|collections\.abc|enum|abc)\..*",
    ),
    ("py:.*", r"(Tensor|Callable|Sequence|Path|Any)"),
    ("py:obj", r".*\.[A-Z]"),  # type variables
    # A class that deepinv does not document; GSDRUNet is the function that makes one.
    ("py:.*", r"deepinv\.models\.GSPnP\.GSPnP"),
    # Internals without a page: arguments of the extension points, and base classes.
    (
        "py:.*",
        r"(.*\.)?(Monitor|Autocast|PackedStep|BackwardSlot|Transform|SuggestsArguments"
        r"|SolutionMetric|LearnedIterations|CondatVuOptim|RateScheme|LayerParts"
        r"|NotCoveredError|Case)(\..*)?",
    ),
]

autosummary_generate = True
autodoc_inherit_docstrings = False  # deepinv's use labels of its own documentation
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the fields of the docstring have the types
autodoc_member_order = "bysource"

# The documentation is built without a network, so deepinv's inventory is written from
# the installed package.
intersphinx_mapping = {
    "deepinv": (
        "https://deepinv.github.io/deepinv/",
        str(write_inventory(here / "_build" / "deepinv.inv")),
    ),
}

bibtex_bibfiles = ["refs.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"
bibtex_foot_reference_style = "foot"

copybutton_exclude = ".linenos, .gp, .go"

sphinx_gallery_conf = {
    "examples_dirs": ["../gallery", "how_to"],
    "gallery_dirs": ["auto_gallery", "auto_how_to"],
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"/(training|experiments)/",
    "reference_url": {"deepinv_equilibrium": None},
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["systems.css"]
html_title = project
html_show_sourcelink = False
html_sidebars = {"index": []}
html_theme_options = {
    "navbar_align": "left",
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc", "sg_download_links"],
}


def add_references(
    app: object, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """End a docstring that cites with its references."""
    if any(":footcite:" in line for line in lines):
        lines.extend(["", "|sep|", "", ":References:", "", ".. footbibliography::", ""])


def finish_gallery_page(app: object, docname: str, source: list[str]) -> None:
    """Show progress bars as a terminal leaves them, and end with the references."""
    if not docname.startswith(("auto_gallery/", "auto_how_to/")):
        return
    bar = r" *[^|\n]*\d+%\|.*\n"
    source[0] = re.sub(rf"(?m)^(?:{bar})+(?={bar})", "", source[0])
    if ":footcite:" in source[0]:
        source[0] += "\n.. rubric:: References\n\n.. footbibliography::\n"


def setup(app: object) -> None:
    """Connect the hooks of this file."""
    app.connect("autodoc-process-docstring", add_references)
    app.connect("source-read", finish_gallery_page)
