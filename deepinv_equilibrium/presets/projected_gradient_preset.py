"""Projected gradient descent with Tikhonov regularisation, by name."""

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
    Return a model of nonnegative least squares with Tikhonov regularisation,

    .. math::

        \hat x = \operatorname*{arg\,min}_{x \geq 0} \tfrac12 \|A x - y\|^2
        + \tfrac{\lambda}{2} \|x\|^2, \qquad
        x_{k+1} = \frac{\max\bigl( x_k - \tau A^\top (A x_k - y), 0 \bigr)}
        {1 + \tau \lambda}.

    The proximal step contains the regulariser, so that :math:`\lambda` is the weight of
    a prior and can be trained. Slides on projected gradient descent have the
    regulariser in the gradient step, with a fixed weight. That form is
    ``PGD(data_fidelity=RidgeL2(kappa=...), prior=NonNegativity(), ...)``. Both forms
    have the same minimiser, and both contract for :math:`\tau \|A\|^2 \leq 2` at a rate
    that :func:`deepinv_equilibrium.certify` proves.

    - ``DEQ=Equilibrium(solver, Implicit())``, the default, returns the minimiser with
      its implicit gradient. The minimiser does not depend on :math:`\tau`, so that only
      :math:`\lambda` is trained by default.
    - ``DEQ=ReTune(layers=K, restarts=1)`` with lists ``stepsize`` and ``lambda_reg`` of
      :math:`K` numbers and ``trainable_params=["stepsize", "lambda_reg"]`` unrolls
      :math:`K` iterations, each with its own step size and weight.
    - ``DEQ=None, max_iter=K`` makes :math:`K` iterations of deepinv's optimiser.

    :param Equilibrium, ReTune, None DEQ: the argument ``DEQ`` of
        :class:`deepinv_equilibrium.optim.PGD`. Default: ``Equilibrium()``.
    :param float, list lambda_reg: :math:`\lambda`, or a list of one value for each
        layer. Default: 0.01.
    :param arguments: arguments of :class:`deepinv_equilibrium.optim.PGD`, such as
        ``trainable_params`` and ``stepsize``, which is :math:`\tau`. Default of
        ``stepsize``: 1, which is suitable for :math:`\|A\|^2 < 2`.
    :return: (deepinv_equilibrium.optim.PGD) the model, ready for
        :class:`deepinv.Trainer`.
    :raises TypeError: if an argument is unknown.
    :raises ValueError: if an argument is out of its range.

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
