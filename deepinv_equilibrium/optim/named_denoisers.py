"""Denoisers by their names."""

from __future__ import annotations

from deepinv.models import Denoiser

from .. import plugins
from ..certificates import lipschitz
from ..fixed_points.argument_checks import require_number


def as_denoiser(denoiser: Denoiser | str) -> Denoiser:
    """The denoiser of a name, or the denoiser itself."""
    if isinstance(denoiser, str):
        return plugins.create("denoisers", denoiser)
    if not isinstance(denoiser, Denoiser):
        known = ", ".join(map(repr, plugins.names("denoisers")))
        raise TypeError(
            "denoiser must be an instance of deepinv.models.Denoiser, or one of the "
            f"names {known}, got {denoiser!r}."
        )
    return denoiser


def contractive_denoiser(denoiser: Denoiser | str, contraction: float) -> Denoiser:
    r"""
    The denoiser of a name, made with a contraction, or the denoiser itself if it is
    proved to be strictly contractive.

    :param deepinv.models.Denoiser, str denoiser: the denoiser, or the name of one in
        :mod:`deepinv_equilibrium.plugins` that takes ``contraction``.
    :param float contraction: Lipschitz constant, in (0, 1), of one that is given by its
        name.
    :return: (deepinv.models.Denoiser) the denoiser.
    :raises TypeError: if it is neither a denoiser nor a name, or ``contraction`` is no
        number.
    :raises ValueError: if no denoiser has that name, or it is not proved to be strictly
        contractive.
    """
    require_number("contraction", contraction)
    if isinstance(denoiser, str):
        denoiser = plugins.create("denoisers", denoiser, contraction=contraction)
    denoiser = as_denoiser(denoiser)
    bound = lipschitz(denoiser)
    if not (bound.is_certified and bound.value < 1):
        raise ValueError(
            "denoiser must be proved to be strictly contractive, but its Lipschitz "
            f"constant is {bound}. Give a contraction below 1: by name, "
            "contraction=0.99; for a module, e.g. "
            "ConvexPotentialDenoiser(contraction=0.99)."
        )
    return denoiser
