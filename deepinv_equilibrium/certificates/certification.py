"""The function that certifies a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import torch
from deepinv.physics import Physics
from torch import nn

from .bounds import unproved
from .certificate import Certificate
from .contraction_bounds import Contraction
from .convergence import Convergence
from .declarations import UncertifiableModuleError, refuse_changed, refuse_overridden
from .fingerprints import hidden_parts, problem_fingerprint
from .image_size import require_image_size
from .trial_calls import try_out


@torch.no_grad()
def certify(model: Any, physics: Physics, img_size: Sequence[int]) -> Certificate:
    r"""
    Certify how the step of a model contracts, converges or decreases an energy with its
    current weights and parameters.

    The rate is computed from the spectrum of the operator, the Lipschitz constant of
    the denoiser and the step sizes, by the formulas of
    ``deepinv_equilibrium.certificates.rates``. Where no contraction is proved, the
    certificate may prove that the plain iteration converges without a rate, or that an
    energy decreases:
    :attr:`~deepinv_equilibrium.certificates.Certificate.convergence` is the strongest
    property that is proved.

    A part about which nothing can be proved, such as a DRUNet, is not an error: the
    rate is then infinite, and the certificate names the part. The same holds for hooks,
    for methods that are replaced on an instance, and for a class that inherits
    ``contraction`` and overrides other methods of the class that defines it. The step
    is called for two random images and for one of them alone: nothing is proved for a
    step that is random, overwrites its state, or couples the samples of a batch.

    :Example:

    >>> import deepinv as dinv, deepinv_equilibrium as deq
    >>> model = deq.optim.PGD(
    ...     data_fidelity=dinv.optim.L2(),
    ...     prior=dinv.optim.Tikhonov(),
    ...     stepsize=0.5,
    ...     lambda_reg=2.0,
    ...     trainable_params=[],
    ...     DEQ=deq.Equilibrium(),
    ... )
    >>> certificate = deq.certify(model, dinv.physics.Denoising(), img_size=(1, 8, 8))
    >>> round(certificate.rate.value, 6), certificate.contracts
    (0.25, True)
    >>> certificate.steps_to(1e-6)
    10

    :param torch.nn.Module model: an optimiser of :mod:`deepinv_equilibrium.optim` with
        ``DEQ``, or another model with a method ``contraction(physics, img_size)`` that
        returns a :class:`Contraction
        <deepinv_equilibrium.certificates.Contraction>`.
    :param deepinv.physics.Physics physics: the physics.
    :param Sequence img_size: size :math:`(C, H, W)` of the images, without the batch.
    :return: the :class:`Certificate <deepinv_equilibrium.certificates.Certificate>`.
    :raises TypeError: if ``img_size`` is not a sequence, ``physics`` is not a deepinv
        Physics, or the model does not state its contraction.
    :raises ValueError: if ``img_size`` does not consist of one to four positive
        integers, or the model was built without ``DEQ``.
    """
    size = require_image_size(img_size)
    if not isinstance(physics, Physics):
        raise TypeError(
            f"physics must be a deepinv Physics, got {type(physics).__name__}."
        )
    if not callable(getattr(model, "contraction", None)):
        raise TypeError(
            f"{type(model).__name__} does not state how its step contracts; certify "
            "an optimiser of deepinv_equilibrium.optim with DEQ=Equilibrium(), or "
            "give the model a method contraction(physics, img_size) that returns a "
            "Contraction."
        )
    contraction = model.contraction(physics, size)
    if getattr(physics, "stands_for_any_mask", False) and getattr(
        model, "has_common_step_size", False
    ):
        reason = f"the step size of {type(model).__name__} follows the operator"
        contraction = Contraction(unproved(reason), "none")
    if not isinstance(contraction, Contraction):
        raise TypeError(
            f"{type(model).__name__}.contraction must return a Contraction, got "
            f"{type(contraction).__name__}."
        )
    digests = problem_fingerprint(model, physics)
    return Certificate(
        _unless_void(contraction, model, physics, hidden_parts(digests), size),
        type(model).__name__,
        type(physics).__name__,
        size,
        digests,
        metadata.version("deepinv_equilibrium"),
    )


def _unless_void(
    contraction: Contraction,
    model: Any,
    physics: Physics,
    hidden: Mapping[str, str],
    img_size: tuple[int, ...],
) -> Contraction:
    """Return a contraction, or one without a rate if hooks, replaced or overridden
    methods may have changed the step, if a change of it could not be noticed, or if
    the step is not a function of each sample."""
    try:
        refuse_overridden(model, "contraction")
        if isinstance(model, nn.Module):
            refuse_changed(model)
        refuse_changed(physics)
    except UncertifiableModuleError as error:
        return Contraction(unproved(str(error)), contraction.norm)
    for name, kind in hidden.items():
        reason = (
            f"{name} is a {kind}, whose state neither its attributes nor pickle show, "
            "so that changes could not be noticed: keep it out of the attributes"
        )
        return Contraction(unproved(reason), contraction.norm)
    claims = contraction.rate.is_certified and not contraction.rate.is_vacuous
    if claims or contraction.convergence is not Convergence.UNPROVED:
        objection = _objection_to_step(model, physics, img_size)
        if objection:
            reason = f"the step of {type(model).__name__}: {objection}"
            return Contraction(unproved(reason), contraction.norm)
    return contraction


def _objection_to_step(model: Any, physics: Physics, img_size: tuple[int, ...]) -> str:
    """Return why trial calls of the step void its rate; empty if they do not."""
    parts = [part for part in (physics, model) if isinstance(part, nn.Module)]
    trial = try_out(
        parts,
        lambda images: model.fixed_point_problem(physics.A(images), physics),
        img_size,
    )
    if trial.overwrites:
        return "it overwrites its state. Build its activations with inplace=False."
    return trial.objection
