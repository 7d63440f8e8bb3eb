"""The image that learned reconstructions in tomography start from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepinv.models import ArtifactRemoval, UNet
from deepinv.physics import LinearPhysics, MultiCoilMRI, Physics
from torch import Tensor

from ...equilibrium.input_checks import check_images
from ...fixed_points.argument_checks import require_count
from ..least_squares_image import conjugate_gradient_image

# Iterative ones, which stop, and take their steps, for the batch as a whole.
_COUPLED = (LinearPhysics.A_dagger, MultiCoilMRI.A_dagger)


def filtered_back_projection(y: Tensor, physics: Physics) -> Tensor:
    r"""
    Filtered back-projection of a scan, in the unit of the images: :math:`A^\dagger y`
    of slides and papers on tomography. For any other physics it is deepinv's
    ``A_dagger`` where it is in closed form, and else the least-squares solution by
    conjugate gradients, to the ``tol`` and ``max_iter`` of the physics, for each sample
    on its own.

    deepinv's ``A_dagger`` of a scan is a least-squares solution, which amplifies the
    noise; the filtered back-projection is its method ``fbp``.

    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :return: (:class:`torch.Tensor`) images of shape :math:`(B, C, H, W)`.
    """
    analytic = getattr(physics, "fbp", None)
    if analytic is not None:
        return analytic(y)
    if isinstance(physics, LinearPhysics) and type(physics).A_dagger in _COUPLED:
        return conjugate_gradient_image(physics, y, physics.max_iter, physics.tol)
    return physics.A_dagger(y)


class FBPUNet(ArtifactRemoval):
    r"""
    A U-Net that cleans the filtered back-projection
    :footcite:p:`jin2017deep`,

    .. math::

        \hat x = A^\dagger y + \operatorname{UNet}_\theta(A^\dagger y).

    It is deepinv's :class:`ArtifactRemoval <deepinv.models.ArtifactRemoval>` of its
    :class:`UNet <deepinv.models.UNet>`, with the filtered back-projection of a scan in
    the place of the least-squares solution that ``mode="pinv"`` takes; for any other
    physics :math:`A^\dagger` is its ``A_dagger``. Measurement and operator have no part
    in it beyond that: nothing makes :math:`A \hat x` fit :math:`y`.

    It departs from the paper in that there is no batch normalisation, so that samples
    do not depend on their batch-mates in a training, and in its size: the defaults are
    for a training on a CPU; the paper has ``(64, 128, 256, 512, 1024)``.

    :param int in_channels: channels :math:`C` of the images.
    :param Sequence channels_per_scale: channels of each level, two levels or more.
    :raises ValueError: if an argument is out of its range.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> model = deq.models.FBPUNet()
    >>> physics = dinv.physics.Tomography(8, 20, circle=True, normalize=True)
    >>> with torch.no_grad():
    ...     print(model(physics(torch.rand(2, 1, 20, 20)), physics).shape)
    torch.Size([2, 1, 20, 20])
    """

    def __init__(
        self, in_channels: int = 1, channels_per_scale: Sequence[int] = (16, 32, 64)
    ) -> None:
        require_count("in_channels", in_channels, 1)
        if isinstance(channels_per_scale, str) or not isinstance(
            channels_per_scale, Sequence
        ):
            raise TypeError(
                "channels_per_scale must be a tuple of integers, such as (16, 32, 64), "
                f"got {channels_per_scale!r}."
            )
        widths = tuple(channels_per_scale)
        if len(widths) < 2:
            raise ValueError(
                "channels_per_scale must have two levels or more, such as (16, 32, "
                f"64), got {channels_per_scale!r}."
            )
        for width in widths:
            require_count("channels_per_scale", width, 1)
        network = UNet(
            in_channels, in_channels, batch_norm=False, channels_per_scale=widths
        )
        super().__init__(network, mode="pinv")
        self.in_channels = in_channels

    def forward(self, y: Tensor, physics: Physics, **kwargs: Any) -> Tensor:
        r"""
        Reconstruct.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :return: (:class:`torch.Tensor`) images of shape :math:`(B, C, H, W)`.
        :raises TypeError: if the physics is none, the precision of ``y`` is not that of
            the weights, or an argument is unknown.
        :raises ValueError: if :math:`A^\dagger y` is no batch of images with
            ``in_channels`` channels.
        """
        if kwargs:
            raise TypeError(f"FBPUNet takes no argument {next(iter(kwargs))!r}.")
        if not isinstance(physics, Physics):
            raise TypeError(
                "physics must be a deepinv Physics, as in model(y, physics), got "
                f"{type(physics).__name__}."
            )
        x = filtered_back_projection(y, physics)
        check_images(x, self.in_channels)
        dtype = next(self.parameters()).dtype
        if x.dtype != dtype:
            raise TypeError(
                f"y has the precision of {y.dtype}, and the weights of {dtype}; convert"
                f" the model with .to({y.dtype}), or y."
            )
        return self.backbone_inference(x, physics, y)
