"""A reconstructor of one operator, used as a regulariser for another operator."""

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
    reconstructs measurements :math:`y = A_1 x + \varepsilon` of another operator
    :math:`A_1` without further training,

    .. math::

        z_k = f(A_0 x_k; \theta, A_0), \qquad
        x_{k+1} = \operatorname*{arg\,min}_x \|A_1 x - y\|^2 + \lambda \|x - z_k\|^2 .

    A fixed point solves

    .. math::

        A_1^\top (A_1 x - y) + \lambda \bigl(x - f(A_0 x; \theta, A_0)\bigr) = 0 .

    The residual :math:`x - f(A_0 x)` regularises as :math:`x - \operatorname{D}(x)`
    does in regularisation by denoising: it is small for images like those of the
    training, which :math:`f` reconstructs from :math:`A_0 x`, and large for others.

    The Lipschitz constant of :math:`f \circ A_0` is unknown, so that convergence is not
    certified but observed: see :attr:`solution`. The iterations start from
    :math:`A_1^\top y`. The minimiser :math:`x_{k+1}` is computed in closed form if the
    physics has one, and otherwise by conjugate gradients with the ``tol`` and
    ``max_iter`` of the physics. The output has gradients in :math:`\theta`, the
    measurement and the physics, so that the model can be trained further.

    In addition to :class:`~deepinv_equilibrium.equilibrium.EquilibriumModel`, calling
    the model raises a ``TypeError`` if the physics is not linear, and a ``ValueError``
    if ``model`` returns images of another shape than those that the physics measures.

    :param deepinv.models.Reconstructor model: reconstructor :math:`f` that was trained
        for ``nominal_physics``.
    :param deepinv.physics.Physics nominal_physics: physics with the operator
        :math:`A_0`.
    :param float weight: weight :math:`\lambda > 0` of the regularisation. Default: 0.1.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: solver,
        adjoint and number of layers of the step; ``ReTune(layers=1, restarts=20)``
        makes 20 iterations. Default: ``None``, ``Equilibrium()``.
    :param bool show_progress_bar: whether to show a progress bar during the iterations.
        Default: ``False``.
    :raises TypeError: if an argument is of another type.
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
        """Return the settings that ``repr`` shows."""
        return f"weight={self.weight:g}, DEQ={self.DEQ!r}"

    def fixed_point_problem(
        self, y: Tensor, physics: LinearPhysics
    ) -> tuple[ReuseStep, State]:
        r"""
        Return the step, a block of ``DEQ.layers`` iterations, and the initial image
        :math:`A_1^\top y`.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics, with the operator
            :math:`A_1`.
        :return: (tuple) the step and the initial image.
        :raises TypeError: if the physics is not linear.
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
    A block of iterations :math:`x \mapsto \operatorname*{arg\,min}_u \|A_1 u - y\|^2 +
    \lambda \|u - f(A_0 x)\|^2`.

    :param deepinv.models.Reconstructor model: the reconstructor :math:`f`.
    :param deepinv.physics.Physics nominal_physics: the physics of :math:`A_0`.
    :param float weight: the weight :math:`\lambda`.
    :param MeasuredPhysics measured: the physics of :math:`A_1`, with the measurement
        :math:`y`.
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
        """Return the image after the block.

        :raises ValueError: if ``model`` returns images of another shape.
        """
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
                    f"shape {tuple(x.shape)}; give a nominal_physics for images of the "
                    "same shape."
                )
            x = self.physics.prox_l2(z, self.measured.y, gamma=1 / self.weight)
        return x
