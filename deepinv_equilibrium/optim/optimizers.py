"""deepinv's optimisers at equilibrium, under deepinv's names."""

from __future__ import annotations

from typing import ClassVar

import deepinv.optim

from .algorithm_state import (
    DOUGLAS_RACHFORD,
    EXTRAPOLATED,
    MULTIPLIERS,
    PRIMAL_DUAL,
    AlgorithmState,
)
from .contraction.image_schemes import (
    GradientDescentScheme,
    HalfQuadraticScheme,
    ProximalGradientScheme,
)
from .contraction.rate_scheme import RateScheme
from .contraction.splitting_schemes import ADMMScheme, DouglasRachfordScheme
from .equilibrium_optim import EquilibriumOptim


class PGD(EquilibriumOptim, deepinv.optim.PGD):
    r"""
    Proximal gradient descent (forward-backward) at equilibrium.

    .. math::

        x_{k+1} = (1 - \beta) x_k + \beta
        \operatorname{prox}_{\gamma \lambda g}(x_k - \gamma \nabla f(x_k))

    with :math:`\beta = 1` unless ``params_algo`` says otherwise. State: :math:`x`. For
    :math:`\beta = 1`, :math:`f = \tfrac{1}{2} \|Ax - y\|^2` with
    :math:`\mu I \le A^\top A \le L I` and an :math:`L_D`-Lipschitz prox or denoiser it
    contracts if
    :math:`L_D \max(|1 - \gamma \mu|, |1 - \gamma L|) < 1`
    :footcite:p:`ryu2019plug`; with a firmly nonexpansive one and
    :math:`\gamma < 2/L` it converges without a rate if there is a fixed point.

    Takes the arguments of :class:`deepinv.optim.PGD` and
    :class:`deepinv.optim.BaseOptim`; ``DEQ`` may also be
    :class:`Equilibrium <deepinv_equilibrium.Equilibrium>` or
    :class:`ReTune <deepinv_equilibrium.ReTune>`. State dicts have deepinv's keys and
    natural values.

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    >>> model = deq.optim.PGD(
    ...     data_fidelity=dinv.optim.L2(),
    ...     prior=dinv.optim.Tikhonov(),
    ...     stepsize=0.5,
    ...     DEQ=deq.Equilibrium(deq.Anderson(rtol=1e-6)),
    ... )
    >>> y = torch.ones(1, 1, 4, 4)
    >>> print(round(model(y, physics).mean().item(), 4))  # of x = y / 2
    0.5
    """

    prior_gradient_if_g_first: ClassVar[bool] = True
    rate_scheme: ClassVar[RateScheme | None] = ProximalGradientScheme()


class GD(EquilibriumOptim, deepinv.optim.GD):
    r"""
    Gradient descent at equilibrium.

    .. math::

        x_{k+1} = x_k - \gamma \bigl( \nabla f(x_k) + \lambda \nabla g(x_k) \bigr)

    State: :math:`x`. With :math:`\mu I \le A^\top A \le L I` and an
    :math:`\epsilon`-Lipschitz :math:`\lambda \nabla g` it contracts if
    :math:`\max(|1 - \gamma \mu|, |1 - \gamma L|) + \gamma \epsilon < 1`, which needs
    :math:`\epsilon < \mu`. The prior must have a gradient: a denoiser enters through
    :class:`deepinv.optim.RED`, not through ``PnP``.

    Takes the arguments of :class:`deepinv.optim.GD`, as :class:`PGD` does.

    :raises ValueError: if the prior is :class:`deepinv.optim.PnP`.
    """

    prior_gradient: ClassVar[bool] = True
    rate_scheme: ClassVar[RateScheme | None] = GradientDescentScheme()


class HQS(EquilibriumOptim, deepinv.optim.HQS):
    r"""
    Half-quadratic splitting at equilibrium.

    .. math::

        x_{k+1} = \operatorname{prox}_{\gamma \lambda g}
        \bigl( \operatorname{prox}_{\gamma f}(x_k) \bigr)

    relaxed by :math:`\beta` as in :class:`PGD`. State: :math:`x`. Contracts if
    :math:`L_D / (1 + \gamma \mu) < 1`. Its fixed point minimises :math:`\lambda g` plus
    the Moreau envelope of :math:`f` with parameter :math:`\gamma`, not
    :math:`f + \lambda g`.

    Takes the arguments of :class:`deepinv.optim.HQS`, as :class:`PGD` does.
    """

    rate_scheme: ClassVar[RateScheme | None] = HalfQuadraticScheme()


class ADMM(EquilibriumOptim, deepinv.optim.ADMM):
    r"""
    Alternating direction method of multipliers at equilibrium.

    .. math::

        u_{k+1} &= \operatorname{prox}_{\gamma f}(x_k - z_k) \\
        x_{k+1} &= \operatorname{prox}_{\gamma \lambda g}(u_{k+1} + z_k) \\
        z_{k+1} &= z_k + \beta (u_{k+1} - x_{k+1})

    State: :math:`(x, z)`. For :math:`\beta = 1` the sum :math:`x + z` is its
    Douglas-Rachford variable, in which rates hold; for another :math:`\beta`, which
    may be trained, it does not determine the next iterate, so both are kept.

    Takes the arguments of :class:`deepinv.optim.ADMM`, as :class:`PGD` does.
    """

    algorithm_state: ClassVar[AlgorithmState] = MULTIPLIERS
    rate_scheme: ClassVar[RateScheme | None] = ADMMScheme()


class DRS(EquilibriumOptim, deepinv.optim.DRS):
    r"""
    Douglas-Rachford splitting at equilibrium.

    .. math::

        u_{k+1} &= \operatorname{prox}_{\gamma f}(z_k) \\
        x_{k+1} &= \operatorname{prox}_{\gamma \lambda g}(2 u_{k+1} - z_k) \\
        z_{k+1} &= z_k + \beta (x_{k+1} - u_{k+1})

    State: :math:`z`; the image :math:`x_{k+1}` is an output of the step. With a firmly
    nonexpansive denoiser and :math:`\beta = 1` it contracts at
    :math:`\tfrac12 + \tfrac12 \max\bigl(\tfrac{1 - \gamma\mu}{1 + \gamma\mu},
    \tfrac{\gamma L - 1}{1 + \gamma L}\bigr)`, if :math:`\mu > 0`.

    Takes the arguments of :class:`deepinv.optim.DRS`, as :class:`PGD` does.
    """

    algorithm_state: ClassVar[AlgorithmState] = DOUGLAS_RACHFORD
    rate_scheme: ClassVar[RateScheme | None] = DouglasRachfordScheme()


class PDCP(EquilibriumOptim, deepinv.optim.PDCP):
    r"""
    The primal-dual algorithm of Chambolle and Pock at equilibrium.

    .. math::

        u_{k+1} &= \operatorname{prox}_{\sigma F^*}(u_k + \sigma K z_k) \\
        x_{k+1} &= \operatorname{prox}_{\tau \lambda G}(x_k - \tau K^\top u_{k+1}) \\
        z_{k+1} &= x_{k+1} + \beta (x_{k+1} - x_k)

    State: :math:`(x, z, u)`. Converges for convex :math:`F, G`, :math:`\beta = 1` and
    :math:`\sigma \tau \|K\|^2 < 1` :footcite:p:`chambolle2011first`; no contraction
    rate is claimed. The dual variable starts at :math:`y` as in deepinv where :math:`y`
    lives in the range of :math:`K`, else at 0.

    Takes the arguments of :class:`deepinv.optim.PDCP`, as :class:`PGD` does. A ``K``
    that is a module becomes a part of the model.
    """

    algorithm_state: ClassVar[AlgorithmState] = PRIMAL_DUAL


class MD(EquilibriumOptim, deepinv.optim.MD):
    r"""
    Mirror descent at equilibrium.

    .. math::

        x_{k+1} = \nabla h^* \bigl( \nabla h(x_k)
        - \gamma (\nabla f(x_k) + \lambda \nabla g(x_k)) \bigr)

    State: :math:`x`. With Burg's entropy or the negative entropy as potential, iterates
    are positive: accelerated proposals that are not fall back to the plain step, and a
    plain step that is not ends the sample as ``DIVERGED``. No rate is claimed.

    Takes the arguments of :class:`deepinv.optim.MD`, as :class:`PGD` does.

    :raises ValueError: if the prior is :class:`deepinv.optim.PnP`.
    """

    prior_gradient: ClassVar[bool] = True


class PMD(EquilibriumOptim, deepinv.optim.PMD):
    r"""
    Proximal mirror descent at equilibrium.

    .. math::

        x_{k+1} = \operatorname{prox}^h_{\gamma \lambda g} \bigl(
        \nabla h^* ( \nabla h(x_k) - \gamma \nabla f(x_k) ) \bigr)

    relaxed by :math:`\beta` as in :class:`PGD`. State: :math:`x`, positive for the
    entropies as in :class:`MD`. No rate is claimed.

    Takes the arguments of :class:`deepinv.optim.PMD`, as :class:`PGD` does.
    """

    prior_gradient_if_g_first: ClassVar[bool] = True


class FISTA(EquilibriumOptim, deepinv.optim.FISTA):
    r"""
    Accelerated proximal gradient descent at equilibrium.

    .. math::

        x_{k+1} &= \operatorname{prox}_{\gamma \lambda g}(z_k - \gamma \nabla f(z_k)) \\
        z_{k+1} &= x_{k+1} + \alpha_k (x_{k+1} - x_k), \qquad
        \alpha_k = \frac{k + a - 1}{k + a}

    State: :math:`(x, z)`. The counter :math:`k` starts again with every block, so that
    the block is a fixed map: restarted FISTA. A block of one iteration has the constant
    momentum :math:`(a - 1) / a`. It need not contract; no rate is claimed.

    Takes the arguments of :class:`deepinv.optim.FISTA`, as :class:`PGD` does.
    """

    algorithm_state: ClassVar[AlgorithmState] = EXTRAPOLATED
    prior_gradient_if_g_first: ClassVar[bool] = True
