"""Optimisers at equilibrium with certified denoisers, priors and parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import deepinv as dinv
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound, Residual

from .dense import matrix, norm
from .draws import Draw, Generator, choose, generator
from .outcomes import ask, run
from .random_physics import SIMPLE, PhysicsCase, physics

RATED = ("PGD", "GD", "HQS", "DRS", "ADMM")
ALGORITHMS = (*RATED, "PDCP", "FISTA", "MD", "PMD")


class MatrixDenoiser(dinv.models.Denoiser):
    """
    A matrix, or the tanh of a matrix, that declares one property.

    :param weight: the matrix.
    :param declares: ``"firm"`` to declare that it is firmly nonexpansive if it is.
    """

    def __init__(self, weight: Tensor, declares: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.declares = declares

    @property
    def is_firmly_nonexpansive(self) -> bool:
        return self.declares == "firm" and dense_bound(self.reflected).value <= 1

    @property
    def reflected(self) -> Tensor:
        weight = self.weight.detach().double()
        return 2 * weight - torch.eye(len(weight), dtype=torch.float64)

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return (x.flatten(1) @ self.weight.to(x).T).reshape(x.shape)

    def lipschitz_bound(self, img_size: Any = None) -> Bound:
        return dense_bound(self.weight)


class ResidualMatrixDenoiser(MatrixDenoiser):
    """A matrix that declares the constant of its residual, too."""

    def residual_bound(self, img_size: Any = None) -> Bound:
        weight = self.weight.double()
        return dense_bound(weight - torch.eye(len(weight), dtype=torch.float64))


def dense_bound(weight: Tensor) -> Bound:
    """Return the norm of a matrix, rounded upwards."""
    value = torch.linalg.matrix_norm(weight.detach().double(), 2)
    return Bound(float(value) * (1 + 1e-12), source="dense")


class SmoothDenoiser(dinv.models.Denoiser):
    """A scaled network of layers whose constants are known."""

    def __init__(self, net: nn.Module, scale: float) -> None:
        super().__init__()
        self.net, self.scale = net, scale

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return self.scale * self.net(x)

    def lipschitz_bound(self, img_size: Any = None) -> Bound:
        inner = deq.lipschitz(self.net, img_size)
        return Bound(self.scale * inner.value * (1 + 1e-12), inner.kind, inner.source)


def matrix_denoiser(rng: Generator, count: int, strict: bool = False) -> MatrixDenoiser:
    """Return a matrix denoiser whose declared bound is attained in half the cases."""
    U, V = rng.orthogonal(count), rng.orthogonal(count)
    values = torch.rand(count, generator=rng.torch, dtype=torch.float64)
    values = torch.ones_like(values) if rng.random() < 0.5 else values
    values[0] = 1.0
    N = U @ torch.diag(values) @ V
    if rng.random() < 0.4:
        # A reflection with the eigenvectors of simple operators attains the bounds.
        N = torch.diag(torch.sign(rng.normal(count)))
        N = rng.choice([1.0, -1.0]) * N.abs() if rng.random() < 0.6 else N
    eye = torch.eye(count, dtype=torch.float64)
    declares = rng.choice(["lipschitz", "firm", "residual"])
    if declares == "firm":
        weight = (eye + (1 - 1e-6) * N) / 2  # firmly nonexpansive in float32, too
    elif declares == "residual":
        weight = eye + rng.uniform(0, 0.5) * N
    else:
        weight = rng.choice([0.5, 0.9, 0.99, 1.0, 1.0 if strict else 1.3]) * N
    if rng.random() < 0.3:
        weight = weight.float()
    maker = ResidualMatrixDenoiser if declares == "residual" else MatrixDenoiser
    return maker(weight, declares)


def network_denoiser(rng: Generator, channels: int) -> dinv.models.Denoiser:
    """Return one of the package's denoisers, or a network in a denoiser."""
    kind = rng.choice(["potential", "potential", "dncnn", "residual", "plain"])
    if rng.random() < 0.02:
        kind = "ridge"  # it iterates, which takes long
    torch.manual_seed(rng.randrange(2**31))
    denoiser: Any
    if kind == "potential":
        denoiser = deq.models.ConvexPotentialDenoiser(
            channels,
            firmly_nonexpansive=rng.random() < 0.5,
            contraction=rng.choice([1.0, 0.9]),
            pretrained=None,
            layers=rng.randint(1, 2),
            generators=1,
            kernel_size=3,
        )
    elif kind == "ridge":
        denoiser = deq.models.RidgeProxDenoiser(
            channels,
            contraction=rng.choice([1.0, 0.9]),
            pretrained=None,
            weak_convexity=rng.choice([0.0, 0.6]),
            hidden_channels=(),
            generators=1,
            kernel_size=3,
        )
    elif kind == "dncnn":
        denoiser = deq.models.BoundedDnCNN(
            channels,
            epsilon=rng.uniform(0.05, 1),
            residual=rng.random() < 0.7,
            depth=rng.randint(2, 3),
            filters=3,
        )
    else:
        first = nn.Conv2d(channels, channels, 3, padding=1)
        second = rng.choice(
            [nn.ReLU(), nn.SELU(), nn.LeakyReLU(2.0), nn.SELU(True), nn.Tanh()]
        )
        layers = [first, second] if rng.random() < 0.5 else [second, first]
        net = nn.Sequential(*layers)
        net = Residual(net) if kind == "residual" else net
        denoiser = SmoothDenoiser(net, rng.uniform(0.1, 0.6))
    for parameter in denoiser.parameters():
        parameter.data = parameter.data + 0.3 * rng.normal(*parameter.shape).to(
            parameter
        )
    return denoiser.double().eval()


@dataclass
class ModelCase:
    """A model, its physics and the size of its images."""

    model: Any
    operator: PhysicsCase
    algorithm: str

    @property
    def physics(self) -> Any:
        """The physics."""
        return self.operator.physics

    @property
    def size(self) -> tuple[int, ...]:
        """The size of an image without the batch."""
        return self.operator.size

    @property
    def is_affine(self) -> bool:
        """Whether the step is affine."""
        known = (dinv.optim.Tikhonov, dinv.optim.prior.ZeroPrior)
        return all(
            isinstance(prior, known)
            or isinstance(getattr(prior, "denoiser", None), MatrixDenoiser)
            for prior in self.model.prior
        )

    def __str__(self) -> str:
        values = {
            key: [float(v) for v in value]
            for key, value in dict(self.model.params_algo).items()
            if key in ("stepsize", "lambda", "beta")
        }
        priors = [
            f"{type(p).__name__}({getattr(p, 'denoiser', '')})"
            for p in self.model.prior
        ]
        fidelity = self.model.data_fidelity[0]
        constants = {k: float(v) for k, v in (("1/sigma^2", fidelity.norm),)}
        constants["kappa"] = float(getattr(fidelity, "kappa", 0.0))
        return (
            f"{self.algorithm} {values} {constants} layers {self.model.DEQ.layers} "
            f"{priors} with {self.operator}"
        )


def random_prior(
    rng: Generator, algorithm: str, size: tuple[int, ...], networks: bool
) -> Any:
    """Return a prior whose constants are known."""
    count = torch.Size(size).numel()
    gradient = algorithm in ("GD", "MD")
    kind = rng.choice(["matrix"] * 4 + ["network"] * 3 * networks + ["explicit"] * 3)
    implicit = dinv.optim.RED if gradient else dinv.optim.PnP
    if kind == "matrix":
        return implicit(matrix_denoiser(rng, count))
    if kind == "network" and len(size) == 3:
        if gradient and rng.random() < 0.3:
            prior = deq.models.RidgeRegulariser(
                size[0],
                pretrained=None,
                weak_convexity=rng.choice([0.0, 0.6]),
                hidden_channels=(),
                generators=1,
                kernel_size=3,
            )
            return prior.double()
        return implicit(network_denoiser(rng, size[0]))
    explicit = [dinv.optim.Tikhonov()] * 3 + [dinv.optim.prior.ZeroPrior()]
    if not gradient:
        explicit += [
            dinv.optim.L1Prior(),
            deq.optim.NonNegativity(),
            deq.optim.NonNegativeTikhonov(),
        ]
    return rng.choice(explicit)


def build(
    rng: Generator,
    algorithm: str,
    operator: PhysicsCase,
    *,
    networks: bool = True,
    DEQ: Any = None,
    stable: bool = False,
    trained: Any = False,
) -> ModelCase:
    """
    Return a model with random parameters in every layer.

    :param stable: whether the step sizes are those of a contraction.
    :param trained: trained parameters; ``False`` for none or all, at random.
    """
    layers = rng.choice([1, 1, 1, 2, 3])
    scale = run(matrix, operator.physics.A, operator.size)
    L = max(norm(scale) ** 2, 1e-12)
    sigma = rng.choice([1.0, 0.3, 0.3, 3.0])
    L /= sigma**2
    kappa = 0.0
    fidelity: Any = dinv.optim.L2(sigma)
    if stable or rng.random() < 0.6:
        kappa = rng.power(-1.5, 0) * L
        fidelity = deq.optim.RidgeL2(sigma, kappa)
    top = L + kappa
    priors = [
        random_prior(rng, algorithm, operator.size, networks) for _ in range(layers)
    ]
    factors = [rng.uniform(0.1, 1.9) for _ in range(layers)]
    if not stable and rng.random() < 0.2:
        factors = [rng.choice([0.0, 1e-6, 5.0, 100.0, 2.0]) for _ in range(layers)]
    steps = [factor / top for factor in factors]
    weights = [rng.choice([rng.uniform(0, 1), 1e-7, 3.0]) * top for _ in range(layers)]
    if stable:
        weights = [0.2 * rng.random() * top for _ in range(layers)]
    betas = [
        (
            1.0
            if algorithm == "ADMM" and rng.random() < 0.9
            else rng.choice([1.0, 0.6, 1.3])
        )
        for _ in range(layers)
    ]
    if algorithm in ("GD", "MD", "FISTA"):
        arguments: dict[str, Any] = {"stepsize": steps, "lambda_reg": weights}
        arguments["sigma_denoiser"] = 0.1
    else:
        keys = {"stepsize": steps, "lambda": weights, "beta": betas, "g_param": [0.1]}
        if algorithm == "PDCP":
            keys |= {"K": lambda x: x, "K_adjoint": lambda x: x}
            dual = rng.uniform(0.1, 0.9) / max(*steps, 1e-6)
            keys |= {"stepsize_dual": [dual] * layers}
        arguments = {"params_algo": keys}
    trainable = rng.choice([[], [], None]) if trained is False else trained
    solver = DEQ if DEQ is not None else deq.Equilibrium(deq.Picard(), layers=layers)
    if DEQ is not None:
        solver.layers = layers
    model = ask(
        getattr(deq.optim, algorithm),
        data_fidelity=fidelity,
        prior=priors,
        trainable_params=trainable,
        DEQ=solver,
        **arguments,
    )
    return ModelCase(model, operator, algorithm)


@st.composite
def models(
    draw: Draw,
    algorithms: tuple[str, ...] = RATED,
    networks: bool = True,
    stable: bool = False,
    simple: bool = False,
) -> ModelCase:
    """Draw a model with a physics."""
    if simple or draw(st.integers(0, 2)):
        operator = draw(physics(SIMPLE, combine=False))
    else:
        operator = draw(physics())
    rng = generator(draw)
    if operator.batch > 1 or torch.Size(operator.size).numel() > 48:
        operator = PhysicsCase(dinv.physics.Denoising().double(), (1, 3, 4))
    algorithm = choose(draw, algorithms)
    case = build(rng, algorithm, operator, networks=networks, stable=stable)
    if draw(st.integers(0, 9)) == 0:
        case.model = case.model.double()
    return case
