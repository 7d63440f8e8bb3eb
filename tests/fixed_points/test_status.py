from __future__ import annotations

import pytest

from deepinv_equilibrium.fixed_points import Status


@pytest.mark.parametrize("status", list(Status))
def test_every_status_has_a_sentence_and_failures_a_remedy(status: Status) -> None:
    assert status.sentence.endswith(".")
    assert status.failed == (
        status in {Status.MAX_ITER, Status.DIVERGED, Status.NONFINITE, Status.REFUTED}
    )
    remedies = (
        "raise max_iter",
        "Reduce the step size",
        "Check the input",
        "Certify it again",
    )
    assert any(remedy in status.sentence for remedy in remedies) == status.failed


def test_sentences_differ() -> None:
    assert len({status.sentence for status in Status}) == len(Status)
