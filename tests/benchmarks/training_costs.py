"""What a training step costs and how good its gradient is, for each configuration::

    OMP_NUM_THREADS=1 python -m tests.benchmarks.training_costs

The configurations are those of the page *What do you have, what do you want?*, on the
problem of ``python -m tests.benchmarks``. Evaluations and vector-Jacobian products are
counted in the denoiser. The error is that of the gradient of a loss in the weights and
in the measurement, relative to the gradient at the fixed point, and the cosine is that
of the angle between both in the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import deepinv as dinv
import torch

import deepinv_equilibrium as deq

from .backward_solves import Gradient, reference
from .problem import STEPSIZE, Problem, build

ANDERSON = deq.Anderson(rtol=1e-5, max_iter=300)
CONFIGURATIONS = {
    "Anderson, JacobianFree()": deq.Equilibrium(ANDERSON, deq.JacobianFree()),
    "Anderson, JacobianFree(steps=5)": deq.Equilibrium(
        ANDERSON, deq.JacobianFree(steps=5)
    ),
    "Anderson, Neumann(order=5)": deq.Equilibrium(ANDERSON, deq.Neumann(order=5)),
    "Anderson, Implicit(GMRES(rtol=1e-1))": deq.Equilibrium(
        ANDERSON, deq.Implicit(deq.GMRES(rtol=1e-1))
    ),
    "Anderson, Implicit()": deq.Equilibrium(ANDERSON, deq.Implicit()),
    "Inertial, JacobianFree()": deq.Equilibrium(
        deq.Inertial(rtol=1e-5, max_iter=300), deq.JacobianFree()
    ),
    "ReTune(5, 10)": deq.ReTune(5, 10),
    "ReTune(10, 10)": deq.ReTune(10, 10),
    "Picard(max_iter=50), Unrolled()": deq.Equilibrium(
        deq.Picard(max_iter=50, rtol=0.0), deq.Unrolled()
    ),
}


@dataclass(frozen=True)
class TrainingStep:
    """
    One forward and backward pass.

    :param int evaluations: passes of the batch through the denoiser.
    :param int products: backward passes through it.
    :param float error: relative error of the gradient.
    :param float cosine: of the angle between the gradient in the weights and the exact
        one.
    """

    evaluations: int
    products: int
    error: float
    cosine: float

    def __str__(self) -> str:
        return (
            f"{self.evaluations:4d} evaluations  {self.products:4d} products  "
            f"error {self.error:.1e}  cosine {self.cosine:.3f}"
        )


def training_step(
    problem: Problem, configuration: deq.Equilibrium, true: Gradient
) -> TrainingStep:
    """Return cost and accuracy of a step that starts at the initial image."""
    configuration.on_failure = "ignore"
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(problem.denoiser),
        stepsize=STEPSIZE,
        trainable_params=[],
        DEQ=configuration,
    )
    y = problem.y.clone().requires_grad_()
    with problem.denoiser.counting() as count:
        loss = problem.loss(model(y, problem.physics))
        found = torch.autograd.grad(loss, [y, *problem.weights])
    weights = torch.cat([g.flatten() for g in found[1:]])
    cosine = torch.cosine_similarity(weights.double(), true.weights, dim=0)
    error = Gradient(weights, found[0]).error(true)
    return TrainingStep(count.evaluations, count.products, error, float(cosine))


def main() -> None:
    """Print a row for each configuration."""
    torch.set_num_threads(1)
    problem = build()
    true = reference(problem)
    for name, configuration in CONFIGURATIONS.items():
        print(f"{name:38s} {training_step(problem, configuration, true)}", flush=True)


if __name__ == "__main__":
    main()
