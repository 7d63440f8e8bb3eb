"""Linear networks, with which learned iterations compute classical steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def make_linear(network: nn.Module, matrix: Tensor) -> None:
    """Set the weights of three convolutions with PReLU such that they multiply the
    channels of each pixel by a matrix."""
    first, second, third = (m for m in network.modules() if isinstance(m, nn.Conv2d))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.zero_()
            module.bias.zero_()
        elif isinstance(module, nn.PReLU):
            module.weight.fill_(1.0)
    inputs = matrix.shape[1]
    first.weight[:inputs, :, 1, 1] = torch.eye(inputs)
    second.weight[:inputs, :inputs, 1, 1] = torch.eye(inputs)
    third.weight[:, :inputs, 1, 1] = matrix
