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
    :param torch.Tensor tau: the step size :math:`\tau`, of shape ``()``. The step is
        differentiated in it.
    :param int layers: number of iterations in the block.
    """

    def __init__(
        self,
        image: Tensor,
        physics: LinearPhysics,
        prior: WeightedWaveletPrior,
        scaling: CoefficientScaling,
        tau: Tensor,
        layers: int = 1,
    ) -> None:
        self.physics, self.prior, self.scaling = physics, prior, scaling
        self.tau, self.layers = tau, layers
        self._thresholds = [tau * m for m in scaling.threshold]
        self.size = image.shape[-2:]
        self.data = prior.transform.analysis(image)
        rates = [tau * curvature for curvature in scaling.curvatures]
        # tau / rho, for the approximation (tau / rho_a^2) rho_a, where only the first
        # factor has a gradient.
        self._pull = [
            rates[0] * scaling.approximation,
            *(tau * inverse for inverse in scaling.inverse[1:]),
        ]
        # For A = I the gradient step multiplies each coefficient by a constant.
        self._gain = (
            [1 - rate for rate in rates] if type(physics) is Denoising else None
        )
        self._drive = [pull * z for pull, z in zip(self._pull, self.data, strict=True)]
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
        shrunk = [
            _soft_threshold(detail, threshold, self.prior.group)
            for detail, threshold in zip(details, self._thresholds, strict=True)
        ]
        return (approximation, *shrunk)

    def _gradient_step(self, u: Coefficients) -> list[Tensor]:
        if self._gain is not None:
            return [
                torch.addcmul(drive, u, gain)
                for drive, u, gain in zip(self._drive, u, self._gain, strict=True)
            ]
        image = self._image(self.scaling.unscale(u))
        w = self.prior.transform.analysis(self.physics.A_adjoint_A(image))
        terms = zip(u, self._occurring, self._drive, self._pull, w, strict=True)
        return [
            torch.addcmul(drive, u, occurs) - pull * at
            for u, occurs, drive, pull, at in terms
        ]


def _soft_threshold(u: Tensor, threshold: Tensor, group: tuple[int, ...]) -> Tensor:
    """Soft threshold of group norms; a positive threshold has finite derivatives."""
    square = u.square().sum(group, keepdim=True)  # much faster here than vector_norm
    norm = square.clamp_min(torch.finfo(u.dtype).tiny).sqrt()
    return u * (1 - threshold / torch.maximum(norm, threshold))
