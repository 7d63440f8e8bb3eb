"""Certificates that hold for every mask of a scan or of an inpainting."""

from __future__ import annotations

from typing import TypeVar

import torch
from deepinv.physics import (
    MRI,
    DynamicMRI,
    Inpainting,
    LinearPhysics,
    MultiCoilMRI,
)

from ..certificates import Bound, Interval, spectrum
from ..certificates.families import ANY_MASK, FAMILIES
from .dynamic_multi_coil_mri import DynamicMultiCoilMRI

P = TypeVar("P", bound=LinearPhysics)

_MASKED = (Inpainting, MRI, DynamicMRI, MultiCoilMRI, DynamicMultiCoilMRI)


def any_mask(physics: P) -> P:
    r"""
    Return a stand-in for a physics with any mask of entries 0 and 1, to certify a model
    for all of them at once.

    With a mask :math:`M`, the operators of the types below are :math:`A_M = M B`, where
    :math:`B` does not depend on the mask: the identity, the Fourier transform, or the
    Fourier transform after the coil maps. From :math:`M^2 \preceq I` follows

    .. math::

        0 \preceq A_M^\top A_M = B^\top M^2 B \preceq B^\top B,

    so that the spectra of all masks lie between 0 and the largest eigenvalue for the
    mask of ones, which the stand-in has. A bound that
    :func:`~deepinv_equilibrium.certify` derives from this interval holds for every
    mask, one for each sample and a new one in each batch included.
    :meth:`Certificate.check <deepinv_equilibrium.certificates.Certificate.check>`
    accepts each physics that differs from the certified one in its mask only, if the
    entries of the mask are 0 and 1.

    Nothing is proved of a model whose step size follows the operator, and so the mask:
    an optimiser with ``stepsize="auto"``, and reconstructors such as
    :class:`~deepinv_equilibrium.models.WaveletReconstructor`, whose step size is
    relative to :math:`\|A\|^2`.

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> model = deq.plugins.create(
    ...     "reconstructors", "certified-deq-pgd", contraction=0.9, in_channels=1
    ... )
    >>> scans = deq.physics.any_mask(dinv.physics.Inpainting((1, 8, 8), mask=0.5))
    >>> certificate = deq.certify(model, scans, (1, 8, 8))
    >>> certificate.contracts
    True
    >>> other = dinv.physics.Inpainting((1, 8, 8), mask=0.1)
    >>> certificate.holds_for(model, other)
    True

    :param deepinv.physics.LinearPhysics physics: an
        :class:`~deepinv.physics.Inpainting`, :class:`~deepinv.physics.MRI`,
        :class:`~deepinv.physics.DynamicMRI`, :class:`~deepinv.physics.MultiCoilMRI` or
        :class:`~deepinv_equilibrium.physics.DynamicMultiCoilMRI` with a real mask;
        unchanged. A subclass may define another operator and is refused.
    :return: (deepinv.physics.LinearPhysics) the physics with a mask of ones, whose
        :func:`~deepinv_equilibrium.spectrum` covers every mask.
    :raises TypeError: if the physics is of another type or its mask is complex.
    """
    if type(physics) not in _STAND_INS:
        known = ", ".join(kind.__name__ for kind in _MASKED)
        raise TypeError(
            f"any_mask takes a physics of the types {known}, got "
            f"{type(physics).__name__}."
        )
    mask = physics.mask
    if mask is None or mask.is_complex():
        raise TypeError("any_mask takes a physics with a real mask.")
    stand_in = physics.clone()
    # One mask for all samples: the number of samples is no part of what is certified.
    stand_in.mask = torch.ones_like(mask[:1])
    if hasattr(stand_in, "gen"):  # of Inpainting: it drew the mask
        del stand_in.gen
    stand_in.__class__ = _STAND_INS[type(physics)]
    return stand_in


def _family(physics: LinearPhysics) -> LinearPhysics | None:
    """Return the stand-in for a physics whose mask is in the family."""
    mask = physics.mask
    # Operators of deepinv are no longer adjoint for some masks with other entries.
    binary = mask is not None and bool(((mask == 0) | (mask == 1)).all())
    return any_mask(physics) if binary and not mask.is_complex() else None


def _spectrum(self: LinearPhysics, img_size: tuple[int, ...]) -> Interval:
    full = self.clone()
    full.__class__ = type(self).__base__
    upper = spectrum(full, img_size).upper
    source = f"{upper.source}, for any mask"
    return Interval(
        Bound(0.0, upper.kind, "a mask may be 0", is_lower=True),
        Bound(upper.value, upper.kind, source, delta=upper.delta),
    )


_STAND_INS: dict[type, type] = {
    base: type(
        f"{ANY_MASK}{base.__name__}",
        (base,),
        {
            "spectrum": _spectrum,
            "stands_for_any_mask": True,
            "__module__": __name__,
        },
    )
    for base in _MASKED
}
FAMILIES.update(dict.fromkeys(_MASKED, _family))
