"""Whether a weight is still the one that something was computed from."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightVersion:
    r"""
    The state of a weight, to be asked later whether it has changed.

    :param torch.nn.Parameter weight: the weight as it is now.
    """

    def __init__(self, weight: nn.Parameter) -> None:
        self._weight = weight
        # Keeps the memory, so that no other weights can have the same address.
        self._values = weight.detach()
        self._version = weight._version

    def is_that_of(self, weight: nn.Parameter) -> bool:
        """Whether the weights are still the same. Changes in place through ``.data``
        are hidden from torch, and so from this."""
        return (
            weight is self._weight
            and weight._version == self._version
            and weight.data_ptr() == self._values.data_ptr()
            and weight.dtype == self._values.dtype
        )


def has_version(weight: Tensor) -> bool:
    """Whether what is computed from a weight may be kept: not where another tensor
    stands in for the parameter (``functional_call``, replicas), in inference mode, in
    a compiled graph, or in a transform of ``torch.func``, whose tensors end with it."""
    return (
        isinstance(weight, nn.Parameter)
        and not weight.is_inference()
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )
