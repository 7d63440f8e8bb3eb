r"""
Run a page of the gallery at length, once for each seed, and keep its results.

A page has two minutes; what it takes longer to see is run with this command,

    python gallery/experiments/repeat.py PAGE --seeds 0 1 2 -- ARGUMENTS OF THE PAGE

and kept in ``gallery/experiments/PAGE.json``: the command, the seeds, and one number
for each seed, method and measure. The page shows them from there. A page that can be
run in this way takes ``--seed`` and leaves its numbers in ``results``, a dictionary
``{method: {measure: number}}``.
"""

from __future__ import annotations

import argparse
import json
import runpy
import shlex
import sys
import tempfile
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from tqdm.auto import tqdm

GALLERY = Path(__file__).resolve().parents[1]

Results = dict[str, dict[str, float]]
"""A number for each method and measure."""


def run_page(page: str, seed: int, arguments: list[str], figure: Path) -> Results:
    """Run the page as a script does, and return what it leaves in ``results``."""
    script = str(GALLERY / f"{page}.py")
    before = sys.argv
    sys.argv = [script, "--seed", str(seed), "--figure", str(figure), *arguments]
    try:
        names = runpy.run_path(script, run_name="__main__")
    finally:
        sys.argv = before
        plt.close("all")
    results: Results = names["results"]
    return results


def collect(runs: list[Results]) -> dict[str, dict[str, list[float]]]:
    """Return the numbers of all seeds in one list for each method and measure."""
    return {
        method: {
            measure: [round(float(run[method][measure]), 6) for run in runs]
            for measure in measures
        }
        for method, measures in runs[0].items()
    }


def main() -> None:
    """Read the command line, run the page, and write its numbers."""
    # What stands behind -- is the page's: argparse keeps no such rest in order.
    own, _, rest = " ".join(map(shlex.quote, sys.argv[1:])).partition(" -- ")
    parser = argparse.ArgumentParser(
        description="Run a page of the gallery at length, for several seeds.",
        epilog="Arguments of the page stand behind --.",
    )
    parser.add_argument("page", help="name of the page, without .py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, help="where the numbers are written")
    args = parser.parse_args(shlex.split(own))
    arguments = shlex.split(rest)
    output = args.output or GALLERY / "experiments" / f"{args.page}.json"

    matplotlib.use("Agg")
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            run_page(args.page, seed, arguments, Path(folder) / "figure.png")
            for seed in tqdm(args.seeds, desc=args.page)
        ]
    seeds = " ".join(map(str, args.seeds))
    command = f"python gallery/experiments/repeat.py {args.page} --seeds {seeds}"
    record = {
        "command": f"{command} -- {rest}" if rest else command,
        "seeds": args.seeds,
        "results": collect(runs),
    }
    output.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    print(f"{output.name} has the numbers of {len(runs)} seeds.")


if __name__ == "__main__":
    main()
