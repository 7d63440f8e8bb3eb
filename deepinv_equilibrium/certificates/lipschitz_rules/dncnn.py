"""deepinv's DnCNN."""

from __future__ import annotations

from deepinv.models import DnCNN

from ..bound import Bound, derived, outward
from ..lipschitz import lipschitz
from ..lipschitz_registry import register_lipschitz_rule
from ..uncertifiable_module_error import UncertifiableModuleError


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
