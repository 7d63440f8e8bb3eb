"""Projected gradient descent with Tikhonov's regularisation, by name."""

from __future__ import annotations

import inspect
from typing import Any

from deepinv.optim import L2, DEQConfig

from ..equilibrium import Equilibrium
from ..fixed_points.argument_checks import refuse_unknown
from ..optim.optimizers import PGD
from ..optim.priors.nonnegativity import NonNegativeTikhonov

_MINIMISER = Equilibrium()


def projected_gradient(
    DEQ: DEQConfig | bool | None = _MINIMISER,
    lambda_reg: float | list[float] = 0.01,
    **arguments: Any,
) -> PGD:
    r"""
    Nonnegative least squares with Tikhonov's regularisation,

    .. math::

        \hat x = \operatorname*{arg\,min}_{x \geq 0} \tfrac12 \|A x - y\|^2
        + \tfrac{\lambda}{2} \|x\|^2, \qquad
        x_{k+1} = \frac{\max\bigl( x_k - \tau A^\top (A x_k - y), 0 \bigr)}
        {1 + \tau \lambda}.

    The regulariser is in the proximal step, so that :math:`\lambda` is the weight of a
    prior, which can be trained; the slides' projected gradient descent, which has it
    in the gradient step with a fixed weight, is
    ``PGD(data_fidelity=RidgeL2(kappa=...), prior=NonNegativity(), ...)`` and has the
    same minimiser. Either contracts at a rate that :func:`deepinv_equilibrium.certify`
    proves, for :math:`\tau \|A\|^2 \leq 2`.

    - ``DEQ=Equilibrium(solver, Implicit())``: the minimiser, with its implicit
      gradient (default). It does not depend on :math:`\tau`: only :math:`\lambda` is
      trained by default.
    - ``DEQ=ReTune(layers=K, restarts=1)`` with lists ``stepsize`` and ``lambda_reg`` of
      :math:`K` numbers and ``trainable_params=["stepsize", "lambda_reg"]``: :math:`K`
      iterations, unrolled, with a step size of its own in every layer.
    - ``DEQ=None, max_iter=K``: :math:`K` iterations of deepinv's own.

    :param Equilibrium, ReTune, None DEQ: the configuration of
        :class:`deepinv_equilibrium.optim.PGD`.
    :param float, list lambda_reg: :math:`\lambda`, or one for each layer.
    :param arguments: arguments of :class:`deepinv_equilibrium.optim.PGD`, such as
        ``stepsize`` (:math:`\tau`, 1 by default, which suits :math:`\|A\|^2 < 2`) and
        ``trainable_params``.
    :return: (deepinv_equilibrium.optim.PGD) the model, ready for
        :class:`deepinv.Trainer`.
    :raises TypeError: if an argument is unknown.
    :raises ValueError: if one is out of its range.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> model = deq.plugins.create(
    ...     "reconstructors", "projected-gradient", lambda_reg=1.0
    ... )
    >>> y = torch.tensor([[[[-1.0, 3.0]]]])
    >>> with torch.no_grad():
    ...     print(model(y, dinv.physics.Denoising()))
    tensor([[[[0.0000, 1.5000]]]])
    """
    known = {"DEQ", "lambda_reg", *inspect.signature(PGD).parameters} - {"prior"}
    refuse_unknown("projected_gradient", arguments, sorted(known))
    defaults: dict[str, Any] = {"data_fidelity": L2(), "stepsize": 1.0}
    if DEQ:
        defaults["trainable_params"] = ["lambda_reg"]
    return PGD(
        prior=NonNegativeTikhonov(),
        lambda_reg=lambda_reg,
        DEQ=DEQ,
        **{**defaults, **arguments},
    )
