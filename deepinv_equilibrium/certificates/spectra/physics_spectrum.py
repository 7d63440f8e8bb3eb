"""The spectrum of a physics, and the rules that bound it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from deepinv.distributed.framework import DistributedStackedPhysics
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..bounds import Bound, Interval
from ..declarations import overrides, replaced_methods
from ..image_size import require_image_size
from .double_precision import double_copy
from .lanczos import largest_eigenvalue
from .physics_operator import PhysicsOperator, UncertifiablePhysicsError, norm

SpectrumRule = Callable[[Any, "tuple[int, ...]"], "Interval | None"]
R = TypeVar("R", bound=SpectrumRule)

_RULES: dict[type[LinearPhysics], SpectrumRule] = {}
# A subclass may define these and still have the A and the A_adjoint of its base.
_HARMLESS = {
    "A_dagger",
    "__mul__",
    "__str__",
    "compute_norm",
    "forward",
    "noise",
    "prox_l2",
    "sensor",
    "set_noise_model",
    "stack",
}


def register_spectrum_rule(*types: type[LinearPhysics]) -> Callable[[R], R]:
    r"""
    Register a rule for the spectrum of :math:`A^\top A` for physics of some types, as a
    decorator.

    The rule is a function ``rule(physics, img_size) -> Interval`` of the physics, in
    double precision, and of the size of an image without the batch. It returns ``None``
    if it cannot bound the spectrum. A bound of kind certified must be proved for the
    current parameters of the physics. The package refuses a bound that products with a
    few images contradict, and does not check the rule otherwise.

    A subclass inherits the rule only if it overrides nothing that may change the
    operator. A later rule for a type replaces an earlier one. A user-defined physics
    can define the method ``spectrum(self, img_size) -> Interval`` instead.

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
    :return: the decorator.
    :raises TypeError: if one of them is not such a subclass.
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


def spectrum_rule_of(physics: LinearPhysics) -> SpectrumRule | None:
    r"""
    Return the rule for a physics: the rule of its type, else its method ``spectrum``,
    else the rule of a base class whose operator no subclass changes.

    :param deepinv.physics.LinearPhysics physics: the physics.
    :return: the rule; ``None`` if there is none, or a method was replaced on the
        instance.
    """
    if replaced_methods(physics):
        return None
    physics_type = type(physics)
    if physics_type in _RULES:
        return _RULES[physics_type]
    for base in physics_type.__mro__:
        if "spectrum" in vars(base):
            return lambda part, img_size: part.spectrum(img_size)
        if base in _RULES:
            return _RULES[base]
        if overrides(base, harmless=_HARMLESS):
            break
    return None


NOTHING = Bound(0.0, source="squares are nonnegative", is_lower=True)
"""The trivial lower bound of a spectrum."""


@torch.no_grad()
def spectrum(physics: LinearPhysics, img_size: Sequence[int]) -> Interval:
    r"""
    Return an interval :math:`[\mu, L]` with :math:`\mu I \preceq A^\top A \preceq L I`.
    Each end has its own kind and source.

    - *Exact*, from a decomposition: BlurFFT, Inpainting, Demosaicing, MRI, DynamicMRI,
      Denoising and Decolorize; SinglePixelCamera, CompressedSensing and
      HyperSpectralUnmixing with a matrix of at most 4096 rows or columns; Blur and
      ChannelwiseBlur with circular padding and a kernel of any sign; Downsampling
      without a filter, or with a circular filter and a factor that divides the size of
      the image; stacks of masks.
    - *Proved upper bound*: all other cases of Blur, ChannelwiseBlur and Downsampling,
      SpaceVaryingBlur, and Tomography with an exact adjoint, by
      :math:`\lambda_{\max}(A^\top A) \leq \max_i (A^\top A v)_i / v_i` for nonnegative
      :math:`A`. A signed kernel is bounded by its absolute value and by its transfer
      function. MultiCoilMRI and DynamicMultiCoilMRI are bounded by their coil maps.
      Stacked and composed physics are bounded by their parts, and as one operator if
      all their entries are nonnegative.
    - *Estimated*: every other physics, by
      :func:`~deepinv_equilibrium.certificates.largest_eigenvalue` with
      :math:`\delta = 10^{-3}`. Register a rule for it with
      :func:`~deepinv_equilibrium.certificates.register_spectrum_rule`.

    The lower end is 0 unless the spectrum is known exactly. The interval holds for
    exact arithmetic and the current parameters of the physics, such as its filter or
    mask. The rounding of its computation in float64 is included, the rounding of an
    operator in float32 is not. The noise model has no influence. If the parameters are
    a batch, the interval holds for each of them.

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> mask = torch.tensor([[[1.0, 0.0], [0.5, 1.0]]])
    >>> physics = dinv.physics.Inpainting(img_size=(1, 2, 2), mask=mask)
    >>> print(deq.spectrum(physics, (1, 2, 2)).upper)
    <= 1 (certified: largest squared entry of the mask)

    :param deepinv.physics.LinearPhysics physics: the physics; unchanged.
    :param Sequence img_size: size of an image without the batch: ``(C, H, W)``, or
        ``(C, D, H, W)`` for volumes.
    :return: an :class:`~deepinv_equilibrium.certificates.Interval`.
    :raises AdjointMismatchError: if ``A_adjoint`` is not the transpose of ``A``, which
        inner products of random pairs reveal.
    :raises UncertifiablePhysicsError: if the operator fails on an image of that size,
        or contradicts the rule.
    :raises TypeError: if the physics is not linear, ``img_size`` is not a sequence, or
        the rule of the physics does not return an Interval.
    :raises ValueError: if ``img_size`` does not consist of one to four positive
        integers.
    """
    if not isinstance(physics, LinearPhysics):
        raise TypeError(
            f"physics must be a LinearPhysics, got a {type(physics).__name__}: only a "
            "linear operator has a spectrum."
        )
    size = require_image_size(img_size)
    if isinstance(physics, DistributedStackedPhysics):
        raise UncertifiablePhysicsError(
            physics,
            "a process holds only a part of its operators. Certify the physics before "
            "deepinv.distributed.distribute, which does not change the operator.",
        )
    operator = _checked_operator(physics, size)
    rule = spectrum_rule_of(physics)
    interval = None if rule is None else rule(operator.physics, size)
    if interval is None:
        return Interval(NOTHING, _estimate(operator))
    if not isinstance(interval, Interval):
        raise TypeError(
            f"the spectrum of a {type(physics).__name__} must be given as an Interval, "
            f"got {interval!r}."
        )
    _require_consistent(operator, interval)
    return interval


def _checked_operator(
    physics: LinearPhysics, img_size: tuple[int, ...]
) -> PhysicsOperator:
    """Return the operator in float64 if it runs in float64, else in float32: closures
    may contain tensors of one precision."""
    try:
        duplicate = double_copy(physics)
    except TypeError as error:
        raise UncertifiablePhysicsError(
            physics, f"it cannot be copied, {error!r}. Keep that out of its attributes."
        ) from error
    failures = []
    for candidate, dtype in ((duplicate, torch.float64), (physics, torch.float32)):
        operator = PhysicsOperator.of(candidate, img_size, dtype)
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
        "Check img_size, (C, H, W), with C = 2 for MRI, and that the parameters of the "
        "physics are set.",
    ) from failures[0]


def _require_consistent(operator: PhysicsOperator, interval: Interval) -> None:
    r"""
    Raise if the quotients :math:`\langle x, A^\top A x\rangle / \|x\|^2` of a random
    image and of three of its images contradict a certified bound. The rule is then
    about another operator: the physics was edited, or the user's rule is wrong.

    :param PhysicsOperator operator: the operator.
    :param Interval interval: what the rule returns.
    :raises UncertifiablePhysicsError: if there is a contradiction.
    """
    slack = 1e4 * torch.finfo(operator.dtype).eps
    low, high = interval.lower, interval.upper
    x = operator.random_image(torch.Generator().manual_seed(3))
    for _ in range(4):
        image = operator.gram(x)
        size = norm(x)
        quotient = float((x.double() * image.double()).sum()) / size**2 if size else 0.0
        too_large = high.is_certified and quotient > high.value * (1 + slack)
        too_small = low.is_certified and quotient < low.value * (1 - slack)
        if size and (too_large or too_small):
            raise UncertifiablePhysicsError(
                operator.physics,
                f"the rule for its spectrum says {interval}, but |Ax|^2 / |x|^2 is "
                f"{quotient:g} for an image x. Undo edits of the physics, or give a "
                "rule that is right for this operator.",
            )
        x = image / norm(image) if norm(image) else image


def _estimate(operator: PhysicsOperator) -> Bound:
    grams = [operator.gram]
    if not operator.has_consistent_gram():
        grams.append(operator.gram_of_products)
    return max((_largest(operator, gram) for gram in grams), key=float)


def _largest(operator: PhysicsOperator, gram: Callable[[Tensor], Tensor]) -> Bound:
    # A fixed seed makes the value the same in every call.
    bound = largest_eigenvalue(
        lambda x: gram(x.to(operator.dtype)),
        operator.shape,
        generator=torch.Generator().manual_seed(0),
        device=operator.device,
    )
    unknowns = math.prod(operator.shape)
    return replace(bound, source=f"{bound.source}, for {unknowns} unknowns")
