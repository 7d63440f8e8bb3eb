r"""Train the same model with deepinv, torchdeq and this package for the same time.

The step is D(x - A^T (A x - y)) with the small DRUNet D, whose weights are learned from
the same start, on the same batches, with the same optimiser. The methods differ in how
many steps they make, and in how they differentiate:

- *deepinv, DEQ*: ``deepinv.optim.PGD(DEQ=True)``, its defaults;
- *deepinv, Jacobian-free*: ``DEQConfig(jacobian_free=True)``;
- *torchdeq, IFT*: Broyden's method in both passes, which needed the fewest evaluations
  of its solvers in our benchmark;
- *torchdeq, phantom gradient*: Broyden's method and the gradient of one step;
- *unrolled*: as many recorded steps as ReTune, so that both need the same memory;
- *ReTune*, *Jacobian-free* and *implicit* of this package.

The budget is processor time, so that other load of the machine does not count; run it
with one thread. At six times, evenly spaced, validation images are restored; this time
does not count. Weights that were trained at equilibrium restore them at the fixed
point, by the same accurate solve, so that no method is judged by where its solver
stops; ReTune and the unrolled network make their own steps. The record has, for each
problem, seed and method, the seconds, evaluations of D, products with its transposed
Jacobian, PSNR, and the largest number of bytes that a graph held in a training step,
where weights and tensors that are saved twice count each time. A table and a figure
are written beside it::

    pip install torchdeq==0.1.0
    OMP_NUM_THREADS=1 python gallery/training/comparison.py BSD400 KNEES \
        --record gallery/training/results/comparison.json
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import deepinv as dinv
import knees
import matplotlib.pyplot as plt
import measurement_record
import torch
from deepinv.optim import DEQConfig
from deepinv.physics import GaussianNoise, Physics
from image_folder import centres, patches, split
from torch import Tensor
from torch.utils.hooks import RemovableHandle

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import SmallDRUNet

LAYERS, RESTARTS = 5, 8
BATCH_SIZE = 4
MARKS = 6
RATE = 3e-5
BASELINE = "deepinv, DEQ"


class Counter:
    """Counts the evaluations of a denoiser and the products with its Jacobian."""

    def __init__(self, denoiser: torch.nn.Module) -> None:
        self.evaluations = self.products = 0
        self.active = True
        self.handle: RemovableHandle = denoiser.register_forward_hook(self._count)

    def _count(self, module: object, args: object, output: Tensor) -> None:
        if not self.active:
            return
        self.evaluations += 1
        if output.requires_grad:
            output.register_hook(self._product)

    def _product(self, grad: Tensor) -> None:
        self.products += self.active


class Recorded:
    """Counts the bytes of the tensors that graphs hold, and their largest number."""

    def __init__(self) -> None:
        self.bytes = self.peak = 0
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, self.unpack)

    def pack(self, tensor: Tensor) -> Held:
        return Held(tensor, self)

    @staticmethod
    def unpack(held: Held) -> Tensor:
        return held.tensor


class Held:
    """A tensor that a graph holds."""

    def __init__(self, tensor: Tensor, recorded: Recorded) -> None:
        self.tensor, self.recorded = tensor, recorded
        recorded.bytes += tensor.nbytes
        recorded.peak = max(recorded.peak, recorded.bytes)

    def __del__(self) -> None:
        self.recorded.bytes -= self.tensor.nbytes


class DeblurringProblem:
    """Grey photos, blurred circularly by a square of 9 x 9 pixels, with noise."""

    noise_level = 0.03
    size = 64

    def __init__(self, folder: Path) -> None:
        self.images, held_out = split(folder, 1)
        self.validation = centres(held_out, 96)

    def denoiser(self) -> SmallDRUNet:
        return SmallDRUNet(1)

    def batch(self, generator: torch.Generator) -> Tensor:
        return patches(self.images, BATCH_SIZE, self.size, generator)[0]

    def physics(self, x: Tensor, seed: int) -> Physics:
        kernel = torch.full((1, 1, 9, 9), 1 / 81)
        noise = GaussianNoise(self.noise_level, rng=torch.Generator().manual_seed(seed))
        return dinv.physics.BlurFFT(tuple(x.shape[1:]), kernel, noise_model=noise)

    def psnr(self, restored: Tensor) -> float:
        error = (restored - self.validation).square().flatten(1).mean(1)
        return -10 * float(error.log10().mean())


class KneeProblem:
    """Knees from a quarter of the columns of their Fourier transform."""

    noise_level = 0.02
    size = 96

    def __init__(self, folder: Path) -> None:
        parts = knees.split(folder)
        self.images = parts["training"]
        generator = torch.Generator().manual_seed(0)
        cut = [image[:, 96:224, 96:224] for image in parts["validation"]]
        self.validation = knees.windows(cut, 6, 128, generator)

    def denoiser(self) -> SmallDRUNet:
        return SmallDRUNet(2, pretrained="knees")

    def batch(self, generator: torch.Generator) -> Tensor:
        return knees.windows(self.images, BATCH_SIZE, self.size, generator)

    def physics(self, x: Tensor, seed: int) -> Physics:
        return knees.scan("1 coil, 4x", (x.shape[-2], x.shape[-1]), seed)

    def psnr(self, restored: Tensor) -> float:
        errors = restored.norm(dim=1) - self.validation.norm(dim=1)
        return -10 * float(errors.square().flatten(1).mean(1).log10().mean())


Problem = DeblurringProblem | KneeProblem


def optimiser(
    package: Any, problem: Problem, denoiser: SmallDRUNet, **options: Any
) -> Any:
    """Return proximal gradient descent of deepinv or of this package."""
    return package.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=1.0,
        sigma_denoiser=problem.noise_level,
        trainable_params=[],
        **options,
    )


class TorchDEQ(torch.nn.Module):
    """The step with a solver of torchdeq."""

    def __init__(self, problem: Problem, denoiser: SmallDRUNet, **options: Any) -> None:
        super().__init__()
        import torchdeq

        self.denoiser, self.sigma = denoiser, problem.noise_level
        self.deq = torchdeq.get_deq(**options)

    def forward(self, y: Tensor, physics: Physics) -> Tensor:
        back = physics.A_adjoint(y)

        def step(x: Tensor) -> Tensor:
            gradient = physics.A_adjoint_A(x) - back
            return self.denoiser(x - gradient, self.sigma)

        found, _ = self.deq(step, back)
        return found[-1]


BROYDEN = {
    "f_solver": "broyden",
    "f_max_iter": 100,
    "f_tol": 1e-3,
    "f_stop_mode": "rel",
}


def methods(problem: Problem) -> dict[str, Callable[[SmallDRUNet], torch.nn.Module]]:
    """Return the methods, which make a model of a denoiser."""

    def ours(configuration: Any) -> Callable[[SmallDRUNet], Any]:
        return lambda denoiser: optimiser(deq, problem, denoiser, DEQ=configuration)

    def theirs(**options: Any) -> Callable[[SmallDRUNet], Any]:
        return lambda denoiser: optimiser(dinv, problem, denoiser, **options)

    def torchdeq(**options: Any) -> Callable[[SmallDRUNet], Any]:
        return lambda denoiser: TorchDEQ(problem, denoiser, **BROYDEN, **options)

    # At 1e-3 a solve ends .2 dB from the fixed point, and the training follows. A more
    # accurate gradient is no better: steps that hardly contract dominate it, and with a
    # backward tolerance of 1e-2 the training lost .2 dB.
    anderson = deq.Anderson(rtol=1e-4, max_iter=100)
    backward_solve = deq.Implicit(deq.GMRES(max_iter=15, rtol=0.1))
    backward = {"ift": True, "b_solver": "broyden", "b_max_iter": 50, "b_tol": 1e-2}
    return {
        BASELINE: theirs(DEQ=True),
        "deepinv, Jacobian-free": theirs(DEQ=DEQConfig(jacobian_free=True)),
        "torchdeq, IFT": torchdeq(**backward, b_stop_mode="rel"),
        "torchdeq, phantom gradient": torchdeq(grad=1),
        "unrolled": theirs(unfold=True, max_iter=LAYERS),
        "ReTune": ours(deq.ReTune(LAYERS, RESTARTS)),
        "Jacobian-free": ours(
            deq.Equilibrium(anderson, deq.JacobianFree(), on_failure="ignore")
        ),
        "implicit": ours(
            deq.Equilibrium(anderson, backward_solve, on_failure="ignore")
        ),
    }


def train(problem: Problem, method: str, seed: int, budget: float) -> dict[str, Any]:
    """Train for a processor time and return the curves."""
    denoiser = problem.denoiser()
    model = methods(problem)[method](denoiser)
    accurate = deq.Anderson(rtol=1e-4, max_iter=300)
    measured = model
    if method not in ("unrolled", "ReTune"):
        exact = deq.Equilibrium(accurate, on_failure="ignore")
        measured = optimiser(deq, problem, denoiser, DEQ=exact)
    counter, recorded = Counter(denoiser), Recorded()
    optimizer = torch.optim.Adam(denoiser.parameters(), RATE)
    curves: dict[str, Any] = {
        name: [] for name in ("seconds", "steps", "evaluations", "products", "PSNR")
    }

    def mark(seconds: float, step: int) -> None:
        counter.active = False
        measured.eval()
        physics = problem.physics(problem.validation, 0)
        with torch.no_grad():
            psnr = problem.psnr(measured(physics(problem.validation), physics))
        measured.train()
        counter.active = True
        values = (seconds, step, counter.evaluations, counter.products, psnr)
        for curve, value in zip(curves.values(), values, strict=True):
            curve.append(round(value, 3))

    mark(0.0, 0)
    seconds, step = 0.0, 0
    while seconds < budget:
        # The learning rate falls with the time, as in a training of this length.
        optimizer.param_groups[0]["lr"] = RATE * (1 - 0.9 * seconds / budget)
        generator = torch.Generator().manual_seed(10**6 * seed + step)
        x = problem.batch(generator)
        physics = problem.physics(x, 10**6 * seed + step)
        y = physics(x)
        start = time.process_time()
        if step:
            error = model(y, physics) - x
        else:
            with recorded.hooks:
                error = model(y, physics) - x
        loss = error.square().flatten(1).mean(1).sqrt().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 0.5)
        optimizer.step()
        seconds += time.process_time() - start
        step += 1
        if seconds >= budget * len(curves["seconds"]) / MARKS:
            mark(seconds, step)
    return curves | {"bytes": recorded.peak}


def seconds_to(curves: dict[str, Any], level: float) -> float:
    """Return when a curve reaches a PSNR, between two marks by interpolation, or
    infinity."""
    points = list(zip(curves["seconds"], curves["PSNR"], strict=True))
    if points[0][1] >= level:
        return 0.0
    for (t0, p0), (t1, p1) in pairwise(points):
        if p1 >= level:
            return float(t0 + (t1 - t0) * (level - p0) / (p1 - p0))
    return math.inf


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the rows of the table: means, and ranges over the seeds."""
    header = ["problem", "method", "PSNR at the start", "at the end"]
    header += [f"seconds to the end of {BASELINE}", "steps", "evaluations a step"]
    rows = [[*header, "products a step", "MiB"]]
    for problem, seeds in record.items():
        for method in next(iter(seeds.values())):
            runs = [run for run in seeds.values() if method in run]
            found = [run[method] for run in runs]
            last = [curves["PSNR"][-1] for curves in found]
            steps = sum(curves["steps"][-1] for curves in found)
            times = [
                seconds_to(run[method], run[BASELINE]["PSNR"][-1])
                for run in runs
                if BASELINE in run
            ]
            mean = sum(last) / len(last)
            start = sum(curves["PSNR"][0] for curves in found) / len(found)
            row = [problem, method, f"{start:.2f}"]
            row.append(f"{mean:.2f} ({min(last):.2f} to {max(last):.2f})")
            slowest = max(times, default=math.inf)
            row.append("not reached" if slowest == math.inf else f"{slowest:.0f}")
            row.append(f"{steps / len(found):.0f}")
            for name in ("evaluations", "products"):
                row.append(f"{sum(c[name][-1] for c in found) / steps:.0f}")
            rows.append([*row, f"{found[0]['bytes'] / 2**20:.0f}"])
    return rows


def draw(record: dict[str, Any], file: Path) -> None:
    """Draw the PSNR of validation images over the seconds, means over the seeds."""
    figure, panels = plt.subplots(
        1,
        len(record),
        figsize=(5 * len(record), 4.5),
        layout="constrained",
        squeeze=False,
    )
    for axes, (problem, seeds) in zip(panels[0], record.items(), strict=True):
        for number, method in enumerate(next(iter(seeds.values()))):
            curves = [run[method] for run in seeds.values() if method in run]
            psnr = torch.tensor([c["PSNR"] for c in curves]).mean(0)
            seconds = torch.tensor([c["seconds"] for c in curves]).mean(0)
            own = method in ("ReTune", "Jacobian-free", "implicit")
            axes.plot(
                seconds, psnr, "-" if own else "--", color=f"C{number}", label=method
            )
        axes.set_title(problem)
        axes.set_xlabel("seconds of training")
        axes.set_ylabel("PSNR of validation images (dB)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.savefig(file)
    plt.close(figure)


def main() -> None:
    """Train and measure what the record does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("knees", type=Path, help="folder of slices")
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--problems", nargs="+", default=["deblurring", "MRI"])
    parser.add_argument("--methods", nargs="+", help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=90.0)
    args = parser.parse_args()

    record = measurement_record.read(args.record)
    for name in args.problems:
        deblurring = name == "deblurring"
        problem: Problem = (
            DeblurringProblem(args.photos) if deblurring else KneeProblem(args.knees)
        )
        for seed in args.seeds:
            entry = record.setdefault(name, {}).setdefault(str(seed), {})
            for method in args.methods or methods(problem):
                if method not in entry:
                    entry[method] = train(problem, method, seed, args.seconds)
                    print(name, seed, method, entry[method]["PSNR"], flush=True)
                    measurement_record.write(args.record, record)
    measurement_record.write_table(args.record, table(record))
    draw(record, args.record.with_suffix(".svg"))


if __name__ == "__main__":
    main()
