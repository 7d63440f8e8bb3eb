"""One case of a property, and what its outcome counts as."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from .draws import Draw
from .outcomes import RefusedError, VoidError

OUTCOMES = ("checked", "refused", "void")


@dataclass(frozen=True)
class Attack:
    """
    A property that random cases attack.

    :param function: draws a case and checks it.
    :param short: cases in the suite.
    :param share: weight in the long run.
    """

    function: Callable[[Draw], None]
    short: int
    share: float = 1.0

    @property
    def name(self) -> str:
        """The property in words."""
        return self.function.__name__.replace("_", " ")


def outcome(attack: Attack, draw: Draw) -> str:
    """
    Run one case.

    :return: ``"checked"``, ``"refused"`` or ``"void"``.
    :raises ViolationError: if the property does not hold.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            attack.function(draw)
        except RefusedError:
            return "refused"
        except VoidError:
            return "void"
    return "checked"


def run_cases(
    attack: Attack, count: int, number: int | None, case: Callable[[Draw], Any]
) -> None:
    """
    Run cases of a property.

    :param count: how many.
    :param number: seed; ``None`` for the cases of the suite.
    :param case: what is done with each.
    """

    @settings(
        max_examples=count,
        derandomize=number is None,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def cases(data: st.DataObject) -> None:
        case(data.draw)

    (cases if number is None else seed(number)(cases))()
