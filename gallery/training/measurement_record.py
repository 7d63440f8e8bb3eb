"""The files of measurements that go on after each image, for the training scripts."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path
from typing import Any


def read(path: Path) -> dict[str, Any]:
    """Return a record, empty if the file does not exist."""
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a record."""
    path.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def mean_and_spread(values: list[float], digits: int) -> str:
    """Return the mean and the standard deviation over seeds, for a table."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}"


def write_table(path: Path, rows: list[list[str]]) -> None:
    """Print the table of a record, and write it beside the record."""
    with path.with_suffix(".csv").open("w", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    for row in rows:
        print("  ".join(row))
