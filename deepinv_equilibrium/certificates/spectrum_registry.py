"""Which rule bounds the spectrum of a physics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from deepinv.physics import LinearPhysics

from .bound import Interval

Rule = Callable[[Any, "tuple[int, ...]"], "Interval | None"]
R = TypeVar("R", bound=Rule)

_RULES: dict[type[LinearPhysics], Rule] = {}
# What a subclass may define and still have the A and the A_adjoint of its base.
_HARMLESS = {
    "A_dagger",
    "__init__",
    "__mul__",
    "__repr__",
    "__str__",
    "compute_norm",
    "extra_repr",
    "forward",
    "noise",
    "prox_l2",
    "sensor",
    "set_noise_model",
    "stack",
}


def register_spectrum_rule(*types: type[LinearPhysics]) -> Callable[[R], R]:
    r"""
    Declare the spectrum of :math:`A^\top A` for physics of a type, as a decorator.

    The rule is a function ``rule(physics, img_size) -> Interval`` of the physics, in
    double precision, and of the size of an image without the batch; it returns None
    where it does not know. The package believes it: a bound of kind certified must be
    proved, for the parameters that the physics has at the time of the call.

    Subclasses have the rule only if they override nothing that it may rest on. A later
    rule for the same type replaces the former. A physics of one's own can define
    ``spectrum(self, img_size) -> Interval`` instead.

    >>> from deepinv.physics import LinearPhysics
    >>> from deepinv_equilibrium import certificates, spectrum
    >>> class Halve(LinearPhysics):
    ...     def A(self, x, **kwargs):
    ...         return x / 2
    ...     def A_adjoint(self, y, **kwargs):
    ...         return y / 2
    >>> @certificates.register_spectrum_rule(Halve)
    ... def halve(physics, img_size):
    ...     return certificates.Interval(
    ...         certificates.Bound(0.25, source="halving", is_lower=True),
    ...         certificates.Bound(0.25, source="halving"),
    ...     )
    >>> print(spectrum(Halve(), (1, 8, 8)))
    [>= 0.25 (certified: halving), <= 0.25 (certified: halving)]

    :param type types: one or more subclasses of :class:`deepinv.physics.LinearPhysics`.
    :raises TypeError: if one is not.
    """
    for physics_type in types:
        if not (
            isinstance(physics_type, type) and issubclass(physics_type, LinearPhysics)
        ):
            raise TypeError(
                f"a rule is for types of LinearPhysics, got {physics_type}."
            )

    def register(rule: R) -> R:
        _RULES.update(dict.fromkeys(types, rule))
        return rule

    return register


def find_rule(physics: LinearPhysics) -> Rule | None:
    r"""
    The rule for a physics: that of its type, or its method ``spectrum``, or that of a
    base whose operator it keeps; None if there is none.

    :param deepinv.physics.LinearPhysics physics: the physics.
    """
    if any(
        callable(value) and callable(getattr(type(physics), name, None))
        for name, value in vars(physics).items()
    ):
        return None  # a method was replaced on the instance
    physics_type = type(physics)
    if physics_type in _RULES:
        return _RULES[physics_type]
    for base in physics_type.__mro__:
        if "spectrum" in vars(base):
            return lambda asked, img_size: asked.spectrum(img_size)
        if base in _RULES:
            return _RULES[base]
        if _overrides(base):
            break
    return None


def _overrides(physics_type: type) -> bool:
    """Whether a class defines a method, a property or the like that may change the
    operator of its base."""
    return any(
        (callable(value) or hasattr(value, "__get__")) and name not in _HARMLESS
        for name, value in vars(physics_type).items()
        if name not in ("__dict__", "__weakref__")
    )
