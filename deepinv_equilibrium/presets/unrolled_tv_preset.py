"""Proximal gradient descent with smoothed total variation, unrolled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepinv.optim import L2

from ..equilibrium import Equilibrium
from ..fixed_points import OnFailure, Restarts, Unrolled
from ..fixed_points.argument_checks import require_count
from ..optim.equilibrium_optim import EquilibriumOptim
from ..optim.optimizers import PGD
from ..optim.total_variation.smoothed_tv_prior import SmoothedTVPrior
from ..optim.total_variation.tv_groups import TVNorm


def unrolled_smoothed_tv(
    layers: int = 10,
    stepsize: float | Sequence[float] = 1.0,
    lambda_reg: float | Sequence[float] = 0.02,
    tied: bool = False,
    smoothing: float = 1e-2,
    norm: TVNorm = "isotropic",
    on_failure: OnFailure = "warn",
    **arguments: Any,
) -> EquilibriumOptim:
    r"""
    Total variation that is customised by learning step sizes and weights: :math:`K`
    layers

    .. math::

        x_{k+1} = \operatorname{prox}_{\tau_k \lambda_k \operatorname{TV}_\varepsilon}
        \left(x_k - \tau_k A^\top (A x_k - y)\right), \qquad x_0 = A^\top y,

    with trained :math:`\tau_k, \lambda_k > 0`, as logarithms: each layer's own, or
    shared by all. With shared ones it is proximal gradient descent for :math:`\tfrac12
    \|A x - y\|^2 + \lambda \operatorname{TV}_\varepsilon(x)`, stopped after :math:`K`
    iterations; with :math:`\tau \leq 1 / \|A\|^2` they go down. With a layer's own
    there is no such function.

    The proximal operators are converged, and differentiated implicitly:
    :class:`~deepinv_equilibrium.optim.SmoothedTVPrior`. (deepinv's example of a learned
    custom prior, to which slides of this method refer, has ``g_first=True``, a gradient
    step on the prior and a proximal one on the data, and for the prior the Euclidean
    norm of all differences of an image together, which is no total variation.)

    :param int layers: :math:`K`.
    :param float, Sequence stepsize: :math:`\tau_k` to start from, one, or one a layer.
        It is not relative: :math:`1 / \|A\|^2` is a good start.
    :param float, Sequence lambda_reg: :math:`\lambda_k` to start from, likewise.
    :param bool tied: whether all layers share one :math:`\tau` and :math:`\lambda`.
    :param float smoothing: :math:`\varepsilon`, in the units of the images.
    :param str norm: ``"isotropic"`` or ``"componentwise"``.
    :param str on_failure: what to do where a sample turns non-finite: ``"warn"``,
        ``"raise"`` or ``"ignore"``.
    :param arguments: arguments of :class:`deepinv_equilibrium.optim.PGD`, such as
        ``data_fidelity``, ``custom_init`` and ``trainable_params``.
    :return: (deepinv_equilibrium.optim.PGD) the model, ready for
        :class:`deepinv.Trainer`.
    :raises TypeError: if an argument is unknown.
    :raises ValueError: if an argument is out of its range, or a list is not as long as
        there are layers, or there is one and ``tied``.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> model = deq.plugins.create("reconstructors", "unrolled-smoothed-tv", layers=3)
    >>> physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    >>> x = model(physics(torch.rand(1, 1, 16, 16)), physics)
    >>> x.shape, sum(p.numel() for p in model.parameters())
    (torch.Size([1, 1, 16, 16]), 6)
    """
    require_count("layers", layers, 1)
    steps = {"stepsize": stepsize, "lambda_reg": lambda_reg}
    for name, value in steps.items():
        if not isinstance(value, Sequence):
            steps[name] = [value] * (1 if tied else layers)
        elif tied or len(value) != layers:
            raise ValueError(
                f"{name} must be one number, or without tied one for each of the "
                f"layers={layers}, got {value!r} with tied={tied}."
            )
    defaults: dict[str, Any] = {
        "data_fidelity": L2(),
        "trainable_params": ["stepsize", "lambda_reg"],
    }
    return PGD(
        prior=SmoothedTVPrior(smoothing, norm),
        DEQ=Equilibrium(Restarts(max_iter=1), Unrolled(), layers, on_failure),
        **{**defaults, **steps, **arguments},
    )
