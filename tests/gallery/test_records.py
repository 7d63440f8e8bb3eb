"""The orders and gains that pages state about their longer runs hold in the records."""

from __future__ import annotations

import csv
import runpy
from itertools import pairwise
from statistics import mean

from .gallery_page import GALLERY, Record, record


def gains(rows: Record, better: str, worse: str, measure: str) -> list[float]:
    """Difference of two methods for each seed."""
    pairs = zip(rows[better][measure], rows[worse][measure], strict=True)
    return [a - b for a, b in pairs]


def test_wavelet_blocks_differ_as_stated() -> None:
    rows = record("wavelet_denoising")["results"]

    def training(setting: str, better: str, worse: str) -> list[float]:
        return gains(rows, f"{setting} {better}", f"{setting} {worse}", "training")

    tens, one, mixed = "(10, 10)", "(1, 1)", ("(1, 10)", "(10, 1)")
    steps = ("1.95/L", "2/(mu+L)", "normalised")

    def ends(prior: str) -> list[float]:
        full = [
            training(f"{prior} {step}", tens, worse)
            for step in steps
            for worse in mixed
        ]
        return [round(min(map(min, full)), 2), round(max(map(max, full)), 2)]

    assert ends("theta_BC") == [0.15, 0.56]
    assert ends("theta_B") == [0.02, 0.4]
    last = [
        training(f"theta_BC {step}", better, one)
        for step in steps[1:]
        for better in mixed
    ]
    assert round(min(map(min, last)), 2) == 0.14
    assert round(max(map(max, last)), 2) == 0.6
    first = training("theta_BC 1.95/L", tens, one)
    assert [gain > 0 for gain in first] == [True, False, True]
    assert round(-min(first), 1) == 0.2
    small = [training(f"theta_B {step}", one, tens) for step in steps[:2]]
    assert round(min(map(min, small)), 1) == 0.1
    assert round(max(map(max, small)), 1) == 0.2
    close = [training("theta_B normalised", one, other) for other in (tens, *mixed)]
    assert round(max(abs(gap) for row in close for gap in row), 2) == 0.12


def test_unrolled_layers_lose_psnr_when_applied_again() -> None:
    rows = record("projected_gradient")["results"]
    longer = "PSNR, 16 times the steps"
    unrolled = rows["unrolled"]
    pairs = zip(unrolled["PSNR"], unrolled[longer], strict=True)
    losses = [round(before - after, 1) for before, after in pairs]
    assert (min(losses), max(losses)) == (1.2, 2.3)
    assert min(gains(rows, "equilibrium", "unrolled", longer)) > 0


def test_untied_lista_of_16_layers_beats_100_iterations() -> None:
    rows = record("lista")["results"]
    assert max(gains(rows, "LISTA(16), untied", "ISTA(100)", "NMSE")) < 0
    assert min(gains(rows, "LISTA(16), tied", "ISTA(100)", "NMSE")) > 0


def test_ssim_order_on_shepp_logan_has_one_exception() -> None:
    rows = record("ct_comparison")["results"]
    order = ["learned gradient", "TV", "learned primal-dual", "U-Net"]
    order += ["projected gradient", "FBP"]
    columns = zip(*(rows[name]["SSIM Shepp-Logan"] for name in order), strict=True)
    found = [[a > b for a, b in pairwise(column)] for column in columns]
    kept, swapped = [True] * 5, [True] * 3 + [False, True]
    assert sorted(found) == sorted([kept, kept, swapped])


def test_deq_md_beats_pnp_but_its_energy_and_tv_for_one_seed_only() -> None:
    rows = record("poisson_mirror_descent")["results"]
    over_pnp = gains(rows, "DEQ-MD", "PnP", "PSNR")
    assert min(over_pnp) > 0
    assert round(mean(over_pnp), 2) == 0.36
    for other, gain, rest in (("energy", 0.3, 0.03), ("TV", 0.4, 0.05)):
        values = sorted(gains(rows, "DEQ-MD", other, "PSNR"), key=abs)
        assert round(values[2], 1) == gain
        assert max(map(abs, values[:2])) < rest + 0.005
    assert max(gains(rows, "PnP", "TV", "PSNR")) < 0


def test_jfb_and_deq_have_the_same_quality() -> None:
    rows = record("jfb_deblurring")["results"]
    for blur in ("5x5", "9x9"):
        assert max(map(abs, gains(rows, "DEQ", "JFB", f"PSNR {blur}"))) < 0.025
        assert min(gains(rows, "DEQ", "PnP", f"PSNR {blur}")) > 0
        assert min(gains(rows, "PnP", "TV descent", f"PSNR {blur}")) > 0
    assert max(gains(rows, "PnP, DRUNet", "TV descent", "PSNR 5x5")) < 0
    assert min(gains(rows, "PnP, DRUNet", "TV descent", "PSNR 9x9")) > 0


def test_unrolled_network_falls_and_equilibrium_stays_when_iterated() -> None:
    rows = record("well_posedness")["results"]

    def falls(model: str, start: str) -> list[float]:
        pairs = zip(rows[model][start], rows[model]["PSNR last"], strict=True)
        return [round(before - after, 1) for before, after in pairs]

    assert sorted(falls("unrolled", "best")) == [0.5, 3.3, 3.8]
    assert max(falls("equilibrium", "PSNR trained")) == 0.7
    attacked = ("unrolled", "certified", "U-Net")
    for better, worse in pairwise(attacked):
        assert min(gains(rows, better, worse, "PSNR attacked")) > 0
    stable = gains(rows, "certified", "U-Net", "gain")
    assert [gain > 0 for gain in stable].count(True) == 2


def test_adaptation_beats_the_naive_swap_for_two_seeds() -> None:
    rows = record("adaptation")["results"]
    adapted = gains(rows, "network, adapted", "network, naive", "PSNR")
    assert sorted(gain > 0 for gain in adapted) == [False, True, True]
    assert round(min(adapted), 2) == -0.05
    reused = gains(rows, "network, reused", "network, naive", "PSNR")
    assert min(reused) > 0
    assert round(mean(reused), 1) == 0.9
    assert set(gains(rows, "unrolled, adapted", "unrolled, naive", "PSNR")) == {0}


def test_denoiser_learned_for_restoration_gains_as_much_as_the_control() -> None:
    rows = record("wavelet_restoration")["results"]

    def ends(better: str, worse: str, measure: str, *problems: str) -> list[float]:
        found = [
            gain
            for problem in problems or ("inpainting", "deblurring")
            for gain in gains(
                rows, f"{problem} {better}", f"{problem} {worse}", measure
            )
        ]
        return [round(min(found), 1), round(max(found), 1)]

    assert ends("(b)", "(a)", "training") == [0.7, 2.8]
    assert min(ends("(c)", "(b)", "training")) == 0.2
    assert ends("(c)", "control", "training", "deblurring") == [0.1, 0.1]
    assert ends("(c)", "control", "training", "inpainting") == [-0.3, 0.1]
    assert min(ends("(b)", "(a)", "held-out")) == 0.4
    assert ends("control", "(b)", "held-out", "inpainting") == [0.4, 0.4]
    assert ends("(c)", "control", "held-out", "inpainting") == [-1.7, -0.6]
    values = gains(rows, "deblurring (c)", "deblurring control", "held-out")
    assert [round(value, 1) for value in values] == [0.2, 0.2, -0.1]


def test_shown_table_of_claims_follows_from_the_records() -> None:
    claims = runpy.run_path(str(GALLERY / "experiments" / "claims.py"))
    with claims["TABLE"].open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == claims["table"]()
