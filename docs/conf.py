"""Configuration of Sphinx, see https://www.sphinx-doc.org."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

here = Path(__file__).parent
sys.path.insert(0, str(here / "_ext"))

from colab import install_cell, notebook_folder
from deepinv_inventory import write_inventory
from sphinx_gallery.sorting import ExplicitOrder

project = "deepinv_equilibrium"
author = "The deepinv_equilibrium developers"
copyright = "2026, the deepinv_equilibrium developers"
release = metadata.version("deepinv_equilibrium")
# Address of the public repository, https://github.com/OWNER/NAME. Empty: the site has
# no links to it and to Colab, and notebooks do not install the package.
repository = ""

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",
    "sphinxcontrib.bibtex",
    "architecture",
    "internal_links",
    "notebook_text",
    "plain_summaries",
    "public_names",
    "requirements_table",
    "search_words",
    "source_backlinks",
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

# The order of the pages within their sections.
PAGES = [
    # how to
    "own_images",
    "mri_own_slices",
    "own_point_spread_function",
    "choose_the_ridge",
    "poisson_gaussian_noise",
    "train_with_drunet",
    "jacobian_free_then_implicit",
    "from_deepinv_deq",
    "checkpoints_and_logging",
    "gpu_and_mixed_precision",
    "volumes_and_large_images",
    "no_convergence",
    "certify_own_network",
    "certificate_in_a_paper",
    "save_load_export",
    "write_a_plugin",
    # deblurring
    "certified_deblurring",
    "poisson_mirror_descent",
    "tv_map_denoising",
    # mri
    "mri_knees",
    "mri_comparison",
    "tv_map_dynamic_mri",
    # tomography
    "ct_comparison",
    "tv_map_ct",
    # ideas
    "fixed_points",
    "what_adjoints_leave_out",
    "gradient_accuracy",
    "certified_estimated_observed",
    "well_posedness",
    "refuting_contraction",
    "errors_in_papers",
    "equilibrium_regularisation",
    "adaptation",
    "self_supervised_inpainting",
    # papers
    "wavelet_denoising",
    "wavelet_restoration",
    "jfb_deblurring",
    "projected_gradient",
    "unrolled_super_resolution",
    "lista",
]

sphinx_gallery_conf = {
    "examples_dirs": ["../gallery", "how_to"],
    "gallery_dirs": ["auto_gallery", "auto_how_to"],
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"/(training|experiments)/",
    "subsection_order": ExplicitOrder(
        [
            f"../gallery/{section}"
            for section in ("deblurring", "mri", "tomography", "ideas", "papers")
        ]
    ),
    # Pages that are not listed follow in no fixed order.
    "within_subsection_order": ExplicitOrder([f"{page}.py" for page in PAGES] + ["*"]),
    "first_notebook_cell": install_cell(repository),
    "reference_url": {"deepinv_equilibrium": None},
    "show_signature": False,
    "download_all_examples": False,
    "write_computation_times": False,  # these pages load scripts from the network
}

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["systems.css"]
html_title = project
html_show_sourcelink = False
html_sidebars = {  # pages without a section to navigate
    page: []
    for page in (
        "index",
        "architecture",
        "benchmarks",
        "changelog",
        "compatibility",
        "contributing",
        "experiments",
    )
}
html_theme_options = {
    "navbar_align": "left",
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc", "sg_download_links", "open_in_colab"],
    "footer_start": ["site_links"],
    "footer_end": ["copyright"],
    "icon_links": [
        {"name": "Repository", "url": repository, "icon": "fa-brands fa-github"}
    ][: bool(repository)],
}
html_context = {"repository": repository, "colab_folder": notebook_folder(repository)}


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
