"""Which rule gives the Lipschitz constant of a module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from ..bounds import Bound
from ..declarations import UncertifiableModuleError, declares, overrides, refuse_changed
from ..image_size import require_image_size

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


@torch.no_grad()
def lipschitz(module: nn.Module, img_size: Sequence[int] | None = None) -> Bound:
    r"""
    Upper bound :math:`L` of the Lipschitz constant of a module in the :math:`\ell_2`
    norm: :math:`\|f(x) - f(y)\|_2 \leq L\|x - y\|_2` for all :math:`x, y`.

    Each layer has a rule: convolutions by
    :func:`~deepinv_equilibrium.certificates.convolution_norm`, linear layers by their
    spectral norm, activations by their largest slope, batch normalisation in eval mode,
    pooling, resampling and padding by their overlaps, ``Sequential`` by the product.
    Skip connections must be declared, by
    :class:`~deepinv_equilibrium.certificates.Residual`: nothing is inferred from the
    code of a ``forward``. The weights are those that the module uses, parametrisations
    applied, and the arithmetic is exact: rounding in the module itself is left out.

    The bound is that of the module as it stands, weights and mode; it ends with any
    change of them. A product of the norms of many layers is a poor bound: 1e9 is usual
    for an ordinary network.

    >>> import torch, deepinv_equilibrium as deq
    >>> network = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.AvgPool2d(2))
    >>> print(deq.lipschitz(network))
    <= 0.5 (certified: product of 2 layers)

    :param torch.nn.Module module: the module.
    :param Sequence img_size: size of its input without the batch, ``(C, H, W)``. By
        default the bound holds for every size; pooling and upsampling to a given size
        are tighter with it.
    :return: a :class:`~deepinv_equilibrium.certificates.Bound`, whose ``source`` says
        how it was obtained.
    :raises UncertifiableModuleError: if a module within is unknown, random, in train
        mode where that matters, or has forward hooks; the error names it.
    :raises TypeError: if ``module`` is no module, ``img_size`` is no sequence, or the
        module's rule returns no upper bound.
    :raises ValueError: if ``img_size`` does not hold one to four positive integers.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {module!r}.")
    size = None if img_size is None else require_image_size(img_size)
    try:
        refuse_changed(module)
        bound = find_rule(module)(module, size)
    except UncertifiableModuleError as error:
        raise UncertifiableModuleError(error.module, error.reason, module) from None
    if not isinstance(bound, Bound) or bound.is_lower:
        raise TypeError(
            f"the Lipschitz rule of {type(module).__name__} must return an upper "
            f"Bound, got {bound!r}."
        )
    return bound
