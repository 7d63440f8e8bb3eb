"""Which rule bounds the spectrum of a physics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from deepinv.physics import LinearPhysics

from ..bounds import Bound, Interval
from ..image_size import require_image_size
from .double_precision import double_copy
from .lanczos import largest_eigenvalue
from .physics_operator import LinearOperator, UncertifiablePhysicsError

Rule = Callable[[Any, "tuple[int, ...]"], "Interval | None"]
R = TypeVar("R", bound=Rule)

_RULES: dict[type[LinearPhysics], Rule] = {}
# What a subclass may define and still have the A and the A_adjoint of its base.
_HARMLESS = {
    "A_dagger",
    "__init__",
    "__mul__",
    "__repr__",
    "__str__",
    "compute_norm",
    "extra_repr",
    "forward",
    "noise",
    "prox_l2",
    "sensor",
    "set_noise_model",
    "stack",
}


def register_spectrum_rule(*types: type[LinearPhysics]) -> Callable[[R], R]:
    r"""
    Declare the spectrum of :math:`A^\top A` for physics of a type, as a decorator.

    The rule is a function ``rule(physics, img_size) -> Interval`` of the physics, in
    double precision, and of the size of an image without the batch; it returns None
    where it does not know. The package believes it: a bound of kind certified must be
    proved, for the parameters that the physics has at the time of the call.

    Subclasses have the rule only if they override nothing that it may rest on. A later
    rule for the same type replaces the former. A physics of one's own can define
    ``spectrum(self, img_size) -> Interval`` instead.

    >>> from deepinv.physics import LinearPhysics
    >>> from deepinv_equilibrium import certificates, spectrum
    >>> class Halve(LinearPhysics):
    ...     def A(self, x, **kwargs):
    ...         return x / 2
    ...     def A_adjoint(self, y, **kwargs):
    ...         return y / 2
    >>> @certificates.register_spectrum_rule(Halve)
    ... def halve(physics, img_size):
    ...     return certificates.Interval(
    ...         certificates.Bound(0.25, source="halving", is_lower=True),
    ...         certificates.Bound(0.25, source="halving"),
    ...     )
    >>> print(spectrum(Halve(), (1, 8, 8)))
    [>= 0.25 (certified: halving), <= 0.25 (certified: halving)]

    :param type types: one or more subclasses of :class:`deepinv.physics.LinearPhysics`.
    :raises TypeError: if one is not.
    """
    for physics_type in types:
        if not (
            isinstance(physics_type, type) and issubclass(physics_type, LinearPhysics)
        ):
            raise TypeError(
                f"a rule is for types of LinearPhysics, got {physics_type}."
            )

    def register(rule: R) -> R:
        _RULES.update(dict.fromkeys(types, rule))
        return rule

    return register


def find_rule(physics: LinearPhysics) -> Rule | None:
    r"""
    The rule for a physics: that of its type, or its method ``spectrum``, or that of a
    base whose operator it keeps; None if there is none.

    :param deepinv.physics.LinearPhysics physics: the physics.
    """
    if any(
        callable(value) and callable(getattr(type(physics), name, None))
        for name, value in vars(physics).items()
    ):
        return None  # a method was replaced on the instance
    physics_type = type(physics)
    if physics_type in _RULES:
        return _RULES[physics_type]
    for base in physics_type.__mro__:
        if "spectrum" in vars(base):
            return lambda asked, img_size: asked.spectrum(img_size)
        if base in _RULES:
            return _RULES[base]
        if _overrides(base):
            break
    return None


def _overrides(physics_type: type) -> bool:
    """Whether a class defines a method, a property or the like that may change the
    operator of its base."""
    return any(
        (callable(value) or hasattr(value, "__get__")) and name not in _HARMLESS
        for name, value in vars(physics_type).items()
        if name not in ("__dict__", "__weakref__")
    )


NOTHING = Bound(0.0, source="squares are nonnegative", is_lower=True)
"""The lower bound of a spectrum of which nothing is known."""


@torch.no_grad()
def spectrum(physics: LinearPhysics, img_size: Sequence[int]) -> Interval:
    r"""
    The interval :math:`[\mu, L]` with :math:`\mu I \leq A^\top A \leq L I`, each end
    with what it rests on.

    - *Exact*, from a decomposition: BlurFFT, Inpainting, Demosaicing, MRI, DynamicMRI,
      Denoising, Decolorize; Blur and ChannelwiseBlur with circular padding, whatever
      the sign of the kernel; Downsampling without filter, or with a circular one whose
      factor divides the image.
    - *Proved from above*: Blur, ChannelwiseBlur and Downsampling otherwise, and
      Tomography with an exact adjoint, by :math:`\lambda_{\max}(A^\top A) \leq \max_i
      (A^\top A v)_i / v_i` for nonnegative :math:`A`. A signed kernel is bounded by its
      absolute value and by its transfer function. MultiCoilMRI and
      DynamicMultiCoilMRI by their maps; stacked and composed physics from their parts.
    - *Estimated*: every other physics, by
      :func:`~deepinv_equilibrium.certificates.largest_eigenvalue` with
      :math:`\delta = 10^{-3}`. Declare a rule with
      :func:`~deepinv_equilibrium.certificates.register_spectrum_rule`.

    The lower end is 0 where no exact spectrum is known. Exact ends are those of exact
    arithmetic with the parameters of the physics (filter, mask) at the time of the
    call, moved outward by the rounding of their computation in float64; the rounding of
    an operator in float32 is left out. The noise model plays no part. Where the
    parameters are a batch, the interval holds for each of them.

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> mask = torch.tensor([[[1.0, 0.0], [0.5, 1.0]]])
    >>> physics = dinv.physics.Inpainting(img_size=(1, 2, 2), mask=mask)
    >>> print(deq.spectrum(physics, (1, 2, 2)).upper)
    <= 1 (certified: largest squared entry of the mask)

    :param deepinv.physics.LinearPhysics physics: the physics; unchanged.
    :param Sequence img_size: size of an image without the batch: ``(C, H, W)``, or
        ``(C, D, H, W)`` for volumes.
    :return: an :class:`~deepinv_equilibrium.certificates.Interval`.
    :raises AdjointMismatchError: if ``A_adjoint`` is not the transpose of ``A``, found
        by dot products of random pairs.
    :raises UncertifiablePhysicsError: if the operator fails on such an image.
    :raises TypeError: if the physics is not linear, ``img_size`` is no sequence, or the
        rule of the physics returns no Interval.
    :raises ValueError: if ``img_size`` does not hold one to four positive integers.
    """
    if not isinstance(physics, LinearPhysics):
        raise TypeError(
            f"physics must be a LinearPhysics, got a {type(physics).__name__}: only a "
            "linear operator has a spectrum."
        )
    size = require_image_size(img_size)
    operator = _checked_operator(physics, size)
    rule = find_rule(physics)
    interval = None if rule is None else rule(operator.physics, size)
    if interval is None:
        return Interval(NOTHING, _estimate(operator))
    if not isinstance(interval, Interval):
        raise TypeError(
            f"the spectrum of a {type(physics).__name__} must be given as an Interval, "
            f"got {interval!r}."
        )
    return interval


def _checked_operator(
    physics: LinearPhysics, img_size: tuple[int, ...]
) -> LinearOperator:
    """In float64, or in the precision that a physics of closures insists on."""
    try:
        duplicate = double_copy(physics)
    except TypeError as error:
        raise UncertifiablePhysicsError(
            physics, f"it cannot be copied, {error!r}. Keep that out of its attributes."
        ) from error
    failures = []
    for candidate, dtype in ((duplicate, torch.float64), (physics, torch.float32)):
        operator = LinearOperator.of(candidate, img_size, dtype)
        try:
            operator.check_adjoint()
            return operator
        except UncertifiablePhysicsError:
            raise
        except Exception as error:  # noqa: BLE001, a user's operator may raise anything
            failures.append(error)
    raise UncertifiablePhysicsError(
        physics,
        f"A or A_adjoint fails on an image of shape {operator.shape}, {failures[0]!r}. "
        "Check img_size, and that the parameters of the physics are set.",
    ) from failures[0]


def _estimate(operator: LinearOperator) -> Bound:
    # A start of its own makes the value the same in every call.
    bound = largest_eigenvalue(
        lambda x: operator.gram(x.to(operator.dtype)),
        operator.shape,
        generator=torch.Generator().manual_seed(0),
        device=operator.device,
    )
    unknowns = math.prod(operator.shape)
    return replace(bound, source=f"{bound.source}, for {unknowns} unknowns")
