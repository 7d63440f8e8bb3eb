"""A reconstructor for one operator that is reused as a regulariser for another."""

from __future__ import annotations

import math

import torch
from deepinv.models import Reconstructor
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from ...equilibrium import Equilibrium, EquilibriumModel
from ...equilibrium.input_checks import require_linear
from ...equilibrium.measured_physics import MeasuredPhysics
from ...fixed_points import State
from ...fixed_points.argument_checks import require_number


class ReuseAndRegularise(EquilibriumModel):
    r"""
    Reuse and regularise :footcite:p:`gilton2021model`: a model
    :math:`f(\cdot\,; \theta, A_0)` that was trained for an operator :math:`A_0`
    restores measurements :math:`y = A_1 x + \varepsilon` of another one, without any
    training,

    .. math::

        z_k = f(A_0 x_k; \theta, A_0), \qquad
        x_{k+1} = \operatorname*{arg\,min}_x \|A_1 x - y\|^2 + \lambda \|x - z_k\|^2 .

    An image of the kind that the model was trained on is restored by :math:`f` from
    its measurement :math:`A_0 x`, so that :math:`x - f(A_0 x)` is small for such
    images and for no others: it has the part of the residual of a denoiser in
    regularisation by denoising, and a fixed point solves

    .. math::

        A_1^\top (A_1 x - y) + \lambda \bigl(x - f(A_0 x; \theta, A_0)\bigr) = 0 .

    Nothing bounds the Lipschitz constant of :math:`f \circ A_0`, so that convergence is
    observed, not certified: see :attr:`solution`. Iterations start from
    :math:`A_1^\top y`. The minimiser is in closed form where the physics has one, else
    by conjugate gradients to its ``tol`` and ``max_iter``. Gradients reach
    :math:`\theta`, the measurement and the physics, so that the model can be trained
    on.

    :param deepinv.models.Reconstructor model: :math:`f`, trained for
        ``nominal_physics``.
    :param deepinv.physics.Physics nominal_physics: :math:`A_0`.
    :param float weight: :math:`\lambda > 0`.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: solver and
        adjoint, or so many iterations: ``ReTune(layers=1, restarts=20)``. Default:
        ``None``, ``Equilibrium()``.
    :param bool show_progress_bar: whether to show one during the iterations.
    :raises TypeError: if an argument is of the wrong kind.
    :raises ValueError: if ``weight`` is not positive and finite.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> nominal = dinv.physics.Denoising()
    >>> model = dinv.models.ArtifactRemoval(dinv.models.MedianFilter())
    >>> reused = deq.models.ReuseAndRegularise(
    ...     model, nominal, weight=0.1, DEQ=deq.ReTune(layers=1, restarts=5)
    ... )
    >>> physics = dinv.physics.Inpainting((1, 8, 8), mask=0.5)
    >>> reused(physics(torch.rand(2, 1, 8, 8)), physics).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        model: Reconstructor,
        nominal_physics: Physics,
        weight: float = 0.1,
        DEQ: Equilibrium | None = None,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__(DEQ, show_progress_bar)
        if not isinstance(model, Reconstructor):
            raise TypeError(
                "model must be a deepinv Reconstructor that was trained for "
                f"nominal_physics, got {type(model).__name__}."
            )
        if not isinstance(nominal_physics, Physics):
            raise TypeError(
                "nominal_physics must be the deepinv Physics that model was trained "
                f"for, got {type(nominal_physics).__name__}."
            )
        require_number("weight", weight)
        if not 0 < weight < math.inf:
            raise ValueError(f"weight must be positive and finite, got {weight!r}.")
        self.model = model
        self.nominal_physics = nominal_physics
        self.weight = float(weight)

    def extra_repr(self) -> str:
        """Return what the representation shows first."""
        return f"weight={self.weight:g}, DEQ={self.DEQ!r}"

    def fixed_point_problem(
        self, y: Tensor, physics: LinearPhysics
    ) -> tuple[ReuseStep, State]:
        r"""
        The fixed-point problem that the model solves for a measurement.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: :math:`A_1`, linear.
        :return: the step, a block of ``DEQ.layers`` iterations, and
            :math:`A_1^\top y`.
        :raises TypeError: if the physics is not linear.
        :raises ValueError: if the measurement is none of this physics, or modules
            couple the samples or are random.
        """
        require_linear(physics, "the data are fitted by least squares")
        measured = MeasuredPhysics(physics, y, self.DEQ.on_failure)
        start = measured.physics.A_adjoint(y).detach()
        step = ReuseStep(
            self.model, self.nominal_physics, self.weight, measured, self.DEQ.layers
        )
        return step, start


class ReuseStep:
    r"""
    As many iterations as the block has layers.

    :param deepinv.models.Reconstructor model: the model :math:`f`.
    :param deepinv.physics.Physics nominal_physics: its operator :math:`A_0`.
    :param float weight: :math:`\lambda`.
    :param MeasuredPhysics measured: the physics of the measurement, :math:`A_1`.
    :param int layers: number of iterations in the block.
    """

    def __init__(
        self,
        model: Reconstructor,
        nominal_physics: Physics,
        weight: float,
        measured: MeasuredPhysics,
        layers: int,
    ) -> None:
        self.model, self.nominal_physics, self.weight = model, nominal_physics, weight
        self.measured, self.layers = measured, layers
        self.physics = measured.physics

    def __call__(self, state: State) -> State:
        """The image after the block."""
        assert isinstance(state, Tensor)
        if torch.is_grad_enabled():
            self.measured.start_recording()
        x = state
        for _ in range(self.layers):
            z = self.model(self.nominal_physics.A(x), self.nominal_physics)
            if z.shape != x.shape:
                raise ValueError(
                    f"model returns images of shape {tuple(z.shape)}, but physics "
                    f"({type(self.measured.original).__name__}) measures images of "
                    f"shape {tuple(x.shape)}; nominal_physics must be for these too."
                )
            x = self.physics.prox_l2(z, self.measured.y, gamma=1 / self.weight)
        return x
