"""Steps of iterative soft thresholding, and their thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from deepinv.optim.prior import L1Prior
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from ...equilibrium.measured_physics import MeasuredPhysics
from ...fixed_points import State
from ...fixed_points.argument_checks import require_number
from .frames import Frame

_L1 = L1Prior()


def soft_threshold(z: Tensor, threshold: Tensor) -> Tensor:
    r"""
    Soft thresholding :math:`\operatorname{sign}(z) \max(|z| - \theta, 0)`, the proximal
    operator of :math:`\theta \|\cdot\|_1`.

    :param torch.Tensor z: coefficients of shape :math:`(B, M, ...)`.
    :param torch.Tensor threshold: :math:`\theta`, of shape :math:`(M,)`.
    :return: (:class:`torch.Tensor`) of the shape and precision of ``z``.
    """
    shaped = threshold.to(z.dtype).reshape(-1, *[1] * (z.ndim - 2))
    return _L1.prox(z, gamma=shaped)


def log_thresholds(
    name: str, values: float | Sequence[float] | Tensor, atoms: int
) -> Tensor:
    r"""
    Return the logarithms of thresholds.

    A model learns the logarithms, so that the thresholds stay positive. A threshold of
    0 stays 0: the coefficients of its atom are not penalised.

    :param str name: name of the argument, for an error.
    :param float, Sequence, torch.Tensor values: one threshold for all atoms, or one for
        each atom.
    :param int atoms: number of atoms :math:`M`.
    :return: (:class:`torch.Tensor`) of shape :math:`(M,)` and torch's default dtype.
    :raises ValueError: if the number of thresholds is neither 1 nor :math:`M`, or a
        threshold is negative or not finite.
    """
    given = torch.as_tensor(values, dtype=torch.get_default_dtype()).detach().flatten()
    if len(given) not in (1, atoms):
        raise ValueError(
            f"{name} must be one number, or one for each of the {atoms} atoms, got "
            f"{len(given)}."
        )
    if not bool((torch.isfinite(given) & (given >= 0)).all()):
        raise ValueError(f"{name} must be nonnegative and finite, got {values!r}.")
    return given.log().expand(atoms).clone()


def per_layer(value: Tensor, layers: int) -> nn.Parameter:
    r"""
    Return a parameter that holds one copy of a tensor for each layer.

    :param torch.Tensor value: the initial value of every layer.
    :param int layers: number of layers :math:`K`.
    :return: (torch.nn.Parameter) the copies along a new first axis.
    """
    return nn.Parameter(value.detach().expand(layers, *value.shape).clone())


class ISTAStep:
    r"""
    A block of iterations of ISTA in the coefficients of a frame,

    .. math::

        z_{k+1} = \mathcal{T}_{\tau \lambda}\left(z_k - \tau W A^\top (A W^\top z_k - y)
        \right) = \mathcal{T}_{\tau \lambda}\left((I - \tau W A^\top A W^\top) z_k
        + \tau W A^\top y\right).

    This is proximal gradient descent for :math:`\tfrac12 \|A W^\top z - y\|^2 + \lambda
    \|z\|_1` :footcite:p:`daubechies2004iterative`. Its fixed points are the minimisers.
    With :math:`\tau < 2 / \|A W^\top\|^2` the step is averaged and its iterates
    converge. It contracts only where :math:`A W^\top` is injective, so no rate is known
    in general.

    :param torch.Tensor y: the measurement.
    :param deepinv.physics.LinearPhysics physics: the physics.
    :param Frame frame: :math:`W`.
    :param torch.Tensor tau: :math:`\tau`, without axes.
    :param torch.Tensor weight: :math:`\lambda`, of shape :math:`(M,)`.
    :param int layers: iterations in the block.
    """

    def __init__(
        self,
        y: Tensor,
        physics: LinearPhysics,
        frame: Frame,
        tau: Tensor,
        weight: Tensor,
        layers: int = 1,
    ):
        self.y, self.frame, self.layers = y, frame, layers
        self.tau, self.threshold = tau, tau * weight
        self.measured = MeasuredPhysics(physics, y)
        self.physics = self.measured.physics

    def __call__(self, state: State) -> State:
        """Return the coefficients after the block."""
        assert isinstance(state, Tensor)
        z, at_y = state, self._adjoint_of_measurement()
        for _ in range(self.layers):
            gradient = self.physics.A_adjoint_A(self.frame.synthesis(z)) - at_y
            z = z - self.tau * self.frame.analysis(gradient)
            z = soft_threshold(z, self.threshold)
        return z

    def image(self, state: State) -> Tensor:
        r"""Return the image :math:`W^\top z` of coefficients."""
        assert isinstance(state, Tensor)
        return self.frame.synthesis(state)

    def step_and_output(self, state: State) -> tuple[State, Tensor]:
        """Return the state after the block, and its image."""
        state = self(state)
        return state, self.image(state)

    def _adjoint_of_measurement(self) -> Tensor:
        if torch.is_grad_enabled():
            self.measured.start_recording()
        return self.physics.A_adjoint(self.y)


class NonnegativeISTAStep(ISTAStep):
    r"""
    A block of iterations for sparse coefficients of a nonnegative image,

    .. math::

        \min_z \tfrac12 \|A W^\top z - y\|^2 + \lambda \|z\|_1 \quad \text{subject to }
        W^\top z \geq 0.

    The proximal operator of :math:`\lambda \|z\|_1` with this constraint has no closed
    form. The primal-dual algorithm of :footcite:t:`condat2013primal` (Algorithm 3.1)
    and Vũ splits the two terms:

    .. math::

        z_{k+1} &= \mathcal{T}_{\tau \lambda}\left(z_k
        - \tau W A^\top (A W^\top z_k - y) - \tau \sigma W v_k\right), \\
        v_{k+1} &= \min\left(v_k + W^\top (2 z_{k+1} - z_k), 0\right).

    The state is :math:`(z, v)`, where :math:`\sigma v` is Condat's dual variable; so
    :math:`v` has the unit of an image. At a fixed point :math:`W^\top z \geq 0`,
    :math:`v \leq 0` and :math:`v` is 0 where :math:`W^\top z > 0`: :math:`-\sigma v` is
    the Lagrange multiplier, and :math:`z` a minimiser. The image is :math:`\max(W^\top
    z, 0)`, which is nonnegative before convergence too, and equals :math:`W^\top z` at
    a fixed point.

    The iterates converge if :math:`\tfrac1\tau - \sigma \|W\|^2 > \tfrac12 \|A
    W^\top\|^2`, by Condat's Theorem 3.1. The step is then averaged in the norm
    :math:`\|z\|^2 / \tau - 2 \sigma \langle W^\top z, v \rangle + \sigma \|v\|^2`,
    and no rate is known.

    :param torch.Tensor y: the measurement.
    :param deepinv.physics.LinearPhysics physics: the physics.
    :param Frame frame: :math:`W`.
    :param torch.Tensor tau: :math:`\tau`, without axes.
    :param torch.Tensor product: :math:`\tau \sigma`, without axes.
    :param torch.Tensor weight: :math:`\lambda`, of shape :math:`(M,)`.
    :param int layers: iterations in the block.
    """

    def __init__(
        self,
        y: Tensor,
        physics: LinearPhysics,
        frame: Frame,
        tau: Tensor,
        product: Tensor,
        weight: Tensor,
        layers: int = 1,
    ):
        super().__init__(y, physics, frame, tau, weight, layers)
        self.product = product

    def __call__(self, state: State) -> State:
        """Return coefficients and dual variable after the block."""
        (z, v), at_y = state, self._adjoint_of_measurement()
        image = self.frame.synthesis(z)
        for _ in range(self.layers):
            pull = self.tau * (self.physics.A_adjoint_A(image) - at_y)
            before = image
            z = z - self.frame.analysis(pull + self.product * v)
            z = soft_threshold(z, self.threshold)
            image = self.frame.synthesis(z)
            v = (v + 2 * image - before).clamp(max=0)
        return z, v

    def image(self, state: State) -> Tensor:
        r"""Return the image :math:`\max(W^\top z, 0)` of coefficients."""
        z, _ = state
        return self.frame.synthesis(z).clamp(min=0)


def require_relative(stepsize: float) -> None:
    r"""
    Raise unless a step size, relative to the squared norms of the operators, is in
    (0, 2).

    :param float stepsize: :math:`s`.
    :raises TypeError: if ``stepsize`` is not a number.
    :raises ValueError: if ``stepsize`` is outside the interval, where the iterations
        need not converge.
    """
    require_number("stepsize", stepsize)
    if not 0 < stepsize < 2:
        raise ValueError(
            "stepsize is tau times the squared norms of the physics and the frame, and "
            f"must be between 0 and 2, got {stepsize!r}."
        )
