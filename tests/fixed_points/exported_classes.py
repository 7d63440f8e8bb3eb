"""The solvers and adjoints that ``fixed_points`` exports, for tests of all of them."""

from __future__ import annotations

import inspect
from typing import Any

from deepinv_equilibrium import fixed_points
from deepinv_equilibrium.fixed_points import (
    FixedPointSolver,
    LinearSolver,
    Restarts,
    Safeguarded,
)


def exported_subclasses(base: type) -> list[Any]:
    """Return the concrete subclasses of a class that are exported."""
    exported = [getattr(fixed_points, name) for name in fixed_points.__all__]
    return [
        value
        for value in exported
        if inspect.isclass(value)
        and issubclass(value, base)
        and not inspect.isabstract(value)
    ]


# Safeguarded has required arguments, and Restarts ends as COMPLETED.
SOLVER_TYPES = [
    solver_type
    for solver_type in exported_subclasses(FixedPointSolver)
    if solver_type not in (Restarts, Safeguarded)
]
LINEAR_SOLVER_TYPES = exported_subclasses(LinearSolver)
