from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "gallery" / "experiments" / "repeat.py"
PAGE = """
import argparse
parser = argparse.ArgumentParser()
for name in ("--seed", "--steps"):
    parser.add_argument(name, type=int)
parser.add_argument("--figure")
args = parser.parse_args()
results = {"ours": {"PSNR": 10.0 * args.seed + args.steps}, "theirs": {"PSNR": 1.0}}
"""


def repeat(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_runs_the_page_for_each_seed_and_keeps_every_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.py").write_text(PAGE, "utf-8")
    page = str(tmp_path / "page")  # absolute: it is not looked for in the gallery
    output = tmp_path / "page.json"
    repeat(
        monkeypatch,
        *(page, "--seeds", "3", "4", "--output", str(output)),
        *("--", "--steps", "2"),
    )
    record = json.loads(output.read_text("utf-8"))
    assert record["seeds"] == [3, 4]
    assert record["results"] == {
        "ours": {"PSNR": [32.0, 42.0]},
        "theirs": {"PSNR": [1.0, 1.0]},
    }
    assert record["command"].endswith("--seeds 3 4 -- --steps 2")
    assert sys.argv[0] == str(SCRIPT)


def test_every_kept_record_is_of_a_page_and_says_how_it_was_made() -> None:
    for record in SCRIPT.parent.glob("*.json"):
        assert (SCRIPT.parents[1] / f"{record.stem}.py").exists()
        content = json.loads(record.read_text("utf-8"))
        command = f"python gallery/experiments/repeat.py {record.stem} --seeds "
        assert content["command"].startswith(command)
        for measures in content["results"].values():
            assert all(len(v) == len(content["seeds"]) for v in measures.values())
