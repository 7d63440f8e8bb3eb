"""The page of MRI with shipped weights, and the table of knees."""

from __future__ import annotations

import csv
import re
from typing import Any

import pytest

from .gallery_page import GALLERY, run_page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("mri_knees")
    return run_page("mri_knees", folder, SIZE=64, ITERATIONS=(1, 16))


def test_shipped_weights_reconstruct_better_than_zero_filling(
    page: dict[str, Any],
) -> None:
    psnr, shown = page["psnr"], page["shown"]
    values = {name: psnr(x, shown["truth"]).item() for name, x in shown.items()}
    assert values["DE-PROX"] > values["zero-filled"] + 1
    assert page["values"][1] > page["values"][0]


def test_table_is_that_of_the_record() -> None:
    source = (GALLERY / "mri" / "mri_knees.py").read_text("utf-8")
    record = GALLERY / "training" / "results" / "knees.csv"
    with record.open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    columns = [k for k, name in enumerate(rows[0]) if "PSNR" in name]
    for row in rows[1:]:
        (line,) = (
            text
            for text in source.splitlines()
            if text.startswith(f"#     {row[0]:20s}")
        )
        assert re.findall(r"[\d.]+ ± [\d.]+", line) == [row[k] for k in columns]
