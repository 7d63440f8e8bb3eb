r"""
DE-GRAD, DE-PROX and DE-ADMM :footcite:p:`gilton2021deep`.

They are the plug-and-play equilibria of :mod:`deepinv_equilibrium.presets` with the
settings of the paper: Anderson acceleration with 5 iterates, at most 100 evaluations
and a tolerance of 1e-5 in the forward and the backward pass, and a fixed step size. The
paper adds :math:`10^{-2}` to the Gram matrix of the residuals. The ridge of
:class:`~deepinv_equilibrium.Anderson` is relative instead, so that the result does not
depend on the scale of the images.
"""

from __future__ import annotations

from functools import partial

from ..fixed_points import Anderson, Implicit
from ..optim import RED
from ..optim.optimizers import ADMM, GD, PGD
from .plug_and_play import EquilibriumPreset

ANDERSON = Anderson(history_size=5, max_iter=100, rtol=1e-5)
_Preset = partial(
    EquilibriumPreset,
    solver=ANDERSON,
    adjoint=Implicit(ANDERSON),
    trainable_params=(),
)

#: DE-GRAD, :math:`x = x - \eta (A^\top (A x - y) + S(x))` with :math:`S = I -
#: \operatorname{D}`: regularisation by denoising with :math:`\lambda = 1`.
#:
#: Let :math:`\mu I \preceq A^\top A \preceq L I`. If :math:`S - I = -\operatorname{D}`
#: is :math:`\epsilon`-Lipschitz and :math:`\eta \leq 1 / (1 + L)`, the rate is
#: :math:`1 - \eta (1 + \mu) + \eta \epsilon` (Theorem 1 of the paper). It is below 1
#: for :math:`\epsilon < 1 + \mu`, including the case :math:`\mu = 0`.
#: :func:`deepinv_equilibrium.certify` proves it for a contractive denoiser, such as
#: ``BoundedDnCNN(epsilon=0.99, residual=False)``. The default :math:`\eta = 1/2` is the
#: largest for :math:`L = 1`. These constants do not hold for :math:`\nabla \|Ax -
#: y\|^2`, which is twice the gradient used here, although papers combine both.
de_grad = _Preset(GD, prior=RED, steps={"stepsize": 0.5})

#: DE-PROX, :math:`x = \operatorname{D}(x - \eta A^\top (A x - y))` with a residual
#: network :math:`\operatorname{D} = I + R`, such as ``BoundedDnCNN(epsilon)``. With an
#: :math:`\epsilon`-Lipschitz :math:`R` and :math:`\mu I \preceq A^\top A \preceq L I`
#: it contracts if :math:`(1 + \epsilon) \max(|1 - \eta \mu|, |1 - \eta L|) < 1`
#: (Theorem 1 of :footcite:t:`ryu2019plug`). The condition requires :math:`\mu > 0`, so
#: that nothing is certified for subsampled operators. ``model.solution`` reports
#: whether the iterations converged.
de_prox = _Preset(PGD)

#: DE-ADMM: a residual network replaces the proximal operator of the prior, and
#: :math:`\eta > 0` is arbitrary. It contracts under the condition of Theorem 2 of
#: :footcite:t:`ryu2019plug`, which also requires :math:`\mu > 0`.
de_admm = _Preset(ADMM)
