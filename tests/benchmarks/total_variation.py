"""Compare the proximal operator of total variation with those of deepinv and
scikit-image, at equal accuracy::

    OMP_NUM_THREADS=1 python -m tests.benchmarks.total_variation

The images are photos with noise of 0.1 and one weight. The benchmark runs on one core,
in float32, and in float64 for an error of 1e-5, where rounding in float32 would matter.
The truth is a float64 solution that 3000 further iterations change by less than 1e-6.
This package runs with a sequence of tolerances. The other two run with a sequence of
numbers of iterations, because their own criteria stop too early or too late: deepinv's
stops after three iterations for every tolerance that its small first steps meet. The
cost of an accuracy is that of the first run that reaches it.

All three minimise the same energy with the same weight: the fixed points of the dual
step ``p / (1 + tau |g| / weight)`` of scikit-image are ``p = -weight g / |g|``, and the
factor of two in its documentation concerns only its stopping criterion.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from deepinv.models import TVDenoiser
from skimage import data
from torch import Tensor
from torch.nn.functional import avg_pool2d

from deepinv_equilibrium.models import WeightedTVDenoiser
from deepinv_equilibrium.optim.total_variation import weighted_tv_prox

PIXELS, NOISE, WEIGHTS = 256, 0.1, (0.03, 0.1, 0.3)
ACCURACIES = {torch.float32: (1e-2, 1e-3, 1e-4), torch.float64: (1e-5,)}
ROUNDS, PATIENCE = 3, 20.0  # repetitions; longest run in seconds


@dataclass(frozen=True)
class Run:
    """An image and its cost."""

    image: Tensor
    iterations: int
    seconds: float


Method = Callable[[Tensor, float, float], tuple[Tensor, int]]


def ours(v: Tensor, weight: float, effort: float) -> tuple[Tensor, int]:
    """Solve to a relative duality gap of ``1 / effort``."""
    denoiser = WeightedTVDenoiser(tol=1 / effort, on_failure="ignore")
    result = denoiser.solve(v, weight)
    return result.x, int(result.iterations.max())


def of_deepinv(v: Tensor, weight: float, effort: float) -> tuple[Tensor, int]:
    """With ``effort`` iterations."""
    iterations = round(effort)
    return TVDenoiser(crit=0.0, n_it_max=iterations)(v, weight), iterations


def of_skimage(v: Tensor, weight: float, effort: float) -> tuple[Tensor, int]:
    """With ``effort`` iterations."""
    # It imports scipy.stats, which would take a second where tests are collected.
    from skimage.restoration import denoise_tv_chambolle

    iterations = round(effort)
    image = np.moveaxis(v[0].numpy(), 0, -1)
    x = denoise_tv_chambolle(image, weight, 0.0, iterations, channel_axis=-1)
    return torch.from_numpy(np.moveaxis(x, -1, 0))[None], iterations


# The largest effort.
METHODS: dict[str, tuple[Method, float]] = {
    "ours": (ours, 1e10),
    "deepinv": (of_deepinv, 1e4),
    "skimage": (of_skimage, 1e4),
}


def relative_error(x: Tensor, exact: Tensor) -> float:
    """Return the relative error in the Euclidean norm."""
    return ((x.double() - exact).norm() / exact.norm()).item()


def truth(v: Tensor, weight: float, change: float, iterations: int = 3000) -> Tensor:
    """Return the float64 solution, iterated until so many further iterations make a
    relative change below ``change``."""
    last, result = v.double(), None
    while result is None or relative_error(last, result.x) > change:
        if result is not None:
            last = result.x
        result = weighted_tv_prox(
            v.double(),
            weight,
            tol=0.0,
            max_iter=iterations,
            dual=None if result is None else result.dual,
            on_failure="ignore",
        )
    return result.x


def runs(name: str, v: Tensor, weight: float) -> Iterator[Run]:
    """Yield runs with increasing effort, until the time limit."""
    method, most = METHODS[name]
    effort = 10.0
    while effort <= most:
        times = []
        for _ in range(ROUNDS):
            start = time.process_time()
            x, iterations = method(v, weight, effort)
            times.append(time.process_time() - start)
            if times[-1] > 1:
                break
        yield Run(x, iterations, min(times))
        if times[-1] > PATIENCE:
            return
        effort *= 10**0.2


def cheapest(
    name: str, v: Tensor, weight: float, exact: Tensor, accuracies: Sequence[float]
) -> list[Run | None]:
    """Return the first run that reaches each accuracy, or ``None``."""
    first: list[Run | None] = [None] * len(accuracies)
    for run in runs(name, v, weight):
        error = relative_error(run.image, exact)
        for k, accuracy in enumerate(accuracies):
            if error <= accuracy and first[k] is None:
                first[k] = run
        if error <= min(accuracies):
            break
    return first


def photo(grey: bool) -> Tensor:
    """Return a photo with noise."""
    pixels = data.camera()[..., None] if grey else data.astronaut()
    full = torch.from_numpy(pixels).movedim(-1, 0)[None].float() / 255
    image = avg_pool2d(full, full.shape[-1] // PIXELS)
    generator = torch.Generator().manual_seed(0)
    return image + NOISE * torch.randn(image.shape, generator=generator)


def line(accuracy: float, found: dict[str, Run | None]) -> str:
    """Return times, iterations and ratios as text."""
    own, cells = found["ours"], []
    for name, run in found.items():
        cell = f"{name} not reached"
        if run is not None:
            cell = f"{name} {1e3 * run.seconds:.0f} ms ({run.iterations})"
            if own is not None and run is not own:
                cell += f" x {run.seconds / own.seconds:.1f}"
        cells.append(cell)
    return f"  {accuracy:.0e}: " + ", ".join(cells)


def ratio(found: dict[str, Run | None]) -> float:
    """Return the ratio of deepinv's time to ours, infinite if deepinv fails."""
    own, other = found["ours"], found["deepinv"]
    assert own is not None
    return math.inf if other is None else other.seconds / own.seconds


@torch.no_grad()
def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(f"Time (iterations) at {PIXELS} x {PIXELS}, and ratio to ours", flush=True)
    ratios: dict[float, list[float]] = {}
    for grey in (True, False):
        for weight in WEIGHTS:
            print(f"{'grey' if grey else 'colour'}, weight {weight:g}", flush=True)
            v = photo(grey)
            exact = truth(v, weight, 1e-6)
            for dtype, accuracies in ACCURACIES.items():
                every = {
                    name: cheapest(name, v.to(dtype), weight, exact, accuracies)
                    for name in METHODS
                }
                for k, accuracy in enumerate(accuracies):
                    found = {name: runs[k] for name, runs in every.items()}
                    ratios.setdefault(accuracy, []).append(ratio(found))
                    print(line(accuracy, found), flush=True)
    for accuracy, of_cases in ratios.items():
        print(f"Least ratio of deepinv's time to ours at {accuracy:.0e}: ", end="")
        print(f"{min(of_cases):.1f}")


if __name__ == "__main__":
    main()
