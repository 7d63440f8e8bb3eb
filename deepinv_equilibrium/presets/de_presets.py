r"""
DE-GRAD, DE-PROX and DE-ADMM :footcite:p:`gilton2021deep`.

They are the plug-and-play equilibria of :mod:`deepinv_equilibrium.presets` with
the settings of that paper: Anderson acceleration over 5 iterates, at most 100
evaluations and a tolerance of 1e-5, forward and backward, and a step size that is not
learned. The paper adds :math:`10^{-2}` to the Gram matrix of the residuals; the ridge
of :class:`~deepinv_equilibrium.Anderson` is relative, so that the scale of the images
does not matter.
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
#: \operatorname{D}`: regularisation by denoising with :math:`\lambda = 1`. Where
#: :math:`S - I = -\operatorname{D}` is :math:`\epsilon`-Lipschitz and :math:`\eta \leq
#: 1 / (1 + L)` it contracts at :math:`1 - \eta (1 + \mu) + \eta \epsilon` (Theorem 1 of
#: the paper), which is below 1 for :math:`\epsilon < 1 + \mu`, also with :math:`\mu =
#: 0`. :func:`deepinv_equilibrium.certify` proves it for a contractive denoiser, such as
#: ``BoundedDnCNN(epsilon=0.99, residual=False)``. The default :math:`\eta = 1/2` is the
#: largest for :math:`L = 1`. Papers that take :math:`\nabla \|Ax - y\|^2`, twice this
#: gradient, with these constants claim too much.
de_grad = _Preset(GD, prior=RED, steps={"stepsize": 0.5})

#: DE-PROX, :math:`x = \operatorname{D}(x - \eta A^\top (A x - y))` with a residual
#: network :math:`\operatorname{D} = I + R`, such as ``BoundedDnCNN(epsilon)``. With an
#: :math:`\epsilon`-Lipschitz :math:`R` it contracts if :math:`(1 + \epsilon) \max(|1 -
#: \eta \mu|, |1 - \eta L|) < 1` (Theorem 1 of :footcite:t:`ryu2019plug`), which asks
#: for :math:`\mu > 0`: for subsampled operators there is no certificate, and
#: ``model.solution`` says whether it converged.
de_prox = _Preset(PGD)

#: DE-ADMM, with a residual network in the place of the proximal operator of the prior,
#: for any :math:`\eta > 0`. It contracts under the condition of Theorem 2 of
#: :footcite:t:`ryu2019plug`, which asks for :math:`\mu > 0` too.
de_admm = _Preset(ADMM)
