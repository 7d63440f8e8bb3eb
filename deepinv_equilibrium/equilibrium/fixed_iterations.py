"""A model with a fixed number of iterations, for deployment without this package."""

from __future__ import annotations

import copy
from typing import Any

from deepinv.physics import Physics
from torch import Tensor, nn

from ..fixed_points.argument_checks import require_count, require_instance
from .equilibrium_model import EquilibriumModel


class FixedIterations(nn.Module):
    r"""
    A frozen copy of an equilibrium model that applies its step :math:`T` times,
    :math:`x_T = f^T(x_0)`, for one physics, without a solver, checks and reports.

    ``torch.export`` can trace it without gradients, and the exported program needs
    neither this package nor deepinv. The weights and the parameters of the physics are
    constants of the program. It has the size and the batch size of the example, unless
    dynamic dimensions are named. Gradient descent, proximal gradient descent and FISTA
    can be exported. A proximal operator of the data fidelity, which is compared with
    its definition, and networks that compute the norms of their layers cannot.

    :param EquilibriumModel model: the model; unchanged.
    :param deepinv.physics.Physics physics: its physics; unchanged.
    :param int iterations: number :math:`T` of applications of the step, a block of
        ``DEQ.layers`` iterations, at least 1.
    :raises TypeError: if ``model`` is no equilibrium model.
    :raises ValueError: if ``iterations`` is less than 1.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> model = deq.optim.PGD(
    ...     data_fidelity=dinv.optim.L2(),
    ...     prior=dinv.optim.PnP(deq.models.SmallDRUNet(1)),
    ...     stepsize=0.9,
    ...     sigma_denoiser=0.05,
    ...     DEQ=deq.ReTune(layers=1, restarts=3),
    ... )
    >>> physics = dinv.physics.Inpainting((1, 16, 16), mask=0.5)
    >>> y = physics(torch.rand(1, 1, 16, 16))
    >>> frozen = deq.equilibrium.FixedIterations(model, physics, iterations=3)
    >>> with torch.no_grad():
    ...     program = torch.export.export(frozen, (y,))
    >>> torch.allclose(program.module()(y), model.eval()(y, physics), atol=1e-6)
    True
    """

    def __init__(self, model: EquilibriumModel, physics: Physics, iterations: int):
        super().__init__()
        require_instance("model", model, EquilibriumModel)
        require_count("iterations", iterations, 1)
        self.iterations = iterations
        frozen = copy.deepcopy(model).eval().requires_grad_(False)
        frozen.solution = None
        # In a tuple, so that they are no submodules: torch.export cannot name deepinv's
        # parameter "lambda", which is a keyword of Python.
        self._parts: tuple[Any, Any] = frozen, copy.deepcopy(physics)

    def forward(self, y: Tensor) -> Tensor:
        r"""
        Reconstruct the images of a measurement.

        :param torch.Tensor y: the measurement.
        :return: (:class:`torch.Tensor`) the images.
        """
        model, physics = self._parts
        step, state = model.fixed_point_problem(y, physics)
        evaluate = getattr(step, "step_and_output", None)
        output: Tensor | None = None
        for _ in range(self.iterations):
            if evaluate is None:
                state = step(state)
            else:
                state, output = evaluate(state)
        if output is not None:
            return output
        image: Tensor = state if isinstance(state, Tensor) else state[0]
        return image
