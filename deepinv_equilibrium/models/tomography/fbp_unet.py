"""Filtered back-projection, and a U-Net that post-processes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepinv.models import ArtifactRemoval, UNet
from deepinv.physics import LinearPhysics, MultiCoilMRI, Physics
from torch import Tensor

from ...equilibrium.input_checks import (
    check_images,
    measured_image,
    require_measurement,
    require_physics,
)
from ...fixed_points.argument_checks import refuse_unknown, require_count
from ..least_squares_image import conjugate_gradient_image
from .learned_iterations import require_precision

# Iterative solvers that compute step sizes and stop for the batch as a whole.
_COUPLED = (LinearPhysics.A_dagger, MultiCoilMRI.A_dagger)


def filtered_back_projection(y: Tensor, physics: Physics) -> Tensor:
    r"""
    Compute the image :math:`A^\dagger y` from which reconstructions in tomography
    start, in the unit of the images.

    For a physics with a method ``fbp``, such as :class:`deepinv.physics.Tomography`,
    this is the filtered back-projection. (Its ``A_dagger`` is a least-squares solution,
    which amplifies the noise.) For another physics it is ``A_dagger`` if that has a
    closed form, and otherwise the least-squares solution by conjugate gradients, to the
    ``tol`` and ``max_iter`` of the physics. deepinv's iterative ``A_dagger`` couples
    the samples of a batch; here each sample is solved independently.

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
    A U-Net that removes artefacts from the filtered back-projection
    :footcite:p:`jin2017deep`,

    .. math::

        \hat x = A^\dagger y + \operatorname{UNet}_\theta(A^\dagger y).

    It is :class:`deepinv.models.ArtifactRemoval` with a :class:`deepinv.models.UNet`
    and the filtered back-projection in place of the least-squares solution of
    ``mode="pinv"``. For a physics without a filtered back-projection,
    :math:`A^\dagger` is its ``A_dagger``. The model uses the measurement and the
    operator for :math:`A^\dagger y` only: nothing makes :math:`A \hat x` fit :math:`y`.

    We depart from the paper in two points. There is no batch normalisation, so that a
    sample does not depend on its batch-mates in training. The default sizes are for
    training on a CPU; the paper has ``(64, 128, 256, 512, 1024)``.

    :param int in_channels: channels :math:`C` of the images.
    :param Sequence channels_per_scale: channels of each level, for two or more levels.
    :raises TypeError: if ``channels_per_scale`` is not a sequence.
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
        :raises TypeError: if ``physics`` is not a physics, ``y`` is not a tensor of the
            precision of the weights, or an argument is unknown.
        :raises ValueError: if :math:`A^\dagger y` is not a batch of images with
            ``in_channels`` channels.
        """
        refuse_unknown(type(self).__name__, kwargs, ("y", "physics"))
        require_physics(physics, y)
        require_measurement(y)
        if isinstance(physics, LinearPhysics):
            x = measured_image(
                y, physics, image_of=lambda y: filtered_back_projection(y, physics)
            )
        else:
            x = filtered_back_projection(y, physics)
        check_images(x, self.in_channels)
        require_precision(x, self)
        return self.backbone_inference(x, physics, y)
