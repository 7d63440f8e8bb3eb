"""Gradient descent on a strongly convex energy with a ridge regulariser, by name."""

from __future__ import annotations

import inspect
from typing import Any

from deepinv.optim import Prior

from ..fixed_points import Adjoint, Anderson, FailurePolicy, FixedPointSolver, Implicit
from ..fixed_points.argument_checks import refuse_unknown, require_in_range
from ..models import RidgeRegulariser
from ..optim import ChannelwisePrior, RidgeL2
from ..optim.optimizers import GD
from .named_components import created, named_configuration, refuse_channels

_FACTOR, _LARGEST = 8.0, 0.15


def certified_ridge_gd(
    noise_level: float = 0.02,
    prior: Prior | str | None = None,
    in_channels: int | None = None,
    kappa: float = 1e-3,
    solver: FixedPointSolver | str = Anderson(rtol=3e-4),
    adjoint: Adjoint | str = Implicit(),
    layers: int = 1,
    on_failure: FailurePolicy = "warn",
    **arguments: Any,
) -> GD:
    r"""
    Return gradient descent at equilibrium on a strongly convex energy,

    .. math::

        \tfrac12 \|A x - y\|^2 + \tfrac\kappa2 \|x\|^2 + \lambda \operatorname{R}_s(x),

    with the convex :class:`~deepinv_equilibrium.models.RidgeRegulariser`
    :math:`\operatorname{R}_s`. It contracts for every linear operator, as
    :func:`deepinv_equilibrium.certify` proves, in training, too: ``stepsize="auto"``
    follows the operator, the curvature of the regulariser and :math:`\lambda`. A larger
    :math:`\kappa` gives a better rate and moves the image towards zero, see
    :doc:`/auto_how_to/choose_the_ridge`. A certificate for any mask, see
    :func:`~deepinv_equilibrium.physics.any_mask`, needs a number below
    :math:`2 / (\|A\|^2 + \kappa + \lambda L)` with the largest curvature :math:`L` of
    the regulariser, such as 1 for :math:`\|A\| \leq 1`.

    Images with one channel and with three have bundled weights. For another number,
    such as the two of magnetic resonance, the grey regulariser is applied to each
    channel, see :class:`~deepinv_equilibrium.optim.ChannelwisePrior`.

    By default :math:`s = \min(8 \sigma, 0.15)` and :math:`\lambda = \sigma^2 / s^2` for
    the level :math:`\sigma` of the noise in :math:`y`: regularisers for more noise
    restore better where the operator loses much. This is a rule of thumb; both numbers
    are learned in training.

    :param float noise_level: :math:`\sigma > 0`, for images in [0, 1].
    :param deepinv.optim.Prior, str prior: another prior of curvature :math:`\geq 0`, or
        its name. Default: ``None``, the bundled convex regulariser.
    :param int in_channels: channels of the images, for the default prior and for one
        that is given by its name. Default: ``None``, 1 or its own default.
    :param float kappa: :math:`\kappa > 0`. Default: 0.001.
    :param FixedPointSolver, str solver: finds the fixed point; a name stands for one
        with its default arguments. Default: ``Anderson(rtol=3e-4)``.
    :param Adjoint, str adjoint: differentiates the fixed point. Default:
        ``Implicit()``.
    :param int layers: number of iterations in the map whose fixed point is computed.
        Default: 1.
    :param str on_failure: what happens if a sample does not converge in the forward or
        the backward pass: ``"warn"``, ``"raise"``, ``"ignore"`` or ``"skip"``. Default:
        ``"warn"``.
    :param arguments: arguments of :class:`deepinv_equilibrium.optim.GD`, such as
        ``lambda_reg``, ``sigma_denoiser`` and ``trainable_params``, by default
        ``["lambda_reg", "g_param"]``.
    :return: (deepinv_equilibrium.optim.GD) the model, ready for
        :class:`deepinv.Trainer`.
    :raises TypeError: if an argument is unknown or of another type.
    :raises ValueError: if an argument is out of its range, or ``in_channels`` is given
        with a module.

    |sep|

    :Example:

    >>> import deepinv as dinv, deepinv_equilibrium as deq
    >>> model = deq.plugins.create(
    ...     "reconstructors",
    ...     "certified-ridge-gd",
    ...     noise_level=0.01,
    ...     in_channels=2,
    ...     stepsize=1.0,
    ... )
    >>> physics = deq.physics.any_mask(dinv.physics.MRI(img_size=(16, 16)))
    >>> print(deq.certify(model, physics, img_size=(2, 16, 16)).convergence)
    contracts
    """
    require_in_range("noise_level", noise_level)
    known = inspect.signature(certified_ridge_gd).parameters.keys() - {"arguments"}
    known |= inspect.signature(GD).parameters.keys() - {"data_fidelity", "DEQ"}
    refuse_unknown("certified_ridge_gd", arguments, sorted(known))
    if isinstance(prior, str):
        prior = created("priors", prior, in_channels)
    elif prior is not None:
        refuse_channels(prior, in_channels)
    elif in_channels in (None, 1, 3):
        prior = RidgeRegulariser(in_channels or 1)
    else:
        prior = ChannelwisePrior(RidgeRegulariser())
    regularised = min(_FACTOR * noise_level, _LARGEST)
    defaults: dict[str, Any] = {
        "stepsize": "auto",
        "lambda_reg": (noise_level / regularised) ** 2,
        "sigma_denoiser": regularised,
        "trainable_params": ["lambda_reg", "g_param"],
    }
    return GD(
        data_fidelity=RidgeL2(kappa=kappa),
        prior=prior,
        DEQ=named_configuration(solver, adjoint, layers=layers, on_failure=on_failure),
        **{**defaults, **arguments},
    )
