"""Bounds of norms as functions of a weight, which are computed once for its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .weight_copies import WeightCopy, is_cacheable

BoundFunction: TypeAlias = Callable[[Tensor], Tensor]
"""A differentiable function of a weight that returns a tensor without axes."""


class WeightBound:
    r"""
    A bound of a norm as a function of one weight.

    The bound and its gradient are stored with a copy of the weight, and computed again
    when the values of the weight differ from the copy, also after a write through
    ``weight.data``. Derivatives of every order pass through the bound.

    :param Callable function: the bound, a function of a module, so that layers can be
        copied and pickled.
    """

    def __init__(self, function: BoundFunction):
        self.function = function
        self._cache: tuple[WeightCopy, Tensor, Tensor] | None = None

    def copies(self, weight: nn.Parameter) -> list[tuple[WeightCopy, nn.Parameter]]:
        """Return the copy for which the bound is known, if there is one, with the
        weight; see :func:`compare_weights`."""
        if self._cache is None or not is_cacheable(weight):
            return []
        return [(self._cache[0], weight)]

    def __call__(self, weight: nn.Parameter) -> Tensor:
        """Return the bound for a weight, with its gradient."""
        if not is_cacheable(weight):
            return self.function(weight)
        if self._cache is None or not self._cache[0].matches(weight):
            self._cache = WeightCopy(weight), *self._bound_and_gradient(weight)
        _, bound, gradient = self._cache
        if torch.is_grad_enabled() and weight.requires_grad:
            bound = _CachedBound.apply(self.function, weight, bound, gradient)
        return bound

    def _bound_and_gradient(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        # The cache is used later, in other modes than that of the first application.
        with torch.inference_mode(False), torch.enable_grad():
            weight = weight.detach().requires_grad_()
            bound = self.function(weight)
            (gradient,) = torch.autograd.grad(bound, weight)
            return bound.detach(), gradient


class _CachedBound(torch.autograd.Function):
    """The bound as a function of the weights, with cached value and gradient."""

    @staticmethod
    def forward(
        function: BoundFunction, weight: Tensor, bound: Tensor, gradient: Tensor
    ) -> Tensor:
        return bound.clone()

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[BoundFunction, Tensor, Tensor, Tensor], output: Tensor
    ) -> None:
        ctx.function, weight, _, gradient = inputs
        ctx.save_for_backward(weight, gradient)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[None, Tensor, None, None]:
        weight, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradient = _CachedGradient.apply(ctx.function, weight, gradient)
        return None, cotangent * gradient, None, None


class _CachedGradient(torch.autograd.Function):
    """The gradient of the bound as a function of the weights, with a cached value. Its
    own derivative is computed on demand."""

    @staticmethod
    def forward(function: BoundFunction, weight: Tensor, gradient: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[BoundFunction, Tensor, Tensor], output: Tensor
    ) -> None:
        ctx.function, weight, _ = inputs
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[None, Tensor, None]:
        (weight,) = ctx.saved_tensors
        further = torch.is_grad_enabled()
        with torch.enable_grad():
            if not further:
                weight = weight.detach().requires_grad_()
            bound = ctx.function(weight)
            (gradient,) = torch.autograd.grad(bound, weight, create_graph=True)
            (second,) = torch.autograd.grad(
                gradient, weight, cotangent, create_graph=further
            )
        if torch.isfinite(cotangent).all() and not torch.isfinite(second).all():
            raise RuntimeError(
                "the norm of weight has no second derivative, because its largest "
                "singular value is multiple, as with torch.nn.init.dirac_. Perturb the "
                "weights, or do not differentiate twice with respect to them."
            )
        return None, second, None
