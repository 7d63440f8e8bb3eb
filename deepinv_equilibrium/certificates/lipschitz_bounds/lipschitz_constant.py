"""The Lipschitz constant of a module, and the rules that bound it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from deepinv.models import Denoiser
from deepinv.optim import Prior
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from ..bounds import Bound
from ..declarations import (
    UncertifiableModuleError,
    declares,
    overrides,
    refuse_changed,
    undeclared,
)
from ..image_size import require_image_size
from ..trial_calls import try_out
from .module_state import refuse_state

LipschitzRule = Callable[[Any, "tuple[int, ...] | None"], Bound]
R = TypeVar("R", bound=LipschitzRule)

SMALL = 32  # pixels of an axis in trial calls
_RULES: dict[type[nn.Module], LipschitzRule] = {}


def register_lipschitz_rule(*types: type[nn.Module]) -> Callable[[R], R]:
    r"""
    Register a rule for the Lipschitz constant of modules of some types, as a decorator.

    The rule is a function ``rule(module, img_size) -> Bound`` of the module and of the
    size of its input without the batch, a tuple, or ``None`` for any size. It returns
    an upper bound in the :math:`\ell_2` norm. It may call
    :func:`deepinv_equilibrium.lipschitz` on parts of the module, and raise
    :class:`~deepinv_equilibrium.certificates.UncertifiableModuleError`. The package
    does not check the rule: a bound of kind certified must be proved.

    A subclass inherits the rule only if it overrides no method. A later rule for a type
    replaces an earlier one. A user-defined module can define the method
    ``lipschitz_bound(self, img_size) -> Bound`` instead; a subclass inherits it under
    the same condition.

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
    :return: the decorator.
    :raises TypeError: if one of them is not such a subclass.
    """
    for module_type in types:
        if not (isinstance(module_type, type) and issubclass(module_type, nn.Module)):
            raise TypeError(f"a rule is for types of modules, got {module_type!r}.")

    def register(rule: R) -> R:
        _RULES.update(dict.fromkeys(types, rule))
        return rule

    return register


def lipschitz_rule_of(module: nn.Module) -> LipschitzRule:
    r"""
    Return the rule for a module: the rule of its type, else its method
    ``lipschitz_bound``, else the rule of a base class. The method and the rule of a
    base class count only if no class below it overrides a method.

    :param torch.nn.Module module: the module, parametrised or not.
    :return: the rule.
    :raises UncertifiableModuleError: if there is no rule.
    """
    module_type: type[nn.Module] = type_before_parametrizations(module)
    if module_type in _RULES:
        return _RULES[module_type]
    declared = "lipschitz_bound"
    if declared not in vars(module) and declares(module, declared, "forward"):
        return lambda part, img_size: part.lipschitz_bound(img_size)
    for base in module_type.__mro__:
        if base in _RULES:
            return _RULES[base]
        if overrides(base):
            break
    name = module_type.__name__
    remedy = (
        f"Define the method lipschitz_bound(img_size) in {name}, or declare a rule for "
        f"{name} with register_lipschitz_rule."
    )
    if declared in vars(module):
        reason = f"its {declared} was replaced on the instance."
    elif hasattr(module_type, declared):
        reason = undeclared(module, declared) + "."
        remedy = f"Or declare a rule for {name} with register_lipschitz_rule."
    else:
        reason = (
            "no rule is known for it, and a class that overrides a method inherits "
            "none."
        )
    raise UncertifiableModuleError(module, f"{reason} {remedy}")


def effective_weight(module: nn.Module, name: str = "weight") -> Tensor:
    r"""
    Return a copy of a parameter or buffer of a module, with its parametrisations
    applied and without a graph.

    :param torch.nn.Module module: the module; unchanged.
    :param str name: name of the parameter or buffer. Default: ``"weight"``.
    :return: the tensor.
    :raises UncertifiableModuleError: if the tensor changes from one use to the next or
        is not finite.
    """
    with torch.no_grad():
        buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
        value = getattr(module, name).clone()
        changes = is_parametrized(module, name) and not torch.equal(
            value, getattr(module, name)
        )
        if changes:
            for buffer, before in buffers:
                buffer.copy_(before)
    if not torch.isfinite(value).all():
        raise UncertifiableModuleError(
            module, f"its {name} holds an infinity or a NaN."
        )
    if changes:
        raise UncertifiableModuleError(
            module,
            f"its {name} changes at every use: a parametrisation is random, or in "
            "train mode. Call eval().",
        )
    return value


@torch.no_grad()
def lipschitz(module: nn.Module, img_size: Sequence[int] | None = None) -> Bound:
    r"""
    Upper bound :math:`L` of the Lipschitz constant of a module in the :math:`\ell_2`
    norm: :math:`\|f(x) - f(y)\|_2 \leq L\|x - y\|_2` for all :math:`x, y`.

    Each layer is bounded by a rule:

    - convolutions by :func:`~deepinv_equilibrium.certificates.convolution_norm`;
    - linear layers by their spectral norm;
    - activations by their largest slope;
    - batch normalisation in eval mode by its largest scale;
    - pooling, resampling and padding by the overlaps of their windows;
    - ``Sequential`` by the product of its layers.

    Skip connections must be declared by
    :class:`~deepinv_equilibrium.certificates.Residual`, because nothing is inferred
    from the code of ``forward``. Parametrisations of weights are applied. The
    arithmetic of the module is taken as exact.

    The bound holds for the current weights and mode (train or eval) of the module, and
    for real inputs unless the weights are complex. With ``img_size`` the module is
    called on two random images, small ones if it takes them, and on one of them alone.
    A module that is random or couples the images of a batch is refused, and a
    :class:`deepinv.models.Denoiser` that overwrites its image. A denoiser is called
    with the noise level 0.1.

    The product of the norms of many layers is a poor bound: for a typical network it is
    about 1e9.

    >>> import torch, deepinv_equilibrium as deq
    >>> network = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.AvgPool2d(2))
    >>> print(deq.lipschitz(network))
    <= 0.5 (certified: product of 2 layers)

    :param torch.nn.Module module: the module.
    :param Sequence img_size: size of its input without the batch, ``(C, H, W)``. It
        makes the bounds of pooling and upsampling tighter. Default: ``None``, the bound
        holds for every size.
    :return: a :class:`~deepinv_equilibrium.certificates.Bound`, whose ``source`` says
        how it was obtained.
    :raises UncertifiableModuleError: if the module or a submodule has no rule, is
        random, must be in eval mode, has forward hooks, or has parameters or settings
        that are not finite; the error names it.
    :raises TypeError: if ``module`` is not a module, ``img_size`` is not a sequence, or
        the module's rule does not return an upper bound.
    :raises ValueError: if ``img_size`` does not consist of one to four positive
        integers.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {module!r}.")
    size = None if img_size is None else require_image_size(img_size)
    try:
        refuse_changed(module)
        refuse_state(module)
        bound = bound_of(module, size)
        if size is not None and not bound.is_vacuous:
            refuse_by_trial(module, size)
    except UncertifiableModuleError as error:
        cause = error.__cause__
        raise UncertifiableModuleError(error.module, error.reason, module) from cause
    return bound


def bound_of(module: nn.Module, img_size: tuple[int, ...] | None) -> Bound:
    r"""
    Return the bound of a module by its rule, without the checks of :func:`lipschitz`,
    which cover all submodules. Rules call it on the parts of a module.

    :param torch.nn.Module module: the module.
    :param tuple img_size: size of its input without the batch, ``None`` for any size.
    :return: the bound.
    :raises UncertifiableModuleError: if there is no rule, or the rule refuses or fails.
    :raises TypeError: if the rule does not return an upper bound.
    """
    rule = lipschitz_rule_of(module)
    try:
        bound = rule(module, img_size)
    except UncertifiableModuleError:
        raise
    except Exception as error:
        raise UncertifiableModuleError(
            module, f"its rule raised a {type(error).__name__}: {error}"
        ) from error
    if not isinstance(bound, Bound) or bound.is_lower:
        raise TypeError(
            f"the Lipschitz rule of {type(module).__name__} must return an upper "
            f"Bound, got {bound!r}."
        )
    return bound


def refuse_by_trial(module: nn.Module, img_size: tuple[int, ...]) -> None:
    r"""
    Refuse a module that is random or couples the images of a batch, and a denoiser that
    overwrites the image, which algorithms read again. The module is called; see
    :func:`~deepinv_equilibrium.certificates.trial_calls.try_out`.

    :param torch.nn.Module module: the module. A prior is not called, because its
        constants are those of its proximal operator and not those of ``forward``.
    :param tuple img_size: size of its input without the batch.
    :raises UncertifiableModuleError: if it is one of these.
    """
    if isinstance(module, Prior):
        return
    if isinstance(module, OptimizedModule):
        module = module._orig_mod  # a call would compile for this size
    is_denoiser = isinstance(module, Denoiser)

    def call(images: Tensor) -> tuple[Callable[[Any], Any], Tensor]:
        return (lambda x: module(x, 0.1)) if is_denoiser else module, images

    # Small images show the same, unless the module takes images of one size only.
    small = (*img_size[:1], *(min(n, SMALL) for n in img_size[1:]))
    trial = try_out([module], call, small)
    if not trial.has_run:
        trial = try_out([module], call, img_size)
    if trial.objection:
        raise UncertifiableModuleError(module, trial.objection)
    if trial.overwrites and is_denoiser:
        raise UncertifiableModuleError(
            module,
            "it overwrites its image, which algorithms read again. Build its "
            "activations with inplace=False.",
        )
