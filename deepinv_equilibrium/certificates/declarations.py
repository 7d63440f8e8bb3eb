"""Constants that classes declare, and the refusal of parts that void a declaration."""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import FunctionType
from typing import Any, TypeVar

from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.utils.parametrize import type_before_parametrizations

from .reachable_objects import HOOKS, PLAIN, UNREAD, reachable, unwrapped


class UncertifiableModuleError(ValueError):
    r"""
    No Lipschitz constant can be proved for a module.

    :param torch.nn.Module module: the module.
    :param str reason: the reason and the remedy.
    :param torch.nn.Module root: the module that contains ``module`` and whose constant
        the user asked for; ``None`` if the user asked for that of ``module`` itself.
    """

    def __init__(
        self, module: nn.Module, reason: str, root: nn.Module | None = None
    ) -> None:
        self.module = module
        self.reason = reason
        #: The qualified name of the module within ``root``; empty for ``root`` itself.
        self.name = ""
        modules = () if root is None else root.named_modules(remove_duplicate=False)
        for name, candidate in modules:
            if candidate is module:
                self.name = name
                break
        label = f"{self.name!r}, a {type(module).__name__}," if self.name else ""
        label = label or f"a {type(module).__name__}"
        super().__init__(f"{label} cannot be certified: {reason}")


# A subclass may define these and still compute what its base computes.
_HARMLESS = {"__init__", "reset_parameters", "extra_repr", "__repr__", "__constants__"}
# These describe the computation and are not part of it.
_DECLARATIONS = {
    *("lipschitz_bound", "residual_bound", "is_firmly_nonexpansive"),
    *("gradient_bounds", "prox_error", "error_bound", "averagedness_bound"),
    "convexity_bound",
}


def declares(part: object, name: str, *computed_by: str) -> bool:
    r"""
    Return whether an object has a valid declaration of a constant.

    It has one if the instance declares the constant, or if a class declares it and no
    subclass below that class overrides any of its methods.

    :param object part: a denoiser or a prior.
    :param str name: the attribute or method that declares the constant.
    :param str computed_by: the methods that the constant describes. A class that
        defines one of them without declaring the constant has no valid declaration.
    :return: whether the declaration is valid.
    """
    if name in vars(part):
        return True
    below: list[type] = []
    part_type = type(part)
    if isinstance(part, nn.Module):
        part_type = type_before_parametrizations(part)
    for base in part_type.__mro__:
        if name in vars(base):
            return not any(overrides(lower, base) for lower in below)
        if any(method in vars(base) for method in computed_by):
            return False
        below.append(base)
    return False


def undeclared(part: object, name: str) -> str:
    r"""
    Say why an object has no valid declaration of a constant.

    :param object part: a denoiser or a prior for which :func:`declares` is false.
    :param str name: the attribute or method that declares the constant.
    :return: the reason, and the remedy if a class above declares the constant.
    """
    part_type = type(part)
    if isinstance(part, nn.Module):
        part_type = type_before_parametrizations(part)
    if not hasattr(part_type, name):
        return "not declared"
    below = part_type.__name__
    return (
        f"{below} inherits {name} and overrides a method of the class that defines it, "
        f"so it may compute something else: define {name} in {below}, too"
    )


def overrides(
    lower: type, base: type | None = None, *, harmless: Collection[str] = ()
) -> bool:
    r"""
    Return whether a class defines a method, a property or another descriptor that may
    change what its base computes.

    :param type lower: the class.
    :param type base: only names that this base has, too, count, and declarations of
        constants do not. Default: ``None``, every name counts.
    :param Collection harmless: further names that do not count.
    :return: whether there is such a definition.
    """
    ignored = {*_HARMLESS, *harmless, "__dict__", "__weakref__"}
    if base is not None:
        ignored |= _DECLARATIONS
    return any(
        (callable(value) or hasattr(value, "__get__"))
        and name not in ignored
        and (base is None or hasattr(base, name))
        for name, value in vars(lower).items()
    )


def replaced_methods(instance: object) -> list[str]:
    """Return the names of the methods that are replaced on an instance, other than by a
    function that :func:`computes_the_same` has marked."""
    fields = getattr(type(instance), "__dataclass_fields__", ())
    return [
        name
        for name, value in getattr(instance, "__dict__", {}).items()
        if callable(value)
        and callable(getattr(type(instance), name, None))
        and name not in fields
        and value not in _EQUIVALENT
    ]


_EQUIVALENT: list[Callable[..., Any]] = []
F = TypeVar("F", bound=Callable[..., Any])


def computes_the_same(function: F) -> F:
    """Mark a function that may replace a method on an instance, because it computes
    what the method computes. A decorator."""
    _EQUIVALENT.append(function)
    return function


def require_type(module: nn.Module, expected: type[nn.Module]) -> None:
    r"""
    Refuse a layer that is not exactly of a type. A subclass may compute another output.

    :param torch.nn.Module module: the layer.
    :param type expected: its type.
    :raises UncertifiableModuleError: if the layer is of another type.
    """
    if type_before_parametrizations(module) is not expected:
        raise UncertifiableModuleError(
            module,
            f"only the norm of a {expected.__name__} is known here, not that of a "
            f"subclass or of another layer. Put a {expected.__name__} in its place.",
        )


def refuse_changed(root: nn.Module) -> None:
    r"""
    Refuse hooks and methods that are replaced on an instance. Both may change what a
    module or its gradient computes.

    :param torch.nn.Module root: the module. All objects that it refers to are examined,
        too, whether they are modules or not; see
        :func:`~deepinv_equilibrium.certificates.reachable_objects.reachable`.
    :raises UncertifiableModuleError: if there is a hook or a replaced method.
    """
    for hooks in _GLOBAL_HOOKS:
        if getattr(torch_module, hooks):
            kind = hooks.removeprefix("_global_").replace("_", " ")
            raise UncertifiableModuleError(
                root, f"torch has global {kind}. Remove them."
            )
    for name, part in reachable(root):
        if isinstance(part, nn.Module):
            if unwrapped(part) is not part:
                continue  # torch.compile replaces methods of its wrapper
            _refuse_hooks(part, root)
        elif isinstance(part, (*PLAIN, *UNREAD, FunctionType)):
            continue
        for method in replaced_methods(part):
            if isinstance(part, nn.Module):
                reason = f"its {method} was replaced on the instance. Remove it."
                raise UncertifiableModuleError(part, reason, root)
            reason = (
                f"{method} of its {name}, a {type(part).__name__}, was replaced on the "
                "instance. Remove it."
            )
            raise UncertifiableModuleError(root, reason)


_GLOBAL_HOOKS: tuple[str, ...] = ("_global_forward_hooks", "_global_forward_pre_hooks")
_GLOBAL_HOOKS += ("_global_backward_hooks", "_global_backward_pre_hooks")


def _refuse_hooks(module: nn.Module, root: nn.Module) -> None:
    for hooks in HOOKS:
        if getattr(module, hooks):
            raise UncertifiableModuleError(
                module,
                f"it has {hooks.strip('_').replace('_', ' ')}. Remove them; "
                "weight_norm and spectral_norm of torch.nn.utils are hooks: use those "
                "of its parametrizations.",
                root,
            )
    compiled = module._compiled_call_impl  # set by Module.compile
    if not (compiled is None or hasattr(compiled, "_torchdynamo_orig_callable")):
        raise UncertifiableModuleError(
            module, "its _compiled_call_impl was replaced. Remove it.", root
        )


def refuse_overridden(model: object, name: str) -> None:
    r"""
    Refuse a model whose class inherits a declaration from a base class and overrides
    methods of that class: it may compute something else.

    :param object model: the model.
    :param str name: the method that declares, such as ``"contraction"``.
    :raises UncertifiableModuleError: if a class below the declaring class overrides a
        method, the properties and constants that it declares excepted.
    """
    if isinstance(model, nn.Module) and not declares(model, name):
        below = type(model).__name__
        raise UncertifiableModuleError(
            model,
            f"{below} overrides a method of the class that defines its {name}, and "
            f"may compute another step. Define {name} in {below}, too.",
        )
