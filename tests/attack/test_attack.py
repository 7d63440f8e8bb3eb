"""A short run of the attack. The long one: ``python -m tests.attack``."""

from __future__ import annotations

import pytest

from .attacks import ATTACKS
from .cases import outcome, run_cases


@pytest.mark.parametrize("name", ATTACKS)
def test_property_holds_in_random_cases(name: str) -> None:
    attack = ATTACKS[name]
    outcomes: list[str] = []
    run_cases(
        attack, attack.short, None, lambda draw: outcomes.append(outcome(attack, draw))
    )
    assert "checked" in outcomes
