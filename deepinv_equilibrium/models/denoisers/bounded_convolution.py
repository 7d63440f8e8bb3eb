"""A convolution that is nonexpansive for all weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.functional import conv2d

from ...certificates import convolution_norm
from ...fixed_points.argument_checks import require_count

# Grid points of each axis for the bound of the norm. The bound is fast enough to be
# computed in every training step, and at most 1.039 times the norm for 3 x 3 filters.
GRID = 16


class BoundedConvolution(nn.Module):
    r"""
    A zero-padded convolution divided by a certified bound of its norm,

    .. math::

        x \mapsto \frac{W}{B} * x + b, \qquad B \geq \|W\|,

    where :func:`deepinv_equilibrium.certificates.convolution_norm` computes :math:`B`.
    The layer is nonexpansive for every image size and for all weights, and so in every
    training step. :func:`torch.nn.utils.parametrizations.spectral_norm` divides by the
    norm of the reshaped kernel, which does not bound :math:`\|W\|`. Derivatives of
    every order pass through :math:`B`. The second derivative raises an error if the
    largest singular value is multiple.

    :math:`B` and its gradient are stored with a copy of the weights, and computed again
    when the values of the weights differ from the copy, also after a write through
    ``weight.data``.

    :param int in_channels: channels of the input.
    :param int out_channels: channels of the output.
    :param int kernel_size: side of the filters in pixels, odd.
    :raises ValueError: if an argument is out of its range.
    """

    run_state = frozenset(("_cache",))  # certificates do not cover it

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3
    ) -> None:
        super().__init__()
        require_count("in_channels", in_channels, 1)
        require_count("out_channels", out_channels, 1)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be odd and positive, got {kernel_size}."
            )
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels, kernel_size, kernel_size)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.kaiming_normal_(self.weight)
        # The weights, and the bound and its gradient for these weights.
        self._cache: tuple[WeightCopy, Tensor, Tensor] | None = None

    def normalised_weight(self) -> Tensor:
        r"""
        Return the filters :math:`W / B` that are applied.

        :return: (:class:`torch.Tensor`) filters of shape ``(out_channels, in_channels,
            kernel_size, kernel_size)``, in the dtype of the weights.
        """
        weight = self.weight
        if not is_cacheable(weight):
            return weight / self._bound(weight)
        if self._cache is None or not self._cache[0].matches(weight):
            self._cache = WeightCopy(weight), *self._bound_and_gradient()
        _, bound, gradient = self._cache
        if torch.is_grad_enabled() and weight.requires_grad:
            bound = _CachedBound.apply(weight, bound, gradient)
        return weight / bound

    @staticmethod
    def _bound(weight: Tensor) -> Tensor:
        # Rounding changes each entry of W / B by a relative eps at most, and the norm
        # by at most eps times the norm of the absolute values of the filters.
        limits = torch.finfo(weight.dtype)
        channels = min(weight.shape[:2])
        rounding = channels * weight.shape[-1] * limits.eps
        bound = convolution_norm(weight, grid=max(GRID, weight.shape[-1]))
        return (bound * (1 + 2 * rounding)).clamp_min(limits.tiny).to(weight.dtype)

    def _bound_and_gradient(self) -> tuple[Tensor, Tensor]:
        # The cache is used later, in other modes than that of the first application.
        with torch.inference_mode(False), torch.enable_grad():
            weight = self.weight.detach().requires_grad_()
            bound = self._bound(weight)
            (gradient,) = torch.autograd.grad(bound, weight)
            return bound.detach(), gradient

    def forward(self, x: Tensor) -> Tensor:
        r"""
        Apply the layer.

        :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
        :return: (:class:`torch.Tensor`) images of the same size, with ``out_channels``
            channels.
        """
        weight = self.normalised_weight().to(x.dtype)
        return conv2d(x, weight, self.bias.to(x.dtype), padding="same")

    def norm(self) -> float:
        r"""
        Return a certified upper bound of the norm :math:`\|W / B\|` of the filters that
        are applied.

        :return: (float) the bound, which is at most 1.
        """
        with torch.no_grad():
            return float(convolution_norm(self.normalised_weight().double()))

    def extra_repr(self) -> str:
        """Return the numbers of channels and the size of the filters."""
        outputs, inputs, kernel_size, _ = self.weight.shape
        return f"{inputs}, {outputs}, kernel_size={kernel_size}"


class _CachedBound(torch.autograd.Function):
    """The bound as a function of the weights, with cached value and gradient."""

    @staticmethod
    def forward(weight: Tensor, bound: Tensor, gradient: Tensor) -> Tensor:
        return bound.clone()

    @staticmethod
    def setup_context(
        ctx: FunctionCtx, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor
    ) -> None:
        weight, _, gradient = inputs
        ctx.save_for_backward(weight, gradient)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None]:
        weight, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradient = _CachedGradient.apply(weight, gradient)
        return cotangent * gradient, None, None


class _CachedGradient(torch.autograd.Function):
    """The gradient of the bound as a function of the weights, with a cached value. Its
    own derivative is computed on demand."""

    @staticmethod
    def forward(weight: Tensor, gradient: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(
        ctx: FunctionCtx, inputs: tuple[Tensor, Tensor], output: Tensor
    ) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        further = torch.is_grad_enabled()
        with torch.enable_grad():
            if not further:
                weight = weight.detach().requires_grad_()
            bound = BoundedConvolution._bound(weight)
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
        return second, None


class WeightCopy:
    r"""
    A copy of a weight, which tells later whether the values of the weight have changed.

    torch's version counter does not count writes through ``weight.data``, so that the
    values are compared.

    :param torch.nn.Parameter weight: the weight.
    """

    def __init__(self, weight: nn.Parameter) -> None:
        with torch.inference_mode(False):
            self._values = weight.detach().clone()

    def matches(self, weight: nn.Parameter) -> bool:
        r"""
        Tell whether a weight has the values of the copy.

        :param torch.nn.Parameter weight: the weight.
        :return: (bool) whether dtype, device, shape and all values are equal. NaN is
            different from NaN.
        """
        return (
            weight.dtype == self._values.dtype
            and weight.device == self._values.device
            and torch.equal(weight, self._values)
        )


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
