r"""Write the table of the claims of the papers, and whether the experiments show them.

A claim is an ordering of two methods by a measure. It is seen if it holds for every
seed, and its margin is the range of the differences over the seeds. All numbers come
from the records beside this script and in ``gallery/training/results``; the table has
the commands that make these records anew::

    python gallery/experiments/claims.py
"""

from __future__ import annotations

import csv
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RESULTS = FOLDER.parent / "training" / "results"
TABLE = FOLDER / "claims.csv"
SWEEP, KNEES = "restart_sweep", "knees"
COMMANDS = {
    SWEEP: (
        "python gallery/training/restart_sweep.py BSD400 CBSD68 --weights WEIGHTS "
        "--record gallery/training/results/restart_sweep.json"
    ),
    KNEES: (
        "python gallery/training/measure_knees.py KNEES --weights WEIGHTS --images 5 "
        "--record gallery/training/results/knees.json"
    ),
}


@dataclass(frozen=True)
class Claim:
    """An ordering of two methods, rows of a record, by a measure, a column."""

    text: str
    paper: str
    record: str
    better: str
    worse: str
    measure: str
    unit: str = "dB"
    smaller_is_better: bool = False


def restoration(size: str, better: str, worse: str) -> Claim:
    """Return a claim of the ReTune paper for a number of steps and restarts."""
    return Claim(
        f"deblurring with {size}: {better} > {worse} on photos not trained on",
        "Davy et al. 2025, Figure 3",
        SWEEP,
        f"deblurring, {size}, {better}",
        f"deblurring, {size}, {worse}",
        "PSNR",
    )


def reconstruction(setting: str, better: str, worse: str) -> Claim:
    """Return a claim about knees."""
    return Claim(
        f"MRI of knees, {setting}: {better} > {worse}",
        "Gilton et al. 2021",
        KNEES,
        f"{setting}, {better}",
        f"{setting}, {worse}",
        "PSNR",
    )


RETUNE, LEARNED = "Davy et al. 2025, Figure 1", "Adler, Öktem 2018"
TIED, UNTIED = "LISTA(16), tied", "LISTA(16), untied"
CLAIMS = (
    *(
        Claim(
            f"weights for each band and channel, step 2/(mu+L): {better} > {worse}",
            RETUNE,
            "wavelet_denoising",
            f"theta_BC 2/(mu+L) {better}",
            f"theta_BC 2/(mu+L) {worse}",
            "training",
        )
        for better, worse in (
            ("(10, 10)", "(1, 1)"),
            ("(10, 10)", "(1, 10)"),
            ("(10, 10)", "(10, 1)"),
        )
    ),
    Claim(
        "weights for each band: (10, 10) > (1, 1)",
        RETUNE,
        "wavelet_denoising",
        "theta_B 2/(mu+L) (10, 10)",
        "theta_B 2/(mu+L) (1, 1)",
        "training",
    ),
    *(
        Claim(
            f"{problem}: learned sigma and tau (b) > learned wavelet weights (a)",
            "Davy et al. 2025, Figures 2, 3",
            "wavelet_restoration",
            f"{problem} (b)",
            f"{problem} (a)",
            "held-out",
        )
        for problem in ("inpainting", "deblurring")
    ),
    *(restoration(size, "(c)", "control") for size in ("1, 1", "1, 10", "10, 1")),
    *(
        Claim(
            f"deblurring with (c): (10, 10) > ({size})",
            "Davy et al. 2025, Figure 3",
            SWEEP,
            "deblurring, 10, 10, (c)",
            f"deblurring, {size}, (c)",
            "PSNR",
        )
        for size in ("1, 1", "1, 10", "10, 1")
    ),
    Claim(
        "an unrolled network loses when it is iterated, an equilibrium does not",
        "Gilton et al. 2021",
        "projected_gradient",
        "equilibrium",
        "unrolled",
        "PSNR, 16 times the steps",
    ),
    *(
        reconstruction(setting, better, worse)
        for setting in ("1 coil, 4x", "1 coil, 8x", "8 coils, 8x")
        for better, worse in (
            ("TV", "zero-filled"),
            ("PnP", "TV"),
            ("DU-PROX", "TV"),
            ("DU-PROX", "PnP"),
            ("DE-PROX", "DU-PROX"),
            ("DE-PROX, restarted", "DU-PROX"),
        )
    ),
    Claim(
        "MRI of phantoms: DE-PROX > DU-PROX",
        "Gilton et al. 2021",
        "mri_comparison",
        "DE-PROX",
        "DU-PROX",
        "PSNR phantoms",
    ),
    Claim(
        "MRI of phantoms: DE-GRAD > TV",
        "Gilton et al. 2021",
        "mri_comparison",
        "DE-GRAD",
        "TV",
        "PSNR phantoms",
    ),
    Claim(
        "deblurring, 9 x 9: implicit gradient > Jacobian-free gradient",
        "Liu et al. 2024",
        "jfb_deblurring",
        "DEQ",
        "JFB",
        "PSNR 9x9",
    ),
    Claim(
        "deblurring, 9 x 9: a step of the Jacobian-free training is faster",
        "Liu et al. 2024",
        "jfb_deblurring",
        "JFB",
        "DEQ",
        "seconds a step 9x9",
        unit="s",
        smaller_is_better=True,
    ),
    Claim(
        "deblurring, 9 x 9: learned > plug-and-play",
        "Liu et al. 2024",
        "jfb_deblurring",
        "DEQ",
        "PnP",
        "PSNR 9x9",
    ),
    *(
        Claim(
            f"CT of ellipses: {better} > {worse}",
            LEARNED,
            "ct_comparison",
            better,
            worse,
            "PSNR ellipses",
        )
        for better, worse in (
            ("TV", "FBP"),
            ("learned gradient", "U-Net"),
            ("learned primal-dual", "learned gradient"),
        )
    ),
    Claim(
        "Poisson deblurring: DEQ-MD > plug-and-play",
        "Daniele et al. 2025",
        "poisson_mirror_descent",
        "DEQ-MD",
        "PnP",
        "PSNR",
    ),
    Claim(
        "Poisson deblurring: DEQ-MD > TV",
        "Daniele et al. 2025",
        "poisson_mirror_descent",
        "DEQ-MD",
        "TV",
        "PSNR",
    ),
    Claim(
        "another operator: adapted network > network as it is",
        "Gilton et al. 2021, adaptation",
        "adaptation",
        "network, adapted",
        "network, naive",
        "PSNR",
    ),
    Claim(
        "another operator: reused network > network as it is",
        "Gilton et al. 2021, adaptation",
        "adaptation",
        "network, reused",
        "network, naive",
        "PSNR",
    ),
    Claim(
        "sparse codes: LISTA with 16 layers of their own > ISTA(100), NMSE",
        "Monga et al. 2021",
        "lista",
        UNTIED,
        "ISTA(100)",
        "NMSE",
        smaller_is_better=True,
    ),
    Claim(
        "sparse codes: LISTA with 16 equal layers > ISTA(100), NMSE",
        "Monga et al. 2021",
        "lista",
        TIED,
        "ISTA(100)",
        "NMSE",
        smaller_is_better=True,
    ),
    Claim(
        "super-resolution: a network for each layer > one for all",
        "Monga et al. 2021",
        "unrolled_super_resolution",
        "network, layers",
        "network, shared",
        "PSNR",
    ),
    Claim(
        "super-resolution: TV weights that are learned > one that is chosen",
        "Monga et al. 2021",
        "unrolled_super_resolution",
        "TV, layers",
        "TV, chosen",
        "PSNR",
    ),
    Claim(
        "a U-Net is less stable than a certified model",
        "Antun et al. 2020",
        "well_posedness",
        "certified",
        "U-Net",
        "PSNR attacked",
    ),
)


def read(name: str) -> tuple[str, dict[str, dict[str, list[float]]]]:
    """Return the command of a record, and for each method and measure the numbers of
    all seeds."""
    if name not in COMMANDS:
        content: dict[str, Any] = json.loads(
            (FOLDER / f"{name}.json").read_text("utf-8")
        )
        return content["command"], content["results"]
    seeds: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    rows: dict[str, dict[str, list[float]]] = {}
    if name == KNEES:
        for setting, models in seeds["images"].items():
            for model, measured in models.items():
                means = [
                    statistics.mean(i["PSNR"] for i in m) for m in measured.values()
                ]
                rows[f"{setting}, {model}"] = {"PSNR": means}
        return COMMANDS[name], rows
    for runs in seeds.values():
        for method, entry in runs.items():
            measures = rows.setdefault(method, {"PSNR": [], "fixed point": []})
            for measure, values in measures.items():
                values.append(statistics.mean(entry[measure]))
    return COMMANDS[name], rows


def differences(claim: Claim) -> list[float]:
    """Return the difference of the two methods for each seed, positive where the claim
    holds."""
    _, rows = read(claim.record)
    better, worse = (rows[name][claim.measure] for name in (claim.better, claim.worse))
    sign = -1 if claim.smaller_is_better else 1
    return [sign * (a - b) for a, b in zip(better, worse, strict=True)]


def table() -> list[list[str]]:
    """Return the rows of the table."""
    rows = [["claim", "paper", "seen", "margin", "seeds", "command"]]
    for claim in CLAIMS:
        gains = differences(claim)
        holds = [gain > 0 for gain in gains]
        seen = {True: "yes", False: "no"}.get(
            holds[0] if len({*holds}) == 1 else None,
            f"for {sum(holds)} of {len(holds)} seeds",
        )
        low, high = (f"{value:+.2f}" for value in (min(gains), max(gains)))
        margin = low if low == high else f"{low} to {high}"
        command, _ = read(claim.record)
        rows.append(
            [
                claim.text,
                claim.paper,
                seen,
                f"{margin} {claim.unit}",
                str(len(gains)),
                f"``{command}``",
            ]
        )
    return rows


def main() -> None:
    """Write the table."""
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(table())


if __name__ == "__main__":
    main()
