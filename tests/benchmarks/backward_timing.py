"""Time the backward pass of a DE-GRAD model for each adjoint and image size::

    OMP_NUM_THREADS=1 python -m tests.benchmarks.backward_timing --figure timing.png

The benchmark repeats the timing of "Training implicit networks for image deblurring
using Jacobian-free backpropagation". It compares Jacobian-free backpropagation with the
solver of the paper, conjugate gradients on the normal equations of the adjoint system,
and with other solvers for the same residual. Products with the Jacobian of the network
or its transpose are counted in the network. The processor time and the relative error
of the gradient in the weights are printed. A batch has four colour photos, and 16 in
the paper. The network has five layers of 24 channels, is untrained, and computes in
float32. The run takes about five minutes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import deepinv as dinv
import matplotlib.pyplot as plt
import torch
from deepinv.optim import DEQConfig
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.datasets import Photos
from deepinv_equilibrium.fixed_points import Adjoint
from deepinv_equilibrium.models import BoundedDnCNN
from deepinv_equilibrium.presets import de_grad

from .counted_denoiser import CountedDenoiser
from .reconstruct import Reconstruct

SIZES, BATCH, ROUNDS = (16, 32, 64, 128), 4, 3
NOISE, WEIGHT, STEPSIZE = 0.01, 0.1, 0.9
# Tolerance of the adjoint system, whose right-hand side has norm 1 for each sample.
TOLERANCE = 1e-3
BUDGET = {"max_iter": 500, "rtol": 0.0, "atol": TOLERANCE}


@dataclass(frozen=True)
class Deblurring:
    """Blurred photos, a network and the equilibrium."""

    truth: Tensor
    y: Tensor
    physics: dinv.physics.LinearPhysics
    network: CountedDenoiser
    solution: Tensor

    def loss(self, x: Tensor) -> Tensor:
        """Return a loss whose gradient in the image has norm 1 for each sample, so that
        an absolute tolerance is relative for every solver."""
        return torch.linalg.vector_norm((x - self.truth).flatten(1), dim=1).sum()


@dataclass(frozen=True)
class Backward:
    """
    One backward pass.

    :param torch.Tensor gradient: the gradient in the weights.
    :param int products: backward passes through the network, without the one that maps
        the solution of the adjoint system to the weights.
    :param float seconds: median processor time.
    """

    gradient: Tensor
    products: int
    seconds: float

    def error(self, reference: Backward) -> float:
        """Return the relative error of the gradient."""
        gap = (self.gradient - reference.gradient).norm()
        return (gap / reference.gradient.norm()).item()


def build(
    size: int, batch: int = BATCH, depth: int = 5, filters: int = 24
) -> Deblurring:
    """Return the 5 x 5 blur of variance 1 and the equilibrium, solved to 1e-5."""
    coordinate = torch.arange(-2, 3)
    profile = torch.exp(-coordinate.square() / 2)
    kernel = profile[:, None] * profile
    physics = dinv.physics.BlurFFT((3, size, size), (kernel / kernel.sum())[None, None])
    photos = Photos("train", img_size=size, crops=batch, seed=0)
    truth = torch.stack([photo["x"] for photo in photos])
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(truth.shape, generator=generator)
    y = physics.A(truth) + NOISE * noise
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = CountedDenoiser(
            BoundedDnCNN(epsilon=0.99, residual=False, depth=depth, filters=filters),
            1.0,
        )
    model = de_grad(
        network,
        deq.Anderson(max_iter=200, rtol=1e-5),
        stepsize=STEPSIZE,
        lambda_reg=WEIGHT,
    )
    with torch.no_grad():
        solution = model(y, physics)
    return Deblurring(truth, y, physics, network, solution)


def ours(adjoint: Adjoint) -> Callable[[Deblurring], Reconstruct]:
    """Return DE-GRAD, which evaluates its step once at the equilibrium."""

    def method(problem: Deblurring) -> Reconstruct:
        model = de_grad(
            problem.network,
            deq.Picard(max_iter=1, rtol=0.0),
            adjoint,
            stepsize=STEPSIZE,
            lambda_reg=WEIGHT,
        )
        return lambda y, init: model(y, problem.physics, init=init)

    return method


def of_deepinv(problem: Deblurring) -> Reconstruct:
    """Return the model of deepinv, whose Anderson acceleration stops when the mean over
    the batch meets a tolerance, or after 50 products."""
    model = dinv.optim.GD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.RED(problem.network),
        stepsize=STEPSIZE,
        lambda_reg=WEIGHT,
        trainable_params=[],
        max_iter=1,
        early_stop=True,
        thres_conv=TOLERANCE,
        DEQ=DEQConfig(anderson_acceleration_backward=True),
    )
    return lambda y, init: model(y, problem.physics, init=init)


EXACT = ours(deq.Implicit(deq.GMRES(max_iter=500, rtol=1e-6, restart=60)))
METHODS: dict[str, Callable[[Deblurring], Reconstruct]] = {
    "JFB": ours(deq.JacobianFree()),
    "GMRES": ours(deq.Implicit(deq.GMRES(**BUDGET, restart=60))),
    "Anderson": ours(deq.Implicit(deq.Anderson(**BUDGET))),
    "Neumann": ours(deq.Implicit(deq.Picard(**BUDGET))),  # the partial sums
    "CGNR": ours(deq.Implicit(deq.CGNR(**BUDGET))),  # as in the paper
    "CGNE": ours(deq.Implicit(deq.CGNE(**BUDGET))),
    "Anderson of deepinv": of_deepinv,
}


def run(
    problem: Deblurring, method: Callable[[Deblurring], Reconstruct], rounds: int
) -> Backward:
    """Differentiate the loss at the equilibrium repeatedly; return the median time."""
    reconstruct = method(problem)
    weights = list(problem.network.parameters())
    times = []
    for _ in range(rounds):
        with problem.network.counting() as count:
            loss = problem.loss(reconstruct(problem.y, problem.solution))
            start = time.process_time()
            found = torch.autograd.grad(loss, weights)
            times.append(time.process_time() - start)
    gradient = torch.cat([g.flatten() for g in found])
    return Backward(gradient, count.products - 1, statistics.median(times))


def compare(problem: Deblurring, rounds: int) -> dict[str, tuple[Backward, float]]:
    """Return the backward pass of every method and the error of its gradient."""
    exact = run(problem, EXACT, 1)
    backwards = {name: run(problem, METHODS[name], rounds) for name in METHODS}
    return {name: (one, one.error(exact)) for name, one in backwards.items()}


def draw(table: dict[int, dict[str, tuple[Backward, float]]], path: Path) -> None:
    """Draw the seconds and products for each image size."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name in METHODS:
        found = [table[size][name][0] for size in table]
        style = (
            "o--" if name == "Anderson of deepinv" else "o-"
        )  # overlaps another line
        left.loglog(list(table), [one.seconds for one in found], style, label=name)
        right.plot(list(table), [one.products for one in found], style, label=name)
    left.set_title(f"seconds of a backward, batch of {BATCH}")
    right.set_title("products with the Jacobian")
    for axis in (left, right):
        axis.set_xlabel("side of the images in pixels")
        axis.set_xscale("log", base=2)
        axis.set_xticks(list(table), [str(size) for size in table])
    left.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description="Time the backward of DE-GRAD.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--figure", type=Path, help="where it is written")
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = {}
    for size in SIZES:
        problem = build(size)
        table[size] = compare(problem, args.rounds)
        jfb = table[size]["JFB"][0].seconds
        print(f"{BATCH} x 3 x {size} x {size}", flush=True)
        for name, (one, error) in table[size].items():
            print(
                f"  {name:20s}{1e3 * one.seconds:8.0f} ms {one.seconds / jfb:6.1f} "
                f"x JFB {one.products:5d} products, gradient error {error:.1e}",
                flush=True,
            )
    if args.figure is not None:
        draw(table, args.figure)


if __name__ == "__main__":
    main()
