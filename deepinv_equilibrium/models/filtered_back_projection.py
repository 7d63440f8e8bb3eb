"""The image that learned reconstructions in tomography start from."""

from __future__ import annotations

from deepinv.physics import LinearPhysics, MultiCoilMRI, Physics
from torch import Tensor

from .tv_maps.map_input import conjugate_gradient_image

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
