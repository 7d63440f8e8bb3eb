"""The convolutional networks of learned iterations."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def three_convolutions(
    in_channels: int, out_channels: int, filters: int, activation: type[nn.Module]
) -> nn.Sequential:
    r"""
    Build three zero-padded 3×3 convolutions with activations between them.

    Learned iterations add the output to their state. The initial output is small, so
    that untrained iterations do not grow.

    :param int in_channels: channels of the input.
    :param int out_channels: channels of the output.
    :param int filters: channels of the hidden layers.
    :param type activation: :class:`torch.nn.ReLU` or :class:`torch.nn.PReLU`.
    :return: (torch.nn.Sequential) the network, initialised by :func:`glorot`; the
        weights of the last layer are divided by 10.
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
    Initialise the convolutions of a network as in the code of
    :footcite:t:`adler2018learned`: weights from the uniform distribution of Glorot and
    Bengio, and biases of 0.

    :param torch.nn.Module network: the network, which is changed in place.
    :return: (torch.nn.Module) the network.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
