"""Unrolled proximal gradient descent with smoothed total variation, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepinv.optim import L2

from ..equilibrium import Equilibrium
from ..fixed_points import FailurePolicy, Restarts, Unrolled
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
    on_failure: FailurePolicy = "warn",
    **arguments: Any,
) -> EquilibriumOptim:
    r"""
    Return :math:`K` unrolled iterations of proximal gradient descent with smoothed
    total variation,

    .. math::

        x_{k+1} = \operatorname{prox}_{\tau_k \lambda_k \operatorname{TV}_\varepsilon}
        \left(x_k - \tau_k A^\top (A x_k - y)\right), \qquad x_0 = A^\top y,

    The step sizes :math:`\tau_k > 0` and weights :math:`\lambda_k > 0` are trained as
    logarithms. If all layers share :math:`\tau` and :math:`\lambda`, the iterations
    minimise :math:`\tfrac12 \|A x - y\|^2 + \lambda \operatorname{TV}_\varepsilon(x)`,
    and each one decreases it for :math:`\tau \leq 1 / \|A\|^2`. Layers with different
    values do not minimise a common function.

    The proximal operators are computed to convergence and differentiated implicitly,
    see :class:`~deepinv_equilibrium.optim.SmoothedTVPrior`. The slides of this method
    refer to deepinv's example of a learned custom prior, which differs: it has
    ``g_first=True``, with a gradient step on the prior and a proximal step on the data,
    and its prior is the Euclidean norm of all differences of an image, which is not a
    total variation.

    :param int layers: number :math:`K` of layers. Default: 10.
    :param float, Sequence stepsize: initial :math:`\tau_k`; one number, or one for each
        layer. It is absolute; :math:`1 / \|A\|^2` is a suitable value. Default: 1.
    :param float, Sequence lambda_reg: initial :math:`\lambda_k`; one number, or one for
        each layer. Default: 0.02.
    :param bool tied: whether all layers share one :math:`\tau` and one :math:`\lambda`.
        Default: ``False``.
    :param float smoothing: :math:`\varepsilon`, in the units of the images. Default:
        0.01.
    :param str norm: ``"isotropic"`` or ``"componentwise"``. Default: ``"isotropic"``.
    :param str on_failure: what happens if a sample becomes non-finite: ``"warn"``,
        ``"raise"``, ``"ignore"`` or ``"skip"``. Default: ``"warn"``.
    :param arguments: arguments of :class:`deepinv_equilibrium.optim.PGD`, such as
        ``data_fidelity``, ``custom_init`` and ``trainable_params``.
    :return: (deepinv_equilibrium.optim.PGD) the model, ready for
        :class:`deepinv.Trainer`.
    :raises TypeError: if an argument is unknown.
    :raises ValueError: if an argument is out of its range, a list does not have one
        entry for each layer, or a list is given with ``tied=True``.

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
