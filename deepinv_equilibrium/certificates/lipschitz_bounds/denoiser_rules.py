"""deepinv's denoisers that are sequences of convolutions and activations."""

from __future__ import annotations

from collections.abc import Iterable

from deepinv.models import DnCNN, FFDNet
from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from ..bounds import Bound, derived, outward
from ..declarations import UncertifiableModuleError
from .composition_rules import product_of_bounds
from .linear_rules import keeps_size, norm_of_columns
from .lipschitz_constant import bound_of, register_lipschitz_rule
from .pointwise_rules import POINTWISE

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
# Layers that keep the size of an image.
KEEPING = {*POINTWISE, nn.Identity, nn.BatchNorm2d}


@register_lipschitz_rule(DnCNN)
def dncnn(module: DnCNN, img_size: tuple[int, ...] | None) -> Bound:
    """Bound a DnCNN by 1 plus the product of its layers in the order of ``forward``,
    which adds the image to the result of the last convolution."""
    hidden = module.depth - 2
    convolutions = [module.in_conv, *module.conv_list[:hidden], module.out_conv]
    layers = [*convolutions, *module.nl_list[: hidden + 1]]
    for layer in convolutions:
        # Other layers may overwrite the image.
        if type_before_parametrizations(layer) not in CONVOLUTIONS:
            raise UncertifiableModuleError(
                layer, "a DnCNN is bounded with layers Conv2d or Conv3d only."
            )
    _require_same_size(layers)
    inputs = module.in_conv.weight.shape[1] * module.in_conv.groups
    _require_same_channels(module, inputs, len(module.out_conv.weight))
    bounds = [bound_of(layer, None) for layer in layers]
    value = outward(1 + product_of_bounds(bounds))
    return derived(value, bounds, f"1 + product of {module.depth} convolutions")


@register_lipschitz_rule(FFDNet)
def ffdnet(module: FFDNet, img_size: tuple[int, ...] | None) -> Bound:
    """Bound an FFDNet in the image by the product of its layers, and by 1 plus this
    product if it adds the image. The map of noise levels is the last channel of its
    input and is constant in the image: the columns of the first convolution that belong
    to it do not count."""
    samplers = (module.downsampler, module.upsampler)
    first, *others = list(module.blocks)
    if (
        [type(layer) for layer in samplers] != [nn.PixelUnshuffle, nn.PixelShuffle]
        or type(first) is not nn.Sequential
        or type(first[0]) is not nn.Conv2d
        or first[0].groups != 1
    ):
        raise UncertifiableModuleError(
            module, "its layers are not those that deepinv builds. Declare a rule."
        )
    factors = (module.downsampler.downscale_factor, module.upsampler.upscale_factor)
    columns = first[0].weight.shape[1] - factors[0] ** 2
    rest = nn.Sequential(*first[1:], *others)
    bounds = [norm_of_columns(first[0], columns), bound_of(rest, None)]
    value, source = product_of_bounds(bounds), f"product of {len(module.blocks)} blocks"
    if module.residual_denoising:
        _require_same_size([m for m in module.blocks.modules() if not [*m.children()]])
        _require_same_channels(module, columns, len(others[-1].weight))
        _require_same_channels(module, *factors)
        value, source = outward(1 + value), f"1 + {source}"
    return derived(value, bounds, source)


def _require_same_size(layers: Iterable[nn.Module]) -> None:
    """Refuse layers that may change the size of the image: torch would broadcast the
    sum of two sizes, which has another norm."""
    for layer in layers:
        if type_before_parametrizations(layer) in CONVOLUTIONS:
            keeps = keeps_size(layer)  # type: ignore[arg-type]  # a convolution, as tested above
        else:
            keeps = type(layer) in KEEPING
        if not keeps:
            raise UncertifiableModuleError(
                layer,
                "the denoiser adds the image to its result, and this layer may change "
                "the size. Take convolutions with stride=1 and padding='same', and "
                "pointwise activations of torch.",
            )


def _require_same_channels(module: nn.Module, inputs: int, outputs: int) -> None:
    if inputs != outputs:
        raise UncertifiableModuleError(
            module,
            f"it adds an image of {inputs} channels to one of {outputs}. Take as many "
            "channels at both ends.",
        )
