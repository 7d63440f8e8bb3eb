"""Reconstructions and gradients that do not depend on the number of processes."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch
import torch.distributed as dist
from deepinv.distributed import DistributedContext, distribute
from torch import Tensor, nn

import deepinv_equilibrium as deq

Case = Callable[[DistributedContext], dict[str, Tensor]]

# Columns of width 4, of which an image of 8 x 8 has two.
TILES: dict[str, Any] = {"patch_size": 4, "overlap": 1, "tiling_dims": (3,)}


class Averaging(dinv.models.Denoiser):
    """Tanh of half a 3 x 3 convolution with nonnegative weights."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.rand(1, 1, 3, 3, generator=generator) / 12)

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return torch.conv2d(x, self.weight, padding=1).tanh() / (1 + sigma)


def blurs(count: int) -> dinv.physics.StackedLinearPhysics:
    generator = torch.Generator().manual_seed(1)
    kernels = [torch.rand(1, 1, 3, 3, generator=generator) / 6 for _ in range(count)]
    return dinv.physics.stack(
        *(dinv.physics.Blur(kernel, padding="circular") for kernel in kernels)
    )


def images() -> Tensor:
    return torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def optimiser(config: Any, kind: Any = deq.optim.PGD, **options: Any) -> Any:
    return kind(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(Averaging()),
        stepsize=0.3,
        sigma_denoiser=0.1,
        trainable_params=["stepsize", "g_param"],
        DEQ=config,
        **options,
    )


def reconstruct(model: Any, y: Any, physics: Any) -> dict[str, Tensor]:
    """Return the images, and the gradients of a linear loss."""
    model.zero_grad()
    x = model(y, physics)
    (x * torch.linspace(-1, 1, x.numel()).reshape(x.shape).to(x)).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return {"x": x.detach(), **gradients}


def whole(
    config: Any, kind: Any = deq.optim.PGD, operators: int = 3, **options: Any
) -> Case:
    """Distribute the physics and the model."""

    def run(ctx: DistributedContext) -> dict[str, Tensor]:
        physics = distribute(blurs(operators), ctx)
        model = distribute(optimiser(config, kind, **options), ctx, **TILES)
        return reconstruct(model, physics.A(images()), physics)

    return run


def parts(physics: bool, denoiser: bool) -> Case:
    """Distribute the physics, the denoiser or both, and not the model."""

    def run(ctx: DistributedContext) -> dict[str, Tensor]:
        model = optimiser(deq.Equilibrium())
        operator = blurs(3)
        y = operator.A(images())
        if physics:
            operator = distribute(operator, ctx)
        if denoiser:
            prior = model.prior[0]
            prior.denoiser = distribute(prior.denoiser, ctx, max_batch_size=1, **TILES)
        reconstruct(model, y, operator)
        if ctx.rank:
            model._checked = None  # other processes have checked this input
        return reconstruct(model, y, operator)

    return run


def inputs(ctx: DistributedContext) -> dict[str, Tensor]:
    """Differentiate in the measurements and in the filters of the physics, of which
    each process has a part of the gradients."""
    operators = blurs(3)
    y = dinv.utils.TensorList([part.requires_grad_() for part in operators.A(images())])
    filters = [blur.filter.requires_grad_() for blur in operators.physics_list]
    model = distribute(optimiser(deq.Equilibrium(), deq.optim.HQS), ctx, **TILES)
    reconstruct(model, y, distribute(operators, ctx))
    found = {}
    for index, tensor in enumerate([*y, *filters]):
        grad = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        if ctx.use_dist:
            dist.all_reduce(grad)
        found[str(index)] = grad / ctx.world_size
    return found


def data_parallel(config: Any) -> Case:
    """Give every process a share of the batch."""

    def run(ctx: DistributedContext) -> dict[str, Tensor]:
        model = optimiser(config)
        wrapped, y = model, torch.cat([images(), 1 - images()])
        if ctx.use_dist:
            wrapped = nn.parallel.DistributedDataParallel(model)
            y = y.chunk(ctx.world_size)[ctx.rank]
        for _ in range(2):  # the gradients add up, and the reducer is ready again
            wrapped(y, dinv.physics.Denoising()).square().mean().backward()
        return {name: p.grad for name, p in model.named_parameters()}

    return run


def disagreement(ctx: DistributedContext) -> dict[str, Tensor]:
    """Solve with steps of which each process needs another number of iterations."""
    group = dist.group.WORLD if ctx.use_dist else None
    processes = deq.fixed_points.Processes(group)
    shift = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    rate = 0.5 + 0.1 * ctx.rank

    def step(x: Any) -> Any:
        processes.average(x)  # all processes take part in every evaluation
        return rate * x + shift

    found = deq.fixed_point(
        step,
        torch.zeros(1, 1, dtype=torch.float64),
        deq.Picard(rtol=1e-3),
        deq.Implicit(deq.Picard(rtol=1e-3)),
        processes=processes,
    )
    assert isinstance(found.x, Tensor)
    found.x.sum().backward()
    return {"iterations": found.iterations}


def refusal(ctx: DistributedContext) -> dict[str, Tensor]:
    """Raise for what needs the Jacobian itself, if there are several processes."""
    if not ctx.use_dist:
        return {}
    with pytest.raises(NotImplementedError, match=r"use .* Implicit\(GMRES"):
        whole(deq.Equilibrium(adjoint=deq.Implicit(deq.CGNE())))(ctx)
    physics = distribute(blurs(2), ctx)
    model, y = optimiser(deq.Equilibrium()), physics.A(images())
    with pytest.raises(ValueError, match="distributed over several processes"):
        deq.check_well_posed(model, y, physics)
    return {}


CASES: dict[int, dict[str, Case]] = {
    2: {
        "DEQ=True": whole(True, max_iter=20),
        "ReTune": whole(deq.ReTune(layers=2, restarts=2)),
        "Equilibrium": whole(deq.Equilibrium()),
        "Implicit(Anderson)": whole(
            deq.Equilibrium(deq.Picard(), deq.Implicit(deq.Anderson()))
        ),
        "SHINE": whole(deq.Equilibrium(deq.Broyden(), deq.SHINE(refine=3))),
        "Neumann": whole(deq.Equilibrium(adjoint=deq.Neumann(3))),
        "JacobianFree": whole(deq.Equilibrium(adjoint=deq.JacobianFree(2))),
        "Unrolled": whole(deq.Equilibrium(deq.Picard(), deq.Unrolled())),
        "DRS": whole(deq.Equilibrium(), deq.optim.DRS),
        "FISTA": whole(deq.Equilibrium(layers=2), deq.optim.FISTA),
        "physics and denoiser": parts(physics=True, denoiser=True),
        "physics": parts(physics=True, denoiser=False),
        "denoiser": parts(physics=False, denoiser=True),
        "DistributedDataParallel, Equilibrium": data_parallel(
            deq.Equilibrium(deq.Anderson(rtol=1e-6), deq.Implicit(deq.GMRES(rtol=1e-6)))
        ),
        "DistributedDataParallel, ReTune": data_parallel(
            deq.ReTune(layers=2, restarts=3)
        ),
        "inputs": inputs,
        "disagreement": disagreement,
        "refusal": refusal,
    },
    # Two of four processes have no operator and no patch.
    4: {
        "ReTune": whole(deq.ReTune(layers=2, restarts=2), operators=2),
        "Equilibrium": whole(deq.Equilibrium(), operators=2),
    },
}


def work(rank: int, world_size: int, folder: Path) -> None:
    """Run the cases in one of several processes, and store the results."""
    torch.set_num_threads(1)
    # deepinv warns of processes without work, and torch of functions that it uses.
    warnings.simplefilter("ignore")
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=world_size,
        timeout=datetime.timedelta(seconds=60),
    )
    try:
        with DistributedContext(device_mode="cpu") as ctx:
            found = {name: case(ctx) for name, case in CASES[world_size].items()}
        torch.save(found, folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
