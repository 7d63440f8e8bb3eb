"""Connected components of the pixels that total variation has made equal."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def connected_components(joined: Tensor) -> Tensor:
    r"""
    Label the components of a grid of pixels by their least index.

    Every pixel takes the least label of its neighbours and hands it to the pixel that
    its old label names; then labels are followed to their end. Components merge in
    pairs at least, so that the rounds grow with the logarithm of their size, on any
    device.

    :param torch.Tensor joined: of shape :math:`(B, C, d, N_1, \ldots, N_d)`, boolean:
        whether a pixel is joined to the next along axis :math:`d`. Last entries of an
        axis are not looked at.
    :return: (:class:`torch.Tensor`) for each pixel the least index, in the sample's
        flattened :math:`(C, N_1, \ldots, N_d)`, of the pixels it is connected to; of
        shape :math:`(B, n)`.
    """
    batch, shape = joined.shape[0], (*joined.shape[:2], *joined.shape[3:])
    size = joined[:, :, 0].numel() // batch
    # One grid for the whole batch: samples have no edge in common.
    labels = torch.arange(batch * size, device=joined.device)
    pixels = labels.reshape(shape)
    ends = [
        torch.stack(
            [
                pixels.narrow(2 + d, 0, n - 1)[inside],
                pixels.narrow(2 + d, 1, n - 1)[inside],
            ]
        )
        for d, n in enumerate(shape[2:])
        for inside in [joined[:, :, d].narrow(2 + d, 0, n - 1)]
    ]
    start, end = torch.cat(ends, dim=1)
    while True:
        a, b = labels[start], labels[end]
        if torch.equal(a, b):
            offset = size * torch.arange(batch, device=joined.device)[:, None]
            return labels.reshape(batch, size) - offset
        least = torch.minimum(a, b)
        # To the roots of both ends: whole trees are hooked to the lesser one.
        labels = labels.scatter_reduce(0, torch.maximum(a, b), least, "amin")
        while True:
            followed = labels[labels]
            if torch.equal(followed, labels):
                break
            labels = followed
