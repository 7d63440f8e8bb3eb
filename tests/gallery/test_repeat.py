from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

import pytest

from ..one_test import in_one_test
from .gallery_page import GALLERY, REPEAT

SCRIPT = GALLERY / "experiments" / "repeat.py"
RECORDS = sorted(SCRIPT.parent.glob("*.json"))
PAGE = """
SEED = 0  # of everything
STEPS = 1
open("figure.png", "w").close()
results = {"ours": {"PSNR": 10.0 * SEED + STEPS}, "theirs": {"PSNR": 1.0}}
"""


def repeat(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_main_runs_the_page_for_each_seed_and_writes_every_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.py").write_text(PAGE, "utf-8")
    page = str(tmp_path / "page")  # an absolute path, which is not in the gallery
    output, before = tmp_path / "page.json", os.getcwd()
    repeat(
        monkeypatch,
        *(page, "--seeds", "3", "4", "--output", str(output)),
        *("--", "STEPS=2"),
    )
    record = json.loads(output.read_text("utf-8"))
    assert record["seeds"] == [3, 4]
    assert record["results"] == {
        "ours": {"PSNR": [32.0, 42.0]},
        "theirs": {"PSNR": [1.0, 1.0]},
    }
    assert record["command"].endswith("--seeds 3 4 -- STEPS=2")
    assert os.getcwd() == before
    assert not (tmp_path / "figure.png").exists()
    assert "ours      37.00 ± 7.07" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["pages", "repeat", "training/soap"])
def test_find_page_raises_for_what_is_no_page(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        REPEAT["find_page"](name)


def test_with_settings_replaces_a_constant_and_keeps_its_comment() -> None:
    source = REPEAT["with_settings"](PAGE, {"SEED": "7", "STEPS": "[1, 2]"})
    assert "\nSEED = 7  # of everything\n" in source
    assert "\nSTEPS = [1, 2]" in source


@pytest.mark.parametrize("name", ["LAYERS", "results["])
def test_with_settings_raises_for_a_constant_that_the_page_lacks(name: str) -> None:
    with pytest.raises(ValueError, match="exactly once"):
        REPEAT["with_settings"](PAGE, {name: "1"})


def test_table_has_further_blocks_for_measures_that_do_not_fit() -> None:
    measures = [f"a long measure {i}" for i in range(6)]
    record = {
        "first": {measure: [1.0, 3.0] for measure in measures},
        "second": {measures[0]: [0.5, 0.5]},
    }
    lines = REPEAT["table"](record)
    assert max(map(len, lines)) <= REPEAT["WIDTH"]
    assert lines[1].split() == ["first", *["2.00", "±", "1.41"] * 4]
    assert lines[2].split() == ["second", "0.500", "±", "0.000"]
    assert [line.split()[0] for line in lines[3:]] == ["method", "first"]


@in_one_test("path", RECORDS, ids=lambda path: path.stem)
def test_page_shows_its_record(path: Path) -> None:
    content = json.loads(path.read_text("utf-8"))
    assert len(content["seeds"]) >= 3
    for measures in content["results"].values():
        assert all(len(v) == len(content["seeds"]) for v in measures.values())
    page = REPEAT["find_page"](path.stem).read_text("utf-8")
    table = "\n".join(f"#     {line}" for line in REPEAT["table"](content["results"]))
    assert f"\n{table}\n" in page
    prose = page.replace("\n# ", " ")
    assert f"``{content['command']}``" in prose
    _, _, settings = content["command"].partition(" -- ")
    pairs = (setting.split("=") for setting in settings.split())
    REPEAT["with_settings"](page, {"SEED": "0", **dict(pairs)})
