"""The refusal of a module about which nothing can be proved."""

from __future__ import annotations

from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.utils.parametrize import type_before_parametrizations


class UncertifiableModuleError(ValueError):
    r"""
    No Lipschitz constant can be proved for a module.

    :param torch.nn.Module module: the module.
    :param str reason: why, and what can be done about it.
    :param torch.nn.Module root: the module that was asked about, which holds it.
    """

    def __init__(
        self, module: nn.Module, reason: str, root: nn.Module | None = None
    ) -> None:
        self.module = module
        self.reason = reason
        #: The qualified name within the module that was asked about; empty for itself.
        self.name = ""
        modules = () if root is None else root.named_modules(remove_duplicate=False)
        for name, candidate in modules:
            if candidate is module:
                self.name = name
                break
        label = f"{self.name!r}, a {type(module).__name__}," if self.name else ""
        label = label or f"a {type(module).__name__}"
        super().__init__(f"{label} cannot be certified: {reason}")


# What a subclass may define and still compute what its base computes.
_HARMLESS = {"__init__", "reset_parameters", "extra_repr", "__repr__", "__constants__"}
# What says something about the computation, and is no part of it.
_DECLARATIONS = {
    *("lipschitz_bound", "residual_bound", "is_firmly_nonexpansive"),
    *("gradient_bounds", "prox_error", "error_bound"),
}


def declares(part: object, name: str, *computed_by: str) -> bool:
    r"""
    Whether an object declares a constant of what it computes: on the instance, or in a
    class of which no method is overridden below it.

    :param object part: a denoiser or a prior.
    :param str name: the attribute or method that declares the constant.
    :param str computed_by: the methods that it is about.
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


def overrides(lower: type, base: type | None = None) -> bool:
    """Whether a class defines a method, a property or the like that may change what
    its base computes: one that the base has, or any if no base is given."""
    harmless = _HARMLESS if base is None else _HARMLESS | _DECLARATIONS
    return any(
        (callable(value) or hasattr(value, "__get__"))
        and name not in harmless
        and (base is None or hasattr(base, name))
        for name, value in vars(lower).items()
        if name not in ("__dict__", "__weakref__")
    )


def require_type(module: nn.Module, expected: type[nn.Module]) -> None:
    r"""
    Refuse a layer that is none of a type, nor one of a subclass, whose output may be
    another one.

    :param torch.nn.Module module: the layer.
    :param type expected: its type.
    :raises UncertifiableModuleError: if it is of another.
    """
    if type_before_parametrizations(module) is not expected:
        raise UncertifiableModuleError(
            module,
            f"only the norm of a {expected.__name__} is known here, not that of a "
            f"subclass or of another layer. Put a {expected.__name__} in its place.",
        )


def refuse_changed(root: nn.Module) -> None:
    r"""
    Refuse hooks, and methods that were replaced on an instance: they may change what a
    module computes.

    :param torch.nn.Module root: the module; those within are asked too.
    :raises UncertifiableModuleError: if there are any.
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
        for name, value in vars(module).items():
            if callable(value) and callable(getattr(type(module), name, None)):
                raise UncertifiableModuleError(
                    module, f"its {name} was replaced on the instance. Remove it."
                )
