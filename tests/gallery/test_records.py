"""What the pages say of their longer runs is what the records hold."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from statistics import mean

GALLERY = Path(__file__).parents[2] / "gallery"
Record = dict[str, dict[str, list[float]]]


def record(page: str) -> Record:
    path = GALLERY / "experiments" / f"{page}.json"
    results: Record = json.loads(path.read_text("utf-8"))["results"]
    return results


def prose(page: str) -> str:
    lines = (GALLERY / f"{page}.py").read_text("utf-8").splitlines()
    return " ".join(line[2:] for line in lines if line.startswith("# "))


def test_the_wavelet_blocks_are_as_far_apart_as_the_page_says() -> None:
    rows = record("wavelet_denoising")

    def gains(setting: str, better: str, worse: str) -> list[float]:
        pair = (rows[f"{setting} {block}"]["training"] for block in (better, worse))
        return [a - b for a, b in zip(*pair, strict=True)]

    text, tens, mixed = prose("wavelet_denoising"), "(10, 10)", ("(1, 10)", "(10, 1)")
    steps = ("1.95/L", "2/(mu+L)", "normalised")
    full = [gains(f"theta_BC {step}", tens, worse) for step in steps for worse in mixed]
    assert "from .004 to .70 dB with single seeds" in text
    assert (round(min(map(min, full)), 3), round(max(map(max, full)), 2)) == (
        0.004,
        0.7,
    )
    assert "In the mean (10, 10) is .04 to .6 dB above" in text
    assert [round(end(map(mean, full)), 2) for end in (min, max)] == [0.04, 0.62]
    assert "with the third it is .4 to .5 dB below them" in text
    third = [gains("theta_BC 2/(mu+L)", better, "(1, 1)") for better in mixed]
    assert sorted(round(row[2], 1) for row in third) == [0.4, 0.5]
    assert min(min(row[:2]) for row in third) > 30
    assert "below (10, 1) with one of the seeds" in text
    last = gains("theta_B normalised", tens, "(10, 1)")
    assert [gain < 0 for gain in last] == [False, True, False]


def test_unrolled_layers_lose_what_the_page_says_when_applied_again() -> None:
    rows, longer = record("projected_gradient"), "PSNR, 16 times the steps"
    unrolled, equilibrium = rows["unrolled"], rows["equilibrium"]
    pairs = zip(unrolled["PSNR"], unrolled[longer], strict=True)
    losses = [round(before - after, 1) for before, after in pairs]
    assert (min(losses), max(losses)) == (1.2, 2.3)
    assert "have lost 1.2 to 2.3 dB" in prose("projected_gradient")
    pairs = zip(equilibrium[longer], unrolled[longer], strict=True)
    assert all(a > b for a, b in pairs)


def test_sixteen_untied_layers_are_below_a_hundred_iterations() -> None:
    rows = record("lista")
    hundred = rows["ISTA(100)"]["NMSE"]
    below = {
        kind: [a < b for a, b in zip(row["NMSE"], hundred, strict=True)]
        for kind, row in rows.items()
        if kind.startswith("LISTA(16)")
    }
    assert all(below["LISTA(16), untied"])
    assert not any(below["LISTA(16), tied"])
    assert "16 untied ones are below 100 iterations" in prose("lista")


def test_the_ssim_on_shepp_logan_is_in_order_but_for_one_seed() -> None:
    rows = record("ct_comparison")
    order = ["learned gradient", "TV", "learned primal-dual", "U-Net"]
    order += ["projected gradient", "FBP"]
    columns = zip(*(rows[name]["SSIM Shepp-Logan"] for name in order), strict=True)
    found = [[a > b for a, b in pairwise(column)] for column in columns]
    kept, swapped = [True] * 5, [True] * 3 + [False, True]
    assert sorted(found) == sorted([kept, kept, swapped])
    text = prose("ct_comparison")
    assert "with one of them the projected gradient is above the U-Net" in text
