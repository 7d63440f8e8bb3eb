r"""
Run a page of the gallery for several seeds and write its results.

A page runs in two minutes. This command runs it with other settings, once for each
seed::

    python gallery/experiments/repeat.py PAGE --seeds 0 1 2 -- STEPS=600 SIZE=64

The arguments behind ``--`` replace constants at the top of the page, which are
assignments on one line, ``STEPS = 100``. The command, the seeds, and a number for each
seed, method and measure are written to ``gallery/experiments/PAGE.json``. The means and
standard deviations are printed as a table, which the page shows.

A page that can be repeated has a constant ``SEED`` and leaves its numbers in
``results``, a dictionary ``{method: {measure: number}}``.
"""

import argparse
import json
import os
import re
import shlex
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from tqdm.auto import tqdm

GALLERY = Path(__file__).resolve().parents[1]
WIDTH = 82  # of a table in the comment of a page

Results = dict[str, dict[str, float]]
"""A number for each method and measure."""

Record = dict[str, dict[str, list[float]]]
"""The numbers of all seeds for each method and measure."""


def with_settings(source: str, settings: dict[str, str]) -> str:
    """Replace constants of a page.

    :param str source: the source of the page.
    :param dict settings: name and new value of each constant, both as source text.
    :return: the new source.
    :raises ValueError: if the page does not assign a constant exactly once.
    """
    for name, value in settings.items():
        line = rf"(?m)^{re.escape(name)} = [^#\n]*"
        if len(re.findall(line, source)) != 1:
            raise ValueError(
                f"the page must assign {name} exactly once, in a line `{name} = ...`."
            )
        source = re.sub(line, lambda _, new=f"{name} = {value}  ": new, source)
    return source


def find_page(page: str) -> Path:
    """Return the script of a page: of that name in the gallery, or at that path.

    :raises ValueError: if the gallery has no such page.
    """
    scripts = [GALLERY / f"{page}.py", *GALLERY.glob(f"*/{Path(page).name}.py")]
    for script in scripts:
        if script.exists() and script.parent.name not in ("training", "experiments"):
            return script
    raise ValueError(f"the gallery has no page {page!r}.")


def run_page(page: str, settings: dict[str, str]) -> dict[str, Any]:
    """Run a page with other constants; return the names that it defines.

    The page writes its figures to the working directory.
    """
    path = find_page(page)
    source = with_settings(path.read_text("utf-8"), settings)
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        exec(compile(source, str(path), "exec"), names)
    finally:
        plt.close("all")
    return names


def collect(runs: list[Results]) -> Record:
    """List the numbers of all seeds for each method and measure."""
    return {
        method: {
            measure: [round(float(run[method][measure]), 6) for run in runs]
            for measure in measures
        }
        for method, measures in runs[0].items()
    }


def table(record: Record) -> list[str]:
    """Return the lines of a table of means and standard deviations.

    A method is a row, and a measure is a column. Columns that do not fit the width
    follow in further blocks.
    """
    measures = list(dict.fromkeys(m for row in record.values() for m in row))
    first = max(map(len, ("method", *record)))
    column = max(14, *(len(measure) for measure in measures)) + 2
    size = max(1, (WIDTH - first) // column)
    lines: list[str] = []
    for start in range(0, len(measures), size):
        block = measures[start : start + size]
        header = "".join(measure.rjust(column) for measure in block)
        lines.append("method".ljust(first) + header)
        for method, row in record.items():
            if any(measure in row for measure in block):
                cells = (_cell(row.get(measure)).rjust(column) for measure in block)
                lines.append(method.ljust(first) + "".join(cells))
    return [line.rstrip() for line in lines]


def _cell(values: list[float] | None) -> str:
    """Return mean and standard deviation, with three decimals below 1."""
    if values is None:
        return ""
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    digits = 2 if abs(mean) >= 1 else 3
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def main() -> None:
    """Read the command line, run the page, write its numbers and print the table."""
    own, _, rest = " ".join(map(shlex.quote, sys.argv[1:])).partition(" -- ")
    parser = argparse.ArgumentParser(
        description="Run a page of the gallery for several seeds.",
        epilog="Constants of the page follow --, as NAME=VALUE.",
    )
    parser.add_argument("page", help="name of the page, without .py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, help="file of the numbers")
    args = parser.parse_args(shlex.split(own))
    settings = dict(setting.split("=", 1) for setting in shlex.split(rest))
    output = args.output or GALLERY / "experiments" / f"{args.page}.json"
    output = output.resolve()

    matplotlib.use("Agg")
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # where the page writes its figures
        try:
            runs = [
                run_page(args.page, {**settings, "SEED": str(seed)})["results"]
                for seed in tqdm(args.seeds, desc=args.page)
            ]
        finally:
            os.chdir(before)
    seeds = " ".join(map(str, args.seeds))
    command = f"python gallery/experiments/repeat.py {args.page} --seeds {seeds}"
    record = {
        "command": f"{command} -- {rest}" if rest else command,
        "seeds": args.seeds,
        "results": collect(runs),
    }
    output.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    print(*table(record["results"]), sep="\n")


if __name__ == "__main__":
    main()
