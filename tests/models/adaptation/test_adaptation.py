"""The report of an adaptation."""

from __future__ import annotations

import deepinv as dinv
import pytest
import torch

from deepinv_equilibrium.models import Adaptation, AdaptationStatus

from ...one_test import in_one_test
from ..operators import Gain


@in_one_test("status", [*AdaptationStatus])
def test_every_status_has_a_sentence_and_every_failure_a_remedy(
    status: AdaptationStatus,
) -> None:
    assert status.sentence.endswith(".")
    assert status.failed == (status.name in ("MAX_STEPS", "NONFINITE"))
    if status.failed:
        assert any(word in status.sentence for word in ("raise", "reduce"))


@pytest.mark.parametrize(("target", "noise"), [(0.01, "1.000e-02"), (None, "unknown")])
def test_str_prints_the_report(target: float | None, noise: str) -> None:
    adaptation = Adaptation(
        Gain(1.0),
        dinv.physics.Denoising(),
        AdaptationStatus.CONVERGED,
        torch.tensor([0.5, 0.2, 0.3]),
        torch.tensor([0.0, 0.04, 0.05]),
        torch.tensor([0.0, 0.0, 0.0]),
        1,
        target,
    )
    assert adaptation.steps == 2
    lines = repr(adaptation).splitlines()
    assert lines[0] == "CONVERGED after 2 steps, step 1 kept"
    assert (
        lines[1] == f"discrepancy 5.000e-01 -> 2.000e-01 (observed), of noise {noise}"
    )
    assert "4.000e-02" in lines[2]
    assert lines[3] == f"CONVERGED: {AdaptationStatus.CONVERGED.sentence}"
