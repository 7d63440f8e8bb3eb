"""A short run of the attack. The long one: ``python -m tests.attack``."""

from __future__ import annotations

import pytest

from .attacks import ATTACKS
from .cases import outcome, run_cases
from .record import RECORD, Record


@pytest.mark.parametrize("name", ATTACKS)
def test_property_holds_in_random_cases(name: str) -> None:
    attack = ATTACKS[name]
    outcomes: list[str] = []
    run_cases(
        attack, attack.short, None, lambda draw: outcomes.append(outcome(attack, draw))
    )
    assert "checked" in outcomes


def test_last_long_run_is_complete_and_the_documentation_shows_it() -> None:
    record = Record.load()
    assert record.cases >= record.wanted >= 50_000
    assert not record.violations
    assert all(c.checked for c in record.properties.values())
    assert record.properties.keys() == ATTACKS.keys()
    assert RECORD.with_suffix(".rst").read_text() == record.table()
