"""The image that learned reconstructions in tomography start from."""

from __future__ import annotations

from deepinv.physics import Physics
from torch import Tensor


def filtered_back_projection(y: Tensor, physics: Physics) -> Tensor:
    r"""
    Filtered back-projection of a scan, in the unit of the images: :math:`A^\dagger y`
    of slides and papers on tomography. For any other physics it is deepinv's
    ``A_dagger``.

    deepinv's ``A_dagger`` of a scan is a least-squares solution, which amplifies the
    noise; the filtered back-projection is its method ``fbp``.

    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :return: (:class:`torch.Tensor`) images of shape :math:`(B, C, H, W)`.
    """
    analytic = getattr(physics, "fbp", None)
    return physics.A_dagger(y) if analytic is None else analytic(y)
