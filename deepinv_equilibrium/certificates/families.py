"""Physics that stand for a family of operators, for certificates that hold for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FAMILIES: dict[type, Callable[[Any], Any]] = {}
"""For a type of physics, the function that returns the stand-in of the family to which
a physics belongs, or ``None``. A certificate of the stand-in holds for the physics."""

ANY_MASK = "AnyMask"
"""The names of the types that stand for physics with any mask begin with it."""
