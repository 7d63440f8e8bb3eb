"""A short run of the fuzzer; ``python -m tests.fuzz`` makes a long one."""

from __future__ import annotations

from collections import Counter

from .__main__ import case


def test_random_programs_end_with_a_right_answer_or_a_named_error() -> None:
    outcomes: Counter[str] = Counter()
    for number in range(60):
        case(number, outcomes)
    assert outcomes["called, 0 of 5 refused"] > 3
    assert outcomes["solved"] > 10
    assert outcomes["differentiated"] + outcomes["solved and differentiated"] > 3
