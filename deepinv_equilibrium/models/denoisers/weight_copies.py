"""Copies of weights, which tell whether what was computed from the weights is valid."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ...fixed_points.constant_weights import weights_scope


class WeightCopy:
    r"""
    A copy of a weight, which tells later whether the values of the weight have changed.

    torch's version counter does not count writes through ``weight.data``, so that the
    values are compared; within :func:`constant_weights
    <deepinv_equilibrium.fixed_points.constant_weights.constant_weights>` once.

    :param torch.nn.Parameter weight: the weight.
    """

    def __init__(self, weight: nn.Parameter) -> None:
        with torch.inference_mode(False):
            self._values = weight.detach().clone()
        self._scope = weights_scope()
        self._matches = True

    def matches(self, weight: nn.Parameter) -> bool:
        r"""
        Tell whether a weight has the values of the copy.

        :param torch.nn.Parameter weight: the weight.
        :return: (bool) whether dtype, device, shape and all values are equal. NaN is
            different from NaN.
        """
        scope = weights_scope()
        if scope is None or self._scope is not scope:
            compare_weights([(self, weight)])
        return self._matches

    def may_match(self, weight: nn.Parameter) -> bool:
        """Tell whether dtype, device and shape are equal."""
        values = self._values
        return (weight.dtype, weight.device, weight.shape) == (
            values.dtype,
            values.device,
            values.shape,
        )


def compare_weights(pairs: Iterable[tuple[WeightCopy, nn.Parameter]]) -> None:
    r"""
    Compare copies with weights. The host reads one value for all of them, because each
    read makes it wait for an accelerator.

    :param Iterable pairs: copies and weights.
    """
    scope = weights_scope()
    candidates = []
    for copy, weight in pairs:
        if scope is None or copy._scope is not scope:
            copy._scope, copy._matches = scope, False
            if copy.may_match(weight):
                candidates.append((copy, weight))
    if not candidates:
        return
    equal = [(weight.detach() == copy._values).all() for copy, weight in candidates]
    flags = torch.stack(equal).tolist()
    for (copy, _), flag in zip(candidates, flags, strict=True):
        copy._matches = flag


def is_cacheable(weight: Tensor) -> bool:
    r"""
    Tell whether values that are computed from a weight may be cached.

    :param torch.Tensor weight: the weight.
    :return: (bool) ``False`` if another tensor replaces the parameter
        (``functional_call``, replicas) or has no values (the meta device), and in
        inference mode, compiled graphs and transforms of ``torch.func``, whose tensors
        must not be used outside them.
    """
    return (
        isinstance(weight, nn.Parameter)
        and not weight.is_inference()
        and not weight.is_meta
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )
