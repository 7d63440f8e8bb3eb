"""deepinv's methods for the problem."""

from __future__ import annotations

import deepinv as dinv
from deepinv.optim import AndersonAccelerationConfig, DEQConfig
from torch import Tensor

from .problem import STEPSIZE, Problem
from .reconstruct import Reconstruct


def forward_methods(
    problem: Problem, rtol: float, max_iter: int
) -> dict[str, Reconstruct]:
    """Return the iteration of deepinv, plain and with its Anderson acceleration."""
    acceleration = {
        "Picard": None,
        "Anderson, defaults (ridge .1, beta .9)": AndersonAccelerationConfig(),
        "Anderson (ridge 1e-4, beta 1)": AndersonAccelerationConfig(eps=1e-4, beta=1.0),
    }
    return {
        name: _model(
            problem,
            DEQConfig(jacobian_free=True),
            max_iter=max_iter,
            early_stop=True,
            thres_conv=rtol,
            anderson_acceleration=config,
        )
        for name, config in acceleration.items()
    }


def backward_method(problem: Problem, name: str, products: int) -> Reconstruct:
    """Return one iteration with an adjoint solve of a given budget."""
    config = DEQConfig(
        anderson_acceleration_backward=name != "Picard",
        history_size_backward=10 if "history 10" in name else 5,
        max_iter_backward=products,
    )
    # The backward uses the stopping criterion of the forward: make it unreachable.
    return _model(problem, config, max_iter=1, early_stop=True, thres_conv=0.0)


BACKWARD = ("Anderson, defaults (history 5)", "Anderson (history 10)", "Picard")


def implicit(problem: Problem) -> Reconstruct:
    """Return the full backward with the default numbers of iterations."""
    return _model(problem, DEQConfig(), max_iter=50, early_stop=True, thres_conv=1e-4)


def jacobian_free(problem: Problem, evaluations: int) -> Reconstruct:
    """Return a fixed number of evaluations; deepinv adds the last one."""
    return _model(problem, DEQConfig(jacobian_free=True), max_iter=evaluations - 1)


def inference(problem: Problem, steps: int) -> Reconstruct:
    """Return a model with a number of steps, as deepinv counts them."""
    return _model(problem, DEQConfig(), max_iter=steps)


def _model(problem: Problem, config: DEQConfig, **options: object) -> Reconstruct:
    model = dinv.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(problem.denoiser),
        stepsize=STEPSIZE,
        trainable_params=[],
        DEQ=config,
        **options,
    )

    def reconstruct(y: Tensor, init: Tensor | None = None) -> Tensor:
        return model(y, problem.physics, init=init)

    return reconstruct
