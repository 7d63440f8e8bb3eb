"""The plugin in examples/ is built, installed, and passes its own tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ..installed import install

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "examples" / "plugin"


def test_template_is_installed_and_passes_its_tests(tmp_path: Path) -> None:
    site = install([TEMPLATE], tmp_path)
    tests = shutil.copytree(TEMPLATE / "tests", tmp_path / "tests")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*command, "-W", "error", str(tests)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "skipped" not in run.stdout
