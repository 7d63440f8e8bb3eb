"""Small problems in float64 for every algorithm, with denoisers that count calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.optim import Bregman, BregmanL2, BurgEntropy, NegEntropy
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.optim.condat_vu import CondatVuOptim

ALGORITHMS = (
    *("PGD", "GD", "HQS", "ADMM", "DRS", "PDCP", "MD", "PMD", "FISTA"),
    "CondatVu",  # as an optimiser of a user, which deepinv does not have
)
IMAGE = (2, 3, 4)


class ContractiveDenoiser(dinv.models.Denoiser):
    r""":math:`D_\sigma(x) = (2 x + \tanh(w * x)) / (4 + 4 \sigma)`, whose Lipschitz
    constant is below 3/4; it counts its evaluations."""

    def __init__(self, channels: int = IMAGE[0], seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(
            channels, channels, 3, 3, generator=generator, dtype=torch.float64
        )
        # Young's inequality: the norm of a convolution is at most this sum.
        self.weight = nn.Parameter(weight / weight.abs().sum())
        self.evaluations = 0

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        self.evaluations += 1
        features = torch.conv2d(x, self.weight, padding="same")
        return (2 * x + torch.tanh(features)) / (4 + 4 * sigma)


class DenoisingPrior(dinv.optim.Prior):
    """A prior with a gradient and proximal operators, which depend on lambda."""

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser

    def grad(self, x: Tensor, sigma: Any, *args: Any, **kwargs: Any) -> Tensor:
        return x - self.denoiser(x, sigma)

    def prox(
        self, x: Tensor, sigma: Any, *args: Any, gamma: Any = 1.0, **kwargs: Any
    ) -> Tensor:
        return self.denoiser(x, sigma) / (1 + gamma)

    def bregman_prox(
        self,
        x: Tensor,
        bregman_potential: Bregman,
        sigma: Any,
        *args: Any,
        gamma: Any = 1.0,
        **kwargs: Any,
    ) -> Tensor:
        if isinstance(bregman_potential, BregmanL2):
            return self.prox(x, sigma, gamma=gamma)
        dual = bregman_potential.grad(x) - gamma * self.grad(x, sigma)
        return bregman_potential.grad_conj(dual)


class CircularBlur(dinv.physics.Blur):
    """deepinv's circular blur with a 3 x 3 filter, in half the time."""

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        self.update_parameters(**kwargs)
        return self._correlated(x, self.filter.flip(2, 3))

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        self.update_parameters(**kwargs)
        return self._correlated(y, self.filter)

    def _correlated(self, x: Tensor, kernel: Tensor) -> Tensor:
        grey = nn.functional.pad(x.flatten(0, 1)[:, None], (1, 1, 1, 1), "circular")
        return torch.conv2d(grey, kernel).view_as(x)


@dataclass
class Problem:
    """The data and the arguments of an algorithm."""

    algorithm: str
    arguments: dict[str, Any]
    y: Tensor
    filter: Tensor
    closed_form: bool = True
    layers: int = 1
    denoisers: list[ContractiveDenoiser] = field(default_factory=list)

    def parameters(self) -> dict[str, list[Tensor]]:
        """Return the parameters of the algorithm in float64, one value a layer."""
        # deepinv rounds some numbers to float32: these are exact in float32.
        values = {"stepsize": 0.5, "lambda_reg": 0.25, "g_param": 0.25}
        if self.algorithm in ("ADMM", "DRS", "PDCP", "CondatVu"):
            values["beta"] = 0.875
        if self.algorithm in ("PDCP", "CondatVu"):
            values["stepsize_dual"] = 0.5
        if self.algorithm == "CondatVu":
            values["lambda_composed"] = 0.25
        if self.algorithm == "FISTA":
            values["a"] = 2.5
        return {
            name: [
                torch.tensor(value * (1 + k / 8), dtype=torch.float64)
                for k in range(self.layers)
            ]
            for name, value in values.items()
        }

    def physics(self) -> dinv.physics.LinearPhysics:
        """Return a circular blur with a closed or an iterative proximal operator."""
        if self.closed_form:
            physics = dinv.physics.BlurFFT(IMAGE, filter=self.filter)
        else:
            physics = CircularBlur(filter=self.filter, max_iter=100, tol=1e-14)
        # The buffer becomes the filter itself, so that gradients reach the filter.
        physics.update_parameters(filter=self.filter)
        return physics

    def model(self, **kwargs: Any) -> deq.optim.PGD:
        """Return the optimiser; ``kwargs`` replace arguments of the problem."""
        arguments = {
            "data_fidelity": [dinv.optim.L2() for _ in range(self.layers)],
            "prior": [DenoisingPrior(denoiser) for denoiser in self.denoisers],
            **self.parameters(),
            **self.arguments,
            **kwargs,
        }
        return getattr(deq.optim, self.algorithm)(**arguments)


POTENTIALS: dict[str, Callable[[], Bregman]] = {
    "Burg": BurgEntropy,
    "NegEntropy": NegEntropy,
}


@pytest.fixture
def make_problem() -> Callable[..., Problem]:
    """Return a function from the name of an algorithm to its problem. The name of
    mirror descent may have a potential, as in ``MD-Burg``."""

    def make(name: str, layers: int = 1, closed_form: bool = True) -> Problem:
        generator = torch.Generator().manual_seed(1)
        algorithm, _, potential = name.partition("-")
        filter_ = torch.rand(1, 1, 3, 3, generator=generator, dtype=torch.float64)
        filter_[..., 1, 1] += 3
        arguments: dict[str, Any] = {}
        if algorithm == "CondatVu":
            arguments["composed_prior"] = dinv.optim.Tikhonov()
        if potential:
            arguments["bregman_potential"] = POTENTIALS[potential]()
            # The likelihood is smooth relative to Burg's entropy.
            arguments["data_fidelity"] = dinv.optim.PoissonLikelihood(
                gain=1.0, bkg=0.1, denormalize=False
            )
        return Problem(
            algorithm,
            arguments,
            y=1 + torch.rand(2, *IMAGE, generator=generator, dtype=torch.float64),
            filter=filter_ / filter_.sum(),
            closed_form=closed_form,
            layers=layers,
            denoisers=[ContractiveDenoiser(seed=k) for k in range(layers)],
        )

    return make


def plain_optimiser(name: str) -> type[dinv.optim.BaseOptim]:
    """Return the optimiser without ``DEQ``: deepinv's, if deepinv has it."""
    return CondatVuOptim if name == "CondatVu" else getattr(dinv.optim, name)


# Each algorithm with a closed-form proximal operator of the data, and those that
# evaluate it with an iterative one, too.
PROXIMAL_OPERATORS = [
    *((name, True) for name in ALGORITHMS),
    *((name, False) for name in ("HQS", "DRS", "ADMM")),
]


@pytest.fixture
def make_denoiser() -> type[ContractiveDenoiser]:
    return ContractiveDenoiser


@pytest.fixture
def make_prior() -> type[DenoisingPrior]:
    return DenoisingPrior


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> str:
    """Name of each algorithm."""
    return request.param
