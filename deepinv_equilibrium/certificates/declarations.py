"""Constants that classes declare, and the refusal of parts that void a declaration."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.utils.parametrize import type_before_parametrizations


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
    *("gradient_bounds", "prox_error", "error_bound"),
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
    """Return the names of the methods that are replaced on an instance."""
    return [
        name
        for name, value in vars(instance).items()
        if callable(value) and callable(getattr(type(instance), name, None))
    ]


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
    Refuse forward hooks and methods that are replaced on an instance. Both may change
    what a module computes.

    :param torch.nn.Module root: the module; its submodules are examined, too.
    :raises UncertifiableModuleError: if there is a hook or a replaced method.
    """
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        raise UncertifiableModuleError(
            root, "torch has global forward hooks. Remove them."
        )
    for module in root.modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise UncertifiableModuleError(
                module,
                "it has forward hooks. Remove them; weight_norm and spectral_norm of "
                "torch.nn.utils are hooks: use those of its parametrizations.",
            )
        for name in replaced_methods(module):
            raise UncertifiableModuleError(
                module, f"its {name} was replaced on the instance. Remove it."
            )
