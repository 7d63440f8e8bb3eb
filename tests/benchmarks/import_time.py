"""The time that the import of this package adds to that of deepinv."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

_PROGRAM = """
import time, deepinv
start = time.process_time()
import deepinv_equilibrium
print(time.process_time() - start)
"""


def added_seconds(runs: int = 5) -> float:
    """Return the median of the processor time, with compiled bytecode, as pip installs
    it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, PYTHONPYCACHEPREFIX=folder)
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        seconds = []
        for _ in range(runs + 1):
            command = [sys.executable, "-c", _PROGRAM]
            run = subprocess.run(
                command, env=environment, check=True, capture_output=True, text=True
            )
            seconds.append(float(run.stdout))
    return statistics.median(seconds[1:])  # the first run compiles
