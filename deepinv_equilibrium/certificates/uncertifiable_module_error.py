"""The refusal of a module about which nothing can be proved."""

from __future__ import annotations

from torch import nn


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
