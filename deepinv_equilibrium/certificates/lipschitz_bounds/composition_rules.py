"""Sequential: the product of the layers."""

from __future__ import annotations

import itertools

import torch
from deepinv.models import DnCNN
from torch import nn

from ..bounds import Bound, derived, outward
from ..declarations import UncertifiableModuleError
from .lipschitz_constant import lipschitz, register_lipschitz_rule


@register_lipschitz_rule(nn.Sequential)
def sequential(module: nn.Sequential, img_size: tuple[int, ...] | None) -> Bound:
    """The product of the layers' bounds."""
    bounds, product = [], 1.0
    for layer in module:
        bounds.append(lipschitz(layer, img_size))
        product = outward(product * bounds[-1].value)
        img_size = output_size(layer, img_size)
    plural = "" if len(bounds) == 1 else "s"
    return derived(product, bounds, f"product of {len(bounds)} layer{plural}")


def output_size(
    module: nn.Module, img_size: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    r"""
    Size of a module's output without the batch, from a batch of no samples; None if the
    size of the input is not known, or the module does not take such a batch.

    :param torch.nn.Module module: the module.
    :param tuple img_size: size of its input without the batch.
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
    """The norm does not see where a number stands."""
    return Bound(1.0, source="isometry")


@register_lipschitz_rule(DnCNN)
def dncnn(module: DnCNN, img_size: tuple[int, ...] | None) -> Bound:
    """The identity plus the product of its layers, as its forward composes them."""
    inputs, outputs = module.in_conv.in_channels, module.out_conv.out_channels
    if inputs != outputs:
        raise UncertifiableModuleError(
            module,
            f"it adds an image of {inputs} channels to one of {outputs}. Take as many "
            "channels at both ends.",
        )
    hidden = module.depth - 2
    layers = [
        module.in_conv,
        *module.conv_list[:hidden],
        *module.nl_list[: hidden + 1],
        module.out_conv,
    ]
    bounds = [lipschitz(layer) for layer in layers]
    product = 1.0
    for bound in bounds:
        product = outward(product * bound.value)
    return derived(
        outward(1 + product), bounds, f"1 + product of {module.depth} convolutions"
    )
