"""Compositions of layers: products, skip connections and rearrangements."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from ..bounds import Bound, derived, outward
from ..declarations import UncertifiableModuleError
from .lipschitz_constant import bound_of, lipschitz, register_lipschitz_rule


class Residual(nn.Module):
    r"""
    The residual block :math:`x \mapsto x + f(x)`. Its Lipschitz constant is at most
    :math:`1 + L_f`, where :math:`L_f` is that of :math:`f`. The block gets a copy of
    :math:`x`: an activation with ``inplace=True`` in :math:`f` does not change the
    :math:`x` that is added.

    >>> import torch, deepinv_equilibrium as deq
    >>> block = deq.certificates.Residual(torch.nn.Sigmoid())
    >>> print(deq.lipschitz(block))
    <= 1.25 (certified: 1 + block)

    :param torch.nn.Module block: :math:`f`. Its output must have the shape of its
        input.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        r"""
        Return :math:`x + f(x)`.

        :param torch.Tensor x: the input.
        :return: the sum.
        :raises ValueError: if :math:`f(x)` and :math:`x` differ in shape. Broadcasting
            would change the Lipschitz constant.
        """
        out = self.block(x.clone())
        if out.shape != x.shape:
            raise ValueError(
                f"block must keep the shape of its input: {tuple(x.shape)} became "
                f"{tuple(out.shape)}."
            )
        return x + out

    def lipschitz_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        Return the bound :math:`1 + L_f`.

        :param tuple img_size: size of the input without the batch. Default: ``None``,
            any size.
        :return: the bound.
        """
        block = lipschitz(self.block, img_size)
        return derived(outward(1 + block.value), [block], "1 + block")


@register_lipschitz_rule(nn.Sequential)
def sequential(module: nn.Sequential, img_size: tuple[int, ...] | None) -> Bound:
    """Bound a sequence by the product of its layers' bounds."""
    bounds = []
    for name, layer in module._modules.items():
        if layer is None:
            raise UncertifiableModuleError(
                module, f"its layer {name!r} is None. Put nn.Identity() in its place."
            )
        bounds.append(bound_of(layer, img_size))
        img_size = output_size(layer, img_size)
    plural = "" if len(bounds) == 1 else "s"
    return derived(
        product_of_bounds(bounds), bounds, f"product of {len(bounds)} layer{plural}"
    )


def product_of_bounds(bounds: list[Bound]) -> float:
    """Return the product of bounds, including its rounding."""
    product = 1.0
    for bound in bounds:
        product = outward(product * bound.value)
    return product


def output_size(
    module: nn.Module, img_size: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    r"""
    Return the size of a module's output, computed with an empty batch.

    :param torch.nn.Module module: the module.
    :param tuple img_size: size of its input without the batch, ``None`` if unknown.
    :return: the size without the batch; ``None`` if ``img_size`` is ``None`` or the
        module fails on an empty batch.
    """
    if img_size is None:
        return None
    tensors = itertools.chain(module.parameters(), module.buffers())
    like = next((t for t in tensors if t.is_floating_point()), torch.empty(0))
    try:
        return tuple(module(like.new_empty((0, *img_size))).shape[1:])
    except Exception:  # noqa: BLE001, a user's layer may raise anything
        return None


@register_lipschitz_rule(
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ChannelShuffle,
)
def isometry(module: nn.Module, img_size: tuple[int, ...] | None) -> Bound:
    """Bound a rearrangement of entries, which keeps the norm."""
    return Bound(1.0, source="isometry")
