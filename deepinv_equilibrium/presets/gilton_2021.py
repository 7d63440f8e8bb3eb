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

from dataclasses import dataclass
from typing import Any

from deepinv.models import Denoiser

from ..fixed_points import Adjoint, Anderson, FixedPointSolver, Implicit, OnFailure
from ..optim.equilibrium_optim import EquilibriumOptim
from ..optim.optimizers import ADMM, GD, PGD
from ..optim.priors.red import RED
from .plug_and_play import EquilibriumPreset

ANDERSON = Anderson(history_size=5, max_iter=100, rtol=1e-5)


@dataclass(frozen=True)
class DEPreset(EquilibriumPreset):
    """An :class:`~deepinv_equilibrium.presets.EquilibriumPreset` with the solver
    of the paper, whose step size is fixed unless ``trainable_params`` names it."""

    def __call__(
        self,
        denoiser: Denoiser | str,
        solver: FixedPointSolver = ANDERSON,
        adjoint: Adjoint = Implicit(ANDERSON),
        layers: int = 1,
        on_failure: OnFailure = "warn",
        **arguments: Any,
    ) -> EquilibriumOptim:
        r"""
        Build the model.

        :param deepinv.models.Denoiser, str denoiser: the denoiser, or its name in
            :mod:`deepinv_equilibrium.plugins`. Its weights are learned with the model
            unless they are frozen.
        :param FixedPointSolver solver: how the fixed point is found.
        :param Adjoint adjoint: how it is differentiated.
        :param int layers: iterations in the map whose fixed point is sought.
        :param str on_failure: what to do where a sample does not converge, forward or
            backward: ``"warn"``, ``"raise"`` or ``"ignore"``.
        :param arguments: arguments of the optimiser, such as ``stepsize``,
            ``data_fidelity`` and ``trainable_params``.
        :return: the model, ready for :class:`deepinv.Trainer`.
        :raises TypeError: if the denoiser is neither a denoiser nor a name, or an
            argument is unknown.
        :raises ValueError: if no denoiser has that name, or an argument is out of its
            range.
        """
        arguments = {"trainable_params": [], **arguments}
        return super().__call__(
            denoiser, solver, adjoint, layers, on_failure, **arguments
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
de_grad = DEPreset(GD, prior=RED, steps={"stepsize": 0.5})

#: DE-PROX, :math:`x = \operatorname{D}(x - \eta A^\top (A x - y))` with a residual
#: network :math:`\operatorname{D} = I + R`, such as ``BoundedDnCNN(epsilon)``. With an
#: :math:`\epsilon`-Lipschitz :math:`R` it contracts if :math:`(1 + \epsilon) \max(|1 -
#: \eta \mu|, |1 - \eta L|) < 1` (Theorem 1 of :footcite:t:`ryu2019plug`), which asks
#: for :math:`\mu > 0`: for subsampled operators there is no certificate, and
#: ``model.solution`` says whether it converged.
de_prox = DEPreset(PGD)

#: DE-ADMM, with a residual network in the place of the proximal operator of the prior,
#: for any :math:`\eta > 0`. It contracts under the condition of Theorem 2 of
#: :footcite:t:`ryu2019plug`, which asks for :math:`\mu > 0` too.
de_admm = DEPreset(ADMM)
