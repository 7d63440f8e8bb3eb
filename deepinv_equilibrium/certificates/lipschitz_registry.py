"""Which rule gives the Lipschitz constant of a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from .bound import Bound
from .declaration import declares, overrides
from .uncertifiable_module_error import UncertifiableModuleError

Rule = Callable[[Any, "tuple[int, ...] | None"], Bound]
R = TypeVar("R", bound=Rule)

_RULES: dict[type[nn.Module], Rule] = {}


def register_lipschitz_rule(*types: type[nn.Module]) -> Callable[[R], R]:
    r"""
    Declare the Lipschitz constant of modules of a type, as a decorator.

    The rule is a function ``rule(module, img_size) -> Bound`` of the module and of the
    size of its input without the batch, a tuple or None where it is not known. It gives
    an upper bound in the :math:`\ell_2` norm, and may call
    :func:`deepinv_equilibrium.lipschitz` on the module's parts and raise
    :class:`~deepinv_equilibrium.certificates.UncertifiableModuleError`. The package
    believes it: a bound of kind certified must be proved.

    Subclasses have the rule only if they override no method. A later rule for the same
    type replaces the former. A module of one's own can define
    ``lipschitz_bound(self, img_size) -> Bound`` instead, which subclasses inherit in
    the same way.

    >>> import torch
    >>> from deepinv_equilibrium import certificates, lipschitz
    >>> class Halve(torch.nn.Module):
    ...     def forward(self, x):
    ...         return x / 2
    >>> @certificates.register_lipschitz_rule(Halve)
    ... def halve(module, img_size):
    ...     return certificates.Bound(0.5, source="halving")
    >>> print(lipschitz(Halve()))
    <= 0.5 (certified: halving)

    :param type types: one or more subclasses of :class:`torch.nn.Module`.
    :raises TypeError: if one is not.
    """
    for module_type in types:
        if not (isinstance(module_type, type) and issubclass(module_type, nn.Module)):
            raise TypeError(f"a rule is for types of modules, got {module_type!r}.")

    def register(rule: R) -> R:
        _RULES.update(dict.fromkeys(types, rule))
        return rule

    return register


def find_rule(module: nn.Module) -> Rule:
    r"""
    The rule for a module: that of its type, or its method ``lipschitz_bound``, or the
    method or the rule of a base all of whose methods it keeps.

    :param torch.nn.Module module: the module, parametrised or not.
    :raises UncertifiableModuleError: if there is none.
    """
    module_type: type[nn.Module] = type_before_parametrizations(module)
    if module_type in _RULES:
        return _RULES[module_type]
    declared = "lipschitz_bound"
    if declared not in vars(module) and declares(module, declared, "forward"):
        return lambda asked, img_size: asked.lipschitz_bound(img_size)
    for base in module_type.__mro__:
        if base in _RULES:
            return _RULES[base]
        if overrides(base):
            break
    raise UncertifiableModuleError(
        module,
        "no rule is known for it, and none is inherited by a class that overrides a "
        "method. Declare one with register_lipschitz_rule, or define its method "
        "lipschitz_bound(img_size).",
    )
