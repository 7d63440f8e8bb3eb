"""A figure of TV weights and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_AXES = {2: ("y", "x"), 3: ("t", "y", "x")}


def plot_tv_map(
    images: Mapping[str, Tensor], weight: Tensor, directions: Sequence[int]
) -> Figure:
    r"""
    Plot images of one sample, and the weight of each group of directions.

    For volumes and time series, the middle entry of the first axis is shown. For
    complex images and images with two channels, which are real and imaginary parts, the
    modulus is shown.

    :param dict images: images of shape :math:`(1, C, H, W)` or :math:`(1, C, T, H, W)`,
        by their titles.
    :param torch.Tensor weight: :math:`\Lambda`, of shape :math:`(1, 1, d, H, W)` or
        :math:`(1, 1, d, T, H, W)`. Axes along which it is constant may have size 1.
    :param Sequence directions: the group of each direction, see
        :class:`~deepinv_equilibrium.models.TVMap`.
    :return: (matplotlib.figure.Figure) the figure.
    """
    from matplotlib import pyplot as plt  # optional, and slow to import

    weight = weight.detach().cpu()
    groups = sorted(set(directions))
    panels = len(images) + len(groups)
    figure, axes = plt.subplots(
        1, panels, figsize=(3 * panels, 3.2), squeeze=False, layout="constrained"
    )
    size = next(iter(images.values())).shape[2:]
    for axis, (title, image) in zip(axes[0], images.items(), strict=False):
        _show(axis, title, _picture(image))
    names = _AXES[len(directions)]
    for axis, group in zip(axes[0, len(images) :], groups, strict=True):
        members = [d for d, other in enumerate(directions) if other == group]
        field = weight[0, 0, members[0]].expand(size)
        field = field[field.shape[0] // 2] if field.ndim == 3 else field
        title = "weight of " + ", ".join(f"$D_{names[d]}$" for d in members)
        _show(axis, title, field)
        figure.colorbar(axis.images[0], ax=axis, shrink=0.8)
    return figure


def _picture(image: Tensor) -> Tensor:
    """Return one sample as (H, W) or (H, W, 3) in [0, 1]."""
    x = image.detach().cpu()[0]
    x = x[:, x.shape[1] // 2] if x.ndim == 4 else x
    if x.is_complex():
        x = x.abs()
    if len(x) == 2:
        x = torch.linalg.vector_norm(x, dim=0, keepdim=True)
    x = x.clamp(0, 1)
    return x.permute(1, 2, 0) if len(x) == 3 else x[0]


def _show(axis: Axes, title: str, picture: Tensor) -> None:
    axis.imshow(picture.numpy(), cmap="gray" if "weight" not in title else "viridis")
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
