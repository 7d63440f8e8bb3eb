"""A convolution that is nonexpansive whatever its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.functional import conv2d

from ...certificates import convolution_norm

# Points an axis on which the norm is taken: fast enough for every step of a training,
# and at most 1.039 times the norm for filters of 3 x 3.
GRID = 16


class BoundedConvolution(nn.Module):
    r"""
    A convolution with zeros at the border, divided by a certified bound of its norm,

    .. math::

        x \mapsto \frac{W}{B} * x + b, \qquad B \geq \|W\|,

    with :math:`B` from :func:`deepinv_equilibrium.certificates.convolution_norm`: the
    layer is nonexpansive for every image size, at every step of a training. The norm of
    the reshaped kernel, by which :func:`torch.nn.utils.parametrizations.spectral_norm`
    divides, is no such bound. Derivatives of every order pass through :math:`B`; the
    second raises where a multiple singular value attains the norm.

    :math:`B` and its gradient are computed once for each state of the weights, however
    many iterations of an algorithm apply the layer; a second derivative of :math:`B`
    where it is asked for. Change the weights by an optimiser, ``load_state_dict`` or in
    ``torch.no_grad()``: what is written through ``weight.data`` is hidden from torch,
    the filters are then divided by the former :math:`B` and may expand. :meth:`norm`,
    and what is certified by it, is that of the filters that are applied in any case.

    :param int in_channels: channels of its input.
    :param int out_channels: channels of its output.
    :param int kernel_size: side of the filters, odd.
    :raises ValueError: if an argument is out of its range.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels) < 1:
            raise ValueError(
                "in_channels and out_channels must be at least 1, got "
                f"{in_channels} and {out_channels}."
            )
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be odd and positive, got {kernel_size}."
            )
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels, kernel_size, kernel_size)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.kaiming_normal_(self.weight)
        self._kept: tuple[WeightVersion, Tensor, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copied or pickled norm would outlive the weights that it belongs to.
        return self.__dict__ | {"_kept": None}

    def normalised_weight(self) -> Tensor:
        r"""
        The filters that are applied, :math:`W / B`.

        :return: (:class:`torch.Tensor`) of shape ``(out_channels, in_channels,
            kernel_size, kernel_size)`` and the dtype of the weights.
        """
        weight = self.weight
        if not has_version(weight):
            return weight / self._bound(weight)
        if self._kept is None or not self._kept[0].is_that_of(weight):
            self._kept = WeightVersion(weight), *self._bound_and_gradient()
        _, bound, gradient = self._kept
        if torch.is_grad_enabled() and weight.requires_grad:
            bound = _KeptBound.apply(weight, bound, gradient)
        return weight / bound

    @staticmethod
    def _bound(weight: Tensor) -> Tensor:
        # Rounding moves each entry of W / B by a relative eps at most, and the norm by
        # that of the absolute values of the filters.
        limits = torch.finfo(weight.dtype)
        channels = min(weight.shape[:2])
        rounding = channels * weight.shape[-1] * limits.eps
        bound = convolution_norm(weight, grid=max(GRID, weight.shape[-1]))
        return (bound * (1 + 2 * rounding)).clamp_min(limits.tiny).to(weight.dtype)

    def _bound_and_gradient(self) -> tuple[Tensor, Tensor]:
        # They outlive the modes in which the layer is first applied.
        with torch.inference_mode(False), torch.enable_grad():
            weight = self.weight.detach().requires_grad_()
            bound = self._bound(weight)
            (gradient,) = torch.autograd.grad(bound, weight)
            return bound.detach(), gradient

    def forward(self, x: Tensor) -> Tensor:
        r"""
        Apply the layer.

        :param torch.Tensor x: of shape :math:`(B, C, H, W)`.
        :return: (:class:`torch.Tensor`) of the same size.
        """
        weight = self.normalised_weight().to(x.dtype)
        return conv2d(x, weight, self.bias.to(x.dtype), padding="same")

    def norm(self) -> float:
        r"""
        Certified upper bound of :math:`\|W / B\|`, from the filters that are applied.

        :return: (float) it is at most 1, unless the weights were changed through
            ``weight.data``.
        """
        with torch.no_grad():
            return float(convolution_norm(self.normalised_weight().double()))

    def extra_repr(self) -> str:
        """Show the sizes."""
        outputs, inputs, kernel_size, _ = self.weight.shape
        return f"{inputs}, {outputs}, kernel_size={kernel_size}"


class _KeptBound(torch.autograd.Function):
    """A bound that is known already, with the gradient that is known of it."""

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
            gradient = _KeptGradient.apply(weight, gradient)
        return cotangent * gradient, None, None


class _KeptGradient(torch.autograd.Function):
    """The gradient of the bound, whose own derivative is computed if asked for."""

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
                "the norm of weight has no second derivative: its largest singular "
                "value is multiple, as with torch.nn.init.dirac_. Perturb the weights, "
                "or do not differentiate twice in them."
            )
        return second, None


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
