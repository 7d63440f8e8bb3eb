"""What a module declares about what it computes, and whether it still computes that."""

from __future__ import annotations

from torch import nn
from torch.nn.modules import module as torch_module

from .uncertifiable_module_error import UncertifiableModuleError


def declares(part: object, name: str, *computed_by: str) -> bool:
    r"""
    Whether an object declares a constant of what it computes: on the instance, or in a
    class below which the computation is not overridden.

    :param object part: a denoiser or a prior.
    :param str name: the attribute or method that declares the constant.
    :param str computed_by: the methods that it is about.
    """
    if name in vars(part):
        return True
    for base in type(part).__mro__:
        if name in vars(base):
            return True
        if any(method in vars(base) for method in computed_by):
            return False
    return False


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
