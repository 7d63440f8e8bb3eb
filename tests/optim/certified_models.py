"""Random models with known constants, and their dense Jacobians."""

from __future__ import annotations

import math
import random
from typing import Any

import deepinv as dinv
import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound
from deepinv_equilibrium.certificates.contraction_bounds import Contraction

IMAGE = (1, 3, 4)
SIZE = 12
SCHEMES = ("PGD", "GD", "HQS", "DRS", "ADMM")
SVD_ROUNDING = 1e-10


class MatrixDenoiser(dinv.models.Denoiser):
    """A matrix. It declares the property ``declares`` only."""

    def __init__(self, matrix: Tensor, declares: str = "") -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)
        self.is_firmly_nonexpansive = declares == "firm"
        if declares == "residual":
            self.residual_bound = self._residual_bound

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return (x.flatten(1) @ self.matrix.to(x).T).reshape(x.shape)

    def lipschitz_bound(self, img_size: Any = None) -> Bound:
        return _norm(self.matrix)

    def _residual_bound(self, img_size: Any = None) -> Bound:
        return _norm(self.matrix.double() - torch.eye(SIZE, dtype=torch.float64))


def _norm(matrix: Tensor) -> Bound:
    value = torch.linalg.matrix_norm(matrix.detach().double(), 2).item()
    return Bound(value * (1 + SVD_ROUNDING), source="dense")


def random_denoiser(rng: random.Random, dtype: torch.dtype) -> MatrixDenoiser:
    raw = torch.randn(SIZE, SIZE, dtype=torch.float64)
    U, s, V = torch.linalg.svd(raw)
    flat = rng.random() < 0.5  # the bounds are attained by orthogonal matrices
    N = U @ V if flat else U @ torch.diag(s / s[0]) @ V
    eye = torch.eye(SIZE, dtype=torch.float64)
    declares = rng.choice(["", "firm", "residual"])
    if declares == "firm":
        matrix = (eye + (1 - 1e-6) * N) / 2  # firmly nonexpansive in float32 too
    elif declares == "residual":
        matrix = eye + rng.uniform(0, 0.4) * N
    else:
        matrix = rng.choice([0.5, 0.9, 0.99, 1.2]) * rng.choice([1, -1]) * N
    return MatrixDenoiser(matrix.to(dtype), declares)


def random_physics(
    rng: random.Random, closed_form: bool = True
) -> dinv.physics.LinearPhysics:
    """Return a physics in float64; ``closed_form`` excludes iterative proxes."""
    scale = 10 ** rng.uniform(-3, 3) if rng.random() < 0.3 else 1.0
    padded = [] if closed_form else ["valid", "replicate", "reflect", "constant"]
    kind = rng.choice(["blur", "mask", "identity", *padded])
    if kind in padded:
        kernel = torch.rand(1, 1, 3, 3, dtype=torch.float64)
        if rng.random() < 0.3:
            kernel = kernel.where(
                kernel >= kernel.quantile(0.7), 0
            )  # a sparse kernel, like motion blur
        return dinv.physics.Blur(filter=scale * kernel, padding=kind).double()
    if kind == "blur":
        kernel = torch.rand(1, 1, 3, 3, dtype=torch.float64)
        kernel[..., 1, 1] += rng.uniform(0, 8)
        kernel *= scale / kernel.sum()
        physics = dinv.physics.BlurFFT(IMAGE, filter=kernel)
        physics.update_parameters(filter=kernel)
        return physics
    if kind == "mask":
        mask = scale * torch.rand(IMAGE, dtype=torch.float64)
        mask[0, 0, 0] = rng.choice([0.0, scale])
        return dinv.physics.Inpainting(IMAGE, mask=mask)
    return dinv.physics.Denoising().double()  # its gamma has the dtype of its mask


def random_model(
    rng: random.Random,
    scheme: str,
    physics: dinv.physics.LinearPhysics,
    solver: Any = None,
) -> deq.optim.PGD:
    """Return a model with different parameters in every layer."""
    K = rng.choice([1, 1, 2, 3])
    torch.manual_seed(rng.randrange(10**6))
    dtype = rng.choice([torch.float32, torch.float64])
    sigma, kappa = 10 ** rng.uniform(-0.5, 0.5), 10 ** rng.uniform(-1.5, 0)
    images, _ = basis(physics)
    norm = torch.linalg.matrix_norm(physics.A(images).flatten(1), 2).item()
    curvature = (norm / sigma) ** 2
    fidelity = dinv.optim.L2(sigma)
    if rng.random() < 0.6:
        # The ridge has the scale of the operator.
        kappa *= curvature
        fidelity = deq.optim.RidgeL2(sigma, kappa)
        curvature += kappa
    implicit = dinv.optim.RED if scheme == "GD" else dinv.optim.PnP
    priors = [
        (
            dinv.optim.Tikhonov()
            if rng.random() < 0.2
            else implicit(random_denoiser(rng, dtype))
        )
        for _ in range(K)
    ]
    arguments: dict[str, Any] = {
        "stepsize": [rng.uniform(0.1, 1.9) / curvature for _ in range(K)],
        "lambda_reg": [rng.uniform(0, 1) * curvature for _ in range(K)],
    }
    if scheme != "GD":
        free = scheme != "ADMM"
        arguments["params_algo"] = {
            **{"stepsize": arguments.pop("stepsize")},
            **{"lambda": arguments.pop("lambda_reg")},
            "beta": [rng.choice([1.0, 0.7, 1.2]) if free else 1.0 for _ in range(K)],
            "g_param": [0.1],
        }
    else:
        arguments["sigma_denoiser"] = 0.1
    return getattr(deq.optim, scheme)(
        data_fidelity=fidelity,
        prior=priors,
        trainable_params=[],
        DEQ=deq.Equilibrium(solver or deq.Picard(), layers=K),
        **arguments,
    )


def basis(physics: dinv.physics.LinearPhysics) -> tuple[Tensor, Tensor]:
    """Return the unit images, and as many measurements that are 0."""
    images = torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, *IMAGE)
    return images, 0 * physics.A(images)


def dense_jacobian(model: Any, physics: dinv.physics.LinearPhysics) -> Tensor:
    """Return the Jacobian of the block, which is linear for y = 0, in the variable of
    the certificate."""
    images, y = basis(physics)
    step, _ = model.fixed_point_problem(y, physics)
    state: Any = images
    if isinstance(model, deq.optim.ADMM):
        last = model.DEQ.layers - 1
        parameters = model.update_params_fn(last)
        x = model.update_prior_fn(last).prox(
            images,
            parameters["g_param"],
            gamma=math.prod(
                torch.as_tensor(parameters[name], dtype=torch.float64).item()
                for name in ("lambda", "stepsize")
            ),
        )
        state = (x, images - x)
    with torch.no_grad():
        value = step(state)
    if isinstance(value, tuple):
        value = value[0] + value[1]
    return value.flatten(1).T


def contraction(model: Any, physics: dinv.physics.LinearPhysics) -> Contraction:
    return model.contraction(physics, IMAGE)
