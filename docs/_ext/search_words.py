"""Words with which readers look for a page whose title may lack them.

A word becomes a main entry of the index for its page, which the search of the site puts
first. ``docs/check_search.py`` searches for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

WORDS = {
    "changelog": ["changelog", "release notes"],
    "compatibility": ["compatibility", "versions"],
    "contributing": ["contribute"],
    "auto_how_to/own_images": ["own data", "own images"],
    "auto_how_to/mri_own_slices": ["DICOM", "fastMRI"],
    "auto_how_to/own_point_spread_function": ["PSF"],
    "auto_how_to/checkpoints_and_logging": [
        "checkpoint",
        "early stopping",
        "logging",
        "resume",
    ],
    "auto_how_to/gpu_and_mixed_precision": ["GPU", "mixed precision", "CUDA"],
    "auto_how_to/save_load_export": ["deploy", "export", "save"],
}
"""The words of each page."""


def add_words(app: Sphinx, docname: str, source: list[str]) -> None:
    """Begin a page with entries of the index."""
    words = "".join(f"   ! {word}\n" for word in WORDS.get(docname, ()))
    if words:
        source[0] = f".. index::\n{words}\n{source[0]}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the hook."""
    app.connect("source-read", add_words)
    return {"parallel_read_safe": True}
