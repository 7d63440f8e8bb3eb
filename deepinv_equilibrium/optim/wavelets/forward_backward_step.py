"""Forward-backward iterations on scaled wavelet coefficients."""

from __future__ import annotations

import torch
from deepinv.physics import Denoising, LinearPhysics
from torch import Tensor

from ...fixed_points import State
from .coefficient_scaling import CoefficientScaling
from .wavelet_prior import WeightedWaveletPrior
from .wavelet_transform import Coefficients


class WaveletForwardBackwardStep:
    r"""
    A block of forward-backward iterations for :math:`\min_x \tfrac12 \|A x - y\|^2 +
    \|\theta D x\|_{1,2}` in the variable :math:`u = \rho D x`,

    .. math::

        u_{k+1} = \operatorname{prox}_{\tau \|\cdot\|_{1,2}} \bigl(u_k - \tau \rho^{-1}
        D A^\top (A D^\top \rho^{-1} u_k - y)\bigr), \qquad
        x_{k+1} = D^\top \rho^{-1} u_{k+1},

    equation (51) of :footcite:t:`davy2025restarted` for :math:`A = I` and
    :math:`\rho = \theta`. In this variable the proximal operator is a soft threshold of
    groups for all weights. The image is an output of the step. It depends on
    :math:`\theta` also directly, and its gradient contains that part.

    :class:`~deepinv_equilibrium.optim.wavelets.CoefficientScaling` is the scaling; the
    threshold of scale :math:`j` is :math:`\tau m_j`. With
    :math:`\mu I \preceq A^\top A \preceq L I` the step is Lipschitz with the constant
    :math:`\max(|1 - \tau \mu / \max(\rho)^2|, |1 - \tau L / \min(\rho)^2|)`. (The
    paper, where it discusses validity, has :math:`1/\min(\Lambda)` in the place of
    :math:`1/\min(\theta)^2`; iterations with the former diverge.)

    For :math:`A = I` the transforms cancel, and the iterations need none.

    :param torch.Tensor image: :math:`A^\top y`.
    :param deepinv.physics.LinearPhysics physics: the physics.
    :param WeightedWaveletPrior prior: the prior.
    :param CoefficientScaling scaling: the scaling of the coefficients.
    :param float tau: the step size :math:`\tau`.
    :param int layers: number of iterations in the block.
    """

    def __init__(
        self,
        image: Tensor,
        physics: LinearPhysics,
        prior: WeightedWaveletPrior,
        scaling: CoefficientScaling,
        tau: float,
        layers: int = 1,
    ) -> None:
        self.physics, self.prior, self.scaling = physics, prior, scaling
        self.tau, self.layers = tau, layers
        self.size = image.shape[-2:]
        self.data = prior.transform.analysis(image)
        # For A = I the gradient step multiplies each coefficient by a constant.
        self._gain = (
            [1 - tau * scale.square() for scale in scaling.inverse]
            if type(physics) is Denoising
            else None
        )
        self._drive = [tau * z for z in scaling.unscale(self.data)]
        # Entries that are 0 for every image must not persist: the step would not
        # contract.
        self._occurring = prior.transform.occurring(self.size, image)

    @property
    def start(self) -> State:
        r"""Initial state of the paper: the coefficients :math:`D A^\top y`, here with
        a scaled approximation."""
        approximation, *details = self.data
        return (approximation * self.scaling.approximation, *details)

    def __call__(self, state: State) -> State:
        """Return the scaled coefficients after the block."""
        assert isinstance(state, tuple)
        u = state
        for _ in range(self.layers):
            u = self._iterate(u)
        return u

    def step_and_output(self, state: State) -> tuple[State, Tensor]:
        """Return the scaled coefficients after the block, and their image."""
        u = self(state)
        assert isinstance(u, tuple)
        return u, self._image(self.scaling.unscale(u))

    def _image(self, w: Coefficients) -> Tensor:
        return self.prior.transform.synthesis(w, self.size)

    def _iterate(self, u: Coefficients) -> Coefficients:
        approximation, *details = self._gradient_step(u)
        thresholds = self.scaling.threshold
        shrunk = [
            _soft_threshold(detail, self.tau * m, self.prior.group)
            for detail, m in zip(details, thresholds, strict=True)
        ]
        return (approximation, *shrunk)

    def _gradient_step(self, u: Coefficients) -> list[Tensor]:
        if self._gain is not None:
            terms = zip(self._drive, u, self._gain, strict=True)
            return [torch.addcmul(drive, u, gain) for drive, u, gain in terms]
        image = self._image(self.scaling.unscale(u))
        w = self.prior.transform.analysis(self.physics.A_adjoint_A(image))
        pulled = zip(
            u, self._occurring, self._drive, self.scaling.unscale(w), strict=True
        )
        return [
            torch.addcmul(drive, u, occurs) - self.tau * at
            for u, occurs, drive, at in pulled
        ]


def _soft_threshold(u: Tensor, threshold: float, group: tuple[int, ...]) -> Tensor:
    """Soft threshold of group norms; a positive threshold has finite derivatives."""
    square = u.square().sum(group, keepdim=True)  # much faster here than vector_norm
    floor = max(threshold**2, torch.finfo(u.dtype).tiny)
    return u * (1 - threshold / square.clamp_min(floor).sqrt())
