from __future__ import annotations

import importlib
from pathlib import Path

import pytest

pytest.importorskip("sphinx_gallery")
pytest.importorskip("pybtex")
REFERENCES = Path(__file__).parents[2] / "docs" / "refs.bib"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a :class:`~package.part.Name` b", "a `Name` b"),
        (":func:`package.function`", "`package.function`"),
        (":class:`Name\n<package.Name>`", "`Name`"),
        (":py:meth:`call <package.Name.call>`", "`call`"),
        ("see :doc:`/auto_how_to/own_images`.", "see *own images*."),
        (":doc:`Large images </auto_how_to/volumes>`", "*Large images*"),
        (":math:`x < y`", ":math:`x < y`"),
        (":footcite:p:`davy2025restarted`", "(Davy et al., 2025)"),
        ("of :footcite:t:`broyden1965class`", "of Broyden (1965)"),
        (
            ".. literalinclude:: /../examples/a.py\n   :language: toml\n\nafter",
            "See `examples/a.py` in the repository.\n\nafter",
        ),
        (
            ".. list-table::\n   :header-rows: 1\n\n   * - a\n     - b\n\nafter",
            "The table is on this page of the documentation.\n\nafter",
        ),
    ],
)
def test_roles_and_directives_become_text(text: str, expected: str) -> None:
    module = importlib.import_module("notebook_text")
    assert module.plain(text, module.Bibliography(REFERENCES)) == expected


def test_a_page_lists_what_it_has_cited() -> None:
    module = importlib.import_module("notebook_text")
    bibliography = module.Bibliography(REFERENCES)
    module.plain(":footcite:p:`broyden1965class,bai2019deep`", bibliography)
    listed = module.plain(".. footbibliography::", bibliography)
    assert listed == (
        "- Broyden: A class of methods for solving nonlinear simultaneous equations, "
        "1965.\n- Bai et al.: Deep Equilibrium Models, 2019."
    )
    assert module.plain(".. footbibliography::", bibliography) == ""
