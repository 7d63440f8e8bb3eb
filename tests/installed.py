"""Distributions that are built and installed in a folder, without the network."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

# Build the distributions of some directories and unpack them into the last one, as pip
# does, which would start three processes for each.
_INSTALL = """
import os, sys, zipfile
from setuptools import build_meta

*sources, site = sys.argv[1:]
for source in sources:
    os.chdir(source)
    wheel = build_meta.build_wheel(source)
    with zipfile.ZipFile(os.path.join(source, wheel)) as archive:
        archive.extractall(site)
"""


def install(sources: Iterable[Path], folder: Path) -> Path:
    """Install copies of some distributions, and return the folder that has them."""
    copies, site = folder / "sources", folder / "site"
    for source in sources:
        shutil.copytree(
            source, copies / source.name, ignore=shutil.ignore_patterns("*.egg-info")
        )
    paths = map(str, [*copies.iterdir(), site])
    command = [sys.executable, "-c", _INSTALL, *paths]
    subprocess.run(command, check=True, capture_output=True)
    return site
