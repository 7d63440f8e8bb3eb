"""Certificates as plain data and as LaTeX."""

from __future__ import annotations

import json
import math
import re

import deepinv as dinv
import pytest

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Certificate

PHYSICS = dinv.physics.Denoising()


def certificate(name: str) -> Certificate:
    """A certificate that proves a contraction, a decrease, or nothing."""
    if name == "unproved":
        model = deq.plugins.create("reconstructors", "deq-pgd", denoiser="small-drunet")
        return deq.certify(model, PHYSICS, (3, 16, 16))
    model = deq.optim.GD(
        data_fidelity=dinv.optim.L2(),
        prior=deq.models.RidgeRegulariser(1),
        stepsize="auto",
        lambda_reg=[0.1, 0.2],
        sigma_denoiser=0.05,
        DEQ=deq.Equilibrium(layers=2),
    )
    return deq.certify(model, PHYSICS, (1, 8, 8))


@pytest.mark.parametrize("name", ["contracts", "unproved"])
def test_data_survive_json_and_have_the_numbers_of_the_certificate(name: str):
    proved = certificate(name)
    data = json.loads(json.dumps(proved.to_dict(), allow_nan=False))
    assert data == proved.to_dict()
    assert data["proved"] == name
    assert data["img_size"] == list(proved.img_size)
    assert data["fingerprint"] == dict(proved.fingerprint)
    rate = proved.rate.value
    assert data["rate"]["value"] == (rate if math.isfinite(rate) else None)
    assert data["rate"]["source"] == proved.rate.source
    assert [t["symbol"] for t in data["terms"]] == [t.symbol for t in proved.terms]
    assert len(data["layers"]) == len(proved.contraction.layers)
    assert (data["energy"] is None) is (proved.energy is None)


@pytest.mark.parametrize("name", ["contracts", "unproved"])
def test_table_is_balanced_and_has_a_row_for_each_term(name: str):
    proved = certificate(name)
    table = proved.to_latex()
    assert table.count("{") == table.count("}")
    assert table.count("$") % 2 == 0
    rows = [line for line in table.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + len(proved.terms) + 2
    assert all(row.count("&") == 3 for row in rows)
    # Outside mathematics, nothing that LaTeX reads as a command is left.
    words = re.sub(r"\$[^$]*\$", "", table)
    assert not re.search(r"(?<!\\)[_^#%]|[<>|]", words)


def test_table_rounds_to_the_safe_side_and_says_what_is_not_proved():
    proved = certificate("contracts")
    (row,) = (r for r in proved.to_latex().splitlines() if "contraction rate" in r)
    shown = re.search(r"\\le ([0-9.]+)\$", row)
    assert shown is not None
    assert proved.rate.value <= float(shown[1]) <= proved.rate.value * (1 + 1e-3)
    (row,) = (
        r
        for r in certificate("unproved").to_latex().splitlines()
        if "contraction rate" in r
    )
    assert row == r"contraction rate & $\rho$ & none & not proved \\"


def test_symbols_are_those_of_the_report():
    table = certificate("contracts").to_latex()
    for symbol in (
        r"$\mu$",
        "$L$",
        "$m$",
        "$L_{R}$",
        r"$\lambda_{1}$",
        r"$\lambda_{2}$",
    ):
        assert symbol in table
