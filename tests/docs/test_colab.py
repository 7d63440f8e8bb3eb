from __future__ import annotations

import importlib

import pytest


def test_without_a_repository_there_is_neither_a_cell_nor_a_link() -> None:
    colab = importlib.import_module("colab")
    assert colab.install_cell("") is None
    assert colab.notebook_folder("") == ""


def test_notebooks_install_from_the_repository_and_open_from_its_pages() -> None:
    colab = importlib.import_module("colab")
    repository = "https://github.com/owner/name"
    cell = colab.install_cell(repository)
    assert cell == f'%pip install "deepinv_equilibrium[gallery] @ git+{repository}"'
    folder = colab.notebook_folder(repository)
    assert folder.endswith("/github/owner/name/blob/gh-pages")


@pytest.mark.parametrize(
    "repository", ["github.com/owner/name", "https://github.com/owner/name/"]
)
def test_notebook_folder_raises_for_another_address(repository: str) -> None:
    with pytest.raises(ValueError, match="OWNER/NAME"):
        importlib.import_module("colab").notebook_folder(repository)
