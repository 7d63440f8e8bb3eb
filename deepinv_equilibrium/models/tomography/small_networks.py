"""The small networks of which learned iterations are made."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def three_convolutions(
    in_channels: int, out_channels: int, filters: int, activation: type[nn.Module]
) -> nn.Sequential:
    r"""
    Three 3×3 convolutions with activations between them, zero-padded, whose output is
    added to something: it starts small, so that iterations do not grow before they have
    learned anything.

    :param int in_channels: channels of the input.
    :param int out_channels: channels of the output.
    :param int filters: channels between the layers.
    :param type activation: :class:`torch.nn.ReLU` or :class:`torch.nn.PReLU`.
    :return: (torch.nn.Sequential) the network, initialised by :func:`glorot`, with a
        tenth of that in the last layer.
    """
    last = nn.Conv2d(filters, out_channels, 3, padding=1)
    network = nn.Sequential(
        nn.Conv2d(in_channels, filters, 3, padding=1),
        activation(),
        nn.Conv2d(filters, filters, 3, padding=1),
        activation(),
        last,
    )
    glorot(network)
    with torch.no_grad():
        last.weight.mul_(0.1)
    return network


def glorot(network: Network) -> Network:
    r"""
    Draw the weights of convolutions as Glorot and Bengio do, with biases at 0, as the
    code of :footcite:t:`adler2018learned` does.

    :param torch.nn.Module network: changed in place.
    :return: (torch.nn.Module) the network.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
