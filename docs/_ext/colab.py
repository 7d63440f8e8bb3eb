"""Links that open the notebooks of the gallery in Colab.

Colab opens notebooks of public GitHub repositories. The notebooks are part of the built
documentation, so the links lead to the branch to which it is published.
"""

from __future__ import annotations

BRANCH = "gh-pages"  # holds the built documentation


def install_cell(repository: str) -> str | None:
    """Return the first cell of a notebook, which installs the package.

    :param str repository: address of the repository, or empty.
    :return: the cell, or `None` without a repository to install from.
    """
    if not repository:
        return None
    return f'%pip install "deepinv_equilibrium[gallery] @ git+{repository}"'


def notebook_folder(repository: str) -> str:
    """Return the address at which Colab opens a file of the built documentation.

    :param str repository: address of the repository, or empty.
    :return: the address, to which the path of the file is appended; empty without a
        repository.
    :raises ValueError: if the repository is not at GitHub.
    """
    if not repository:
        return ""
    host = "https://github.com/"
    if not repository.startswith(host) or repository.count("/") != 4:
        raise ValueError(
            f"repository = {repository!r} must be empty or {host}OWNER/NAME."
        )
    name = repository.removeprefix(host)
    return f"https://colab.research.google.com/github/{name}/blob/{BRANCH}"
