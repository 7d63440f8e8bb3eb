"""Lipschitz constants of modules against dense Jacobians and difference quotients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq

from .dense import jacobian, norm, quotient
from .draws import Draw, choose, generator, maybe
from .outcomes import RefusedError, VoidError, ask, require, require_at_most, run
from .random_modules import (
    DoubledConvolution,
    ModuleCase,
    described,
    layers,
    modules,
)


def lipschitz_of_modules(draw: Draw) -> None:
    """The certified Lipschitz constant of a module bounds its Jacobians and difference
    quotients."""
    check_module(draw, draw(modules()))


def lipschitz_of_layers(draw: Draw) -> None:
    """The certified Lipschitz constant of a single layer bounds its Jacobians and
    difference quotients."""
    check_module(draw, draw(layers()))


def check_module(draw: Draw, case: ModuleCase) -> None:
    """Check the Lipschitz constant of a module."""
    rng = generator(draw)
    module, size = case.module, case.size
    given_size = size if maybe(draw) else None
    bound = ask(deq.lipschitz, module, given_size)
    require(bound.is_certified, "lipschitz returned no certified bound")
    # Activations have their largest slopes at different places.
    spots = [0.0, 0.01, -1.0, 1.5, 2.4, -3.0]
    points = [rng.image(1, *size), torch.full((1, *size), rng.choice(spots)).double()]
    points[1] += 1e-3 * rng.normal(1, *size)
    # A single peak is the maximum of every window that it is in.
    peak = torch.zeros(points[0].numel(), dtype=torch.float64)
    peak[rng.randrange(len(peak))] = 10.0
    points.append(peak.reshape(1, *size))
    label = f"{described(module)} on {size}, asked for {given_size}"
    torch.manual_seed(0)
    for x in points:
        matrix = run(jacobian, module, x)
        require_at_most(norm(matrix), bound.value, label)
        for distance in (1e-3, 1.0):
            other = x + distance * rng.normal(1, *size)
            slope = run(quotient, module, x, other)
            require_at_most(slope, bound.value, f"quotient of {label}", 1e-9)
    both = torch.cat(points)
    moved = both + torch.tensor([0.0, 1.0, 2.0]).reshape(3, *[1] * len(size)).double()
    require_at_most(
        run(quotient, module, both, moved), bound.value, f"batch of {label}", 1e-9
    )


def convolution_norms(draw: Draw) -> None:
    """The norm of a convolution for every image size bounds the norm on an image."""
    rng = generator(draw)
    dim = choose(draw, (1, 1, 2, 2, 2, 3))
    shape = [rng.randint(1, 3) for _ in range(2)]
    taps = [rng.randint(1, 4 if dim < 3 else 2) for _ in range(dim)]
    stride, dilation = choose(draw, (1, 1, 2, 3)), choose(draw, (1, 2, 3))
    mode = choose(draw, ("zeros", "replicate", "reflect", "circular"))
    padding = draw_padding(draw, mode)
    weight = rng.kernel(*shape, *taps)
    side = {1: 12, 2: 7, 3: 4}[dim] if maybe(draw) else padding + rng.randint(1, 3)
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dim - 1](
        shape[1],
        shape[0],
        taps,
        stride=stride,
        dilation=dilation,
        padding=padding,
        padding_mode=mode,
        bias=False,
    ).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
    bound = ask(
        deq.certificates.convolution_norm,
        weight,
        stride=stride,
        dilation=dilation,
        padding=padding,
        padding_mode=mode,
    )
    x = torch.zeros(1, shape[1], *[min(side, 12)] * dim, dtype=torch.float64)
    if x.numel() > 300:
        raise VoidError("the dense matrix is too large")
    truth = norm(run(jacobian, layer, x))
    require_at_most(
        truth, float(bound), f"norm of {described(layer)} on {tuple(x.shape)}"
    )


def draw_padding(draw: Draw, mode: str) -> int:
    """Draw the pixels that a convolution adds on each side."""
    return choose(draw, (0, 1, 2)) if mode == "zeros" else choose(draw, (0, 1, 2, 4))


def edited_modules(draw: Draw) -> None:
    """A module that was certified before and edited since is bounded or refused as it
    is now."""
    case = draw(modules())
    rng = generator(draw)
    module, size = case.module, case.size
    try:
        ask(deq.lipschitz, module, size)
    except RefusedError:
        raise VoidError("it was never certified") from None
    parts = list(module.modules())
    part = rng.choice(parts)
    kind = choose(draw, ("hook", "weight", "data", "foreach", "forward", "class"))
    weights = list(part.parameters())
    if kind == "hook":
        part.register_forward_hook(lambda module, args, out: 3 * out)
    elif kind == "weight":
        with torch.no_grad():
            for weight in weights:
                weight.mul_(3)
    elif kind == "data":
        for weight in weights:
            weight.data.mul_(3)
    elif kind == "foreach" and weights:
        torch._foreach_mul_([w.data for w in weights], 3.0)
    elif kind == "forward":
        forward = part.forward
        part.forward = lambda *a: 3 * forward(*a)
    elif kind == "class" and type(part) is nn.Conv2d:
        part.__class__ = DoubledConvolution
    bound = ask(deq.lipschitz, module, size)
    x = rng.image(1, *size)
    require_at_most(
        norm(run(jacobian, module, x)),
        bound.value,
        f"{kind}: {described(module)} on {size}",
    )


def complex_modules(draw: Draw) -> None:
    """A bound of a module with complex weights holds for complex images."""
    rng = generator(draw)
    layer = nn.Conv1d(1, 1, rng.randint(1, 3), bias=False, dtype=torch.complex128)
    last = choose(draw, (nn.Tanh, nn.Identity, nn.Sigmoid, nn.ReLU, nn.SiLU))()
    module = nn.Sequential(layer, last)
    bound = ask(deq.lipschitz, module)
    x = complex_image(rng.image(1, 1, 4), rng.image(1, 1, 4))
    for distance in (1e-4, 0.1, 2.0):
        step = complex_image(rng.normal(1, 1, 4), rng.normal(1, 1, 4))
        slope = run(quotient, module, x, x + distance * step)
        require_at_most(slope, bound.value, f"complex {described(module)}", 1e-9)


def complex_image(real: Tensor, imaginary: Tensor) -> Tensor:
    """Return an image of complex numbers."""
    return torch.complex(real, imaginary)
