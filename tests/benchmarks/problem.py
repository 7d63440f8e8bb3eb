"""The problem that all libraries solve: plug-and-play deblurring near rate 1.

``denoiser.pt`` has the weights of the denoiser, its scale and the spectral radii. The
file is written by::

    OMP_NUM_THREADS=1 python -m tests.benchmarks.problem
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import deepinv as dinv
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.datasets import Photos
from deepinv_equilibrium.fixed_points import State

from .counted_denoiser import CountedDenoiser

STORED = Path(__file__).with_name("denoiser.pt")
SEED = 0
SIZE = 64
STEPSIZE = 0.1
BLUR = 1.0  # standard deviation of the kernel, in pixels
NOISE = 0.03
DENOISER_NOISE = 0.1
SPECTRAL_RADIUS = (
    0.9625  # of the harder sample; Picard's residual then decreases by ~.93
)
SOLVER = deq.Anderson(max_iter=200, rtol=1e-6)


@dataclass(frozen=True)
class Problem:
    r"""
    Two blurred and noisy colour test photos of 64 x 64 pixels, and the step
    :math:`f(x) = c\, D(x - \tau A^\top (A x - y))` of proximal gradient descent.

    :param torch.Tensor truth: the photos, of shape (2, 3, 64, 64).
    :param torch.Tensor y: the measurement, of the same shape.
    :param deepinv.physics.LinearPhysics physics: the circular blur :math:`A`.
    :param CountedDenoiser denoiser: :math:`c D`.
    :param torch.Tensor solution: the fixed point.
    :param torch.Tensor spectral_radius: spectral radius of the Jacobian at the fixed
        point, for each sample.
    """

    truth: Tensor
    y: Tensor
    physics: dinv.physics.LinearPhysics
    denoiser: CountedDenoiser
    solution: Tensor
    spectral_radius: Tensor

    @property
    def start(self) -> Tensor:
        r"""Return the initial image of every solve, deepinv's :math:`A^\top y`."""
        return self.physics.A_adjoint(self.y)

    @property
    def weights(self) -> list[Tensor]:
        """Return the trained weights of the denoiser."""
        return list(self.denoiser.parameters())

    def of(self, samples: list[int]) -> Problem:
        """Return the problem of some samples, which may recur."""
        return replace(
            self,
            truth=self.truth[samples],
            y=self.y[samples],
            solution=self.solution[samples],
            spectral_radius=self.spectral_radius[samples],
        )

    def step(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return one iteration, computed without any library."""
        return _step(self.denoiser, self.physics, self.y if y is None else y, x)

    def residual(self, x: Tensor) -> Tensor:
        """Return the relative residual of each sample."""
        with torch.no_grad():
            value = self.step(x)
        return _norms(value - x) / _norms(value)

    def loss(self, x: Tensor) -> Tensor:
        """Return the squared error."""
        return (x - self.truth).square().sum()

    def double(self) -> Problem:
        """Return the problem in float64 with its fixed point up to rounding."""
        physics, denoiser = _physics(torch.float64), copy.deepcopy(self.denoiser)
        denoiser.double()
        y = self.y.double()
        solver = deq.Anderson(max_iter=200, rtol=1e-12)
        solution = _solve(denoiser, physics, y, self.solution.double(), solver)
        return Problem(
            self.truth.double(), y, physics, denoiser, solution, self.spectral_radius
        )


def build() -> Problem:
    r"""
    Return the problem with the stored denoiser, which is equal on every machine.

    :return: the problem, in float32.
    """
    truth, physics, y, _ = _measured()
    stored = torch.load(STORED, weights_only=True)
    network = dinv.models.DnCNN(depth=4, nf=12, pretrained=None)
    network.load_state_dict(stored["weights"])
    denoiser = CountedDenoiser(network.eval(), stored["scale"])
    x = _solve(denoiser, physics, y, physics.A_adjoint(y), SOLVER)
    return Problem(truth, y, physics, denoiser, x, stored["spectral_radius"])


def train() -> None:
    r"""
    Train the denoiser, scale it to the spectral radius for the harder sample, and
    write :data:`STORED`.

    A DnCNN with 4 layers of 12 features is trained on noisy crops of the training
    photos, in seconds. The scale :math:`c` makes the iteration contract; it is found by
    the secant method on :math:`c \mapsto \rho(\partial f)`. The result is a numerical
    test and not a good restoration.

    :raises RuntimeError: if the spectral radius cannot be set to within .0005.
    """
    truth, physics, y, generator = _measured()
    denoiser = CountedDenoiser(_trained_dncnn(generator), 1.0)
    direction = torch.randn(truth.shape, generator=generator)
    x, denoiser.scale = physics.A_adjoint(y), 0.98
    for _ in range(12):
        x = _solve(denoiser, physics, y, x, SOLVER)
        radius, direction = _spectral_radius(denoiser, physics, y, x, direction)
        if abs(float(radius.max()) - SPECTRAL_RADIUS) < 5e-4:
            weights = denoiser.denoiser.state_dict()
            found = {"scale": denoiser.scale, "spectral_radius": radius}
            torch.save({"weights": weights, **found}, STORED)
            return
        denoiser.scale *= SPECTRAL_RADIUS / float(radius.max())
    raise RuntimeError(
        f"the spectral radius is {float(radius.max()):.4f} and not {SPECTRAL_RADIUS}: "
        "another SEED is needed with this version of torch."
    )


def for_timing() -> Problem:
    """Return the problem with the DnCNN of the papers, 17 layers of 64 channels. It is
    untrained, because only its size affects the time."""
    truth, physics, y, _ = _measured()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = dinv.models.DnCNN(depth=17, nf=64, pretrained=None)
    denoiser = CountedDenoiser(network.eval(), 0.1)
    return Problem(truth, y, physics, denoiser, truth, torch.full((2,), torch.nan))


def _measured() -> tuple[Tensor, dinv.physics.LinearPhysics, Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(SEED)
    photos = Photos("test", img_size=SIZE)
    truth = torch.stack([photos[0]["x"], photos[1]["x"]]).float()
    physics = _physics(torch.float32)
    noise = torch.randn(truth.shape, generator=generator)
    return truth, physics, physics.A(truth) + NOISE * noise, generator


def _step(
    denoiser: CountedDenoiser, physics: dinv.physics.LinearPhysics, y: Tensor, x: Tensor
) -> Tensor:
    return denoiser(x - STEPSIZE * physics.A_adjoint(physics.A(x) - y))


def _solve(
    denoiser: CountedDenoiser,
    physics: dinv.physics.LinearPhysics,
    y: Tensor,
    start: Tensor,
    solver: deq.Anderson,
) -> Tensor:
    def step(x: State) -> State:
        assert isinstance(x, Tensor)
        return _step(denoiser, physics, y, x)

    with torch.no_grad():
        found = deq.fixed_point(step, start, solver, on_failure="ignore")
    assert isinstance(found.x, Tensor)
    return found.x


def _spectral_radius(
    denoiser: CountedDenoiser,
    physics: dinv.physics.LinearPhysics,
    y: Tensor,
    x: Tensor,
    direction: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the mean growth in the second half of a power iteration with
    vector-Jacobian products, and the last direction."""
    x = x.detach().requires_grad_()
    value = _step(denoiser, physics, y, x)
    growth = []
    for _ in range(120):
        (image,) = torch.autograd.grad(value, x, direction, retain_graph=True)
        growth.append(_norms(image) / _norms(direction))
        direction = image / _norms(image)[:, None, None, None]
    return torch.stack(growth[60:]).log().mean(dim=0).exp(), direction


def _trained_dncnn(generator: torch.Generator) -> torch.nn.Module:
    steps, batch_size = 150, 8
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = dinv.models.DnCNN(depth=4, nf=12, pretrained=None)
    with torch.no_grad():
        network.out_conv.weight.mul_(
            0.1
        )  # close to the identity, where training is fast
    crops = Photos("train", img_size=32, crops=steps * batch_size, seed=SEED)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for first in range(0, steps * batch_size, batch_size):
        x = torch.stack([crops[first + i]["x"] for i in range(batch_size)])
        noise = torch.randn(x.shape, generator=generator)
        loss = (network(x + DENOISER_NOISE * noise) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    optimizer.zero_grad()
    return network.eval()


def _physics(dtype: torch.dtype) -> dinv.physics.LinearPhysics:
    coordinate = torch.arange(-4, 5, dtype=dtype)
    profile = torch.exp(-coordinate.square() / (2 * BLUR**2))
    kernel = profile[:, None] * profile
    return dinv.physics.Blur(
        filter=(kernel / kernel.sum())[None, None], padding="circular"
    )


def _norms(images: Tensor) -> Tensor:
    return torch.linalg.vector_norm(images.flatten(1), dim=1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train()
