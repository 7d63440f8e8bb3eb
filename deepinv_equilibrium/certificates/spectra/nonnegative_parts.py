"""Copies of physics as sums and products of nonnegative numbers."""

from __future__ import annotations

import warnings

import torch
from deepinv.physics import (
    Blur,
    ComposedLinearPhysics,
    Decolorize,
    Downsampling,
    LinearPhysics,
    SpaceVaryingBlur,
    StackedLinearPhysics,
    Tomography,
)

from ..declarations import replaced_methods
from .decomposition_rules import decolorize, diagonal
from .nonnegative_operators import is_nonnegative
from .physics_operator import PhysicsOperator, norm
from .physics_spectrum import spectrum_rule_of


def nonnegative_copy(
    physics: LinearPhysics, img_size: tuple[int, ...]
) -> LinearPhysics | None:
    r"""
    Return a physics with the same operator that computes it by sums and products of
    nonnegative numbers, without Fourier transforms, whose rounding has both signs.

    :param deepinv.physics.LinearPhysics physics: the physics, in double precision.
    :param tuple img_size: size of an image without the batch.
    :return: the copy; ``None`` if an entry of the operator may be negative, or if
        the copy differs from the physics for a random image.
    """
    duplicate = _copied(physics)
    if duplicate is None:
        return None
    operator = PhysicsOperator.of(physics, img_size)
    x = operator.random_image(torch.Generator().manual_seed(4))
    expected = operator.gram(x)
    try:
        found = duplicate.A_adjoint_A(x)
    except Exception:  # noqa: BLE001, deepinv's adjoint fails for kernels of one row
        return None
    return duplicate if norm(found - expected) <= 1e-12 * norm(expected) else None


def _copied(physics: LinearPhysics) -> LinearPhysics | None:
    """Return the copy, not yet compared."""
    if replaced_methods(physics):
        return None
    if isinstance(physics, ComposedLinearPhysics | StackedLinearPhysics):
        parts = [_copied(part) for part in physics.physics_list]
        if any(part is None for part in parts):
            return None
        if isinstance(physics, StackedLinearPhysics):
            return StackedLinearPhysics(parts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # products of decompositions
            return ComposedLinearPhysics(*parts)
    if isinstance(physics, Blur):
        if not _all_nonnegative(physics.filter):
            return None
        return Blur(filter=physics.filter, padding=physics.padding)
    return physics if _has_nonnegative_entries(physics) else None


def _has_nonnegative_entries(physics: LinearPhysics) -> bool:
    if type(physics) is Downsampling:
        return physics.filter is None or _all_nonnegative(physics.filter)
    if type(physics) is SpaceVaryingBlur:
        parameters = physics.filters, physics.multipliers
        return not physics.use_fft and all(map(_all_nonnegative, parameters))
    rule = spectrum_rule_of(physics)
    if rule is diagonal:
        return diagonal(physics, ()) is not None and _all_nonnegative(physics.mask)
    if isinstance(physics, Decolorize) and rule is decolorize:
        return _all_nonnegative(physics.srf) and _all_nonnegative(physics.mask)
    return type(physics) is Tomography and is_nonnegative(physics)


def _all_nonnegative(parameter: torch.Tensor) -> bool:
    return not parameter.is_complex() and bool((parameter >= 0).all())
