"""Gradients of a model against central differences."""

from __future__ import annotations

from collections.abc import Callable

import torch
from deepinv.models import Reconstructor
from deepinv.physics import LinearPhysics
from torch import Tensor

from .contracts import require
from .random_problems import normal

GROUPS = 5  # in which the tensors are moved together
# Relative to the norm of a tensor. A wrong derivative agrees with none of the
# differences; near a kink, or up to the tolerance of a solver, some are inaccurate.
STEPS = (1e-4, 1e-5, 1e-6)


def require_gradient(
    model: Reconstructor, y: Tensor, physics: LinearPhysics, rtol: float
) -> None:
    r"""
    Raise an error unless the gradients of the parameters and of the measurement agree
    with central differences.

    :param deepinv.models.Reconstructor model: the model in float64, whose parameters
        are moved and restored.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.LinearPhysics physics: its physics.
    :param float rtol: accuracy of the gradients.
    :raises AssertionError: if one is wrong; the message names the parameters.
    """
    tensors = {name: p for name, p in model.named_parameters() if p.requires_grad}
    tensors["the measurement y"] = y = y.detach().clone().requires_grad_()
    names, leaves = list(tensors), list(tensors.values())
    with torch.no_grad():
        for k, leaf in enumerate(leaves):
            # Away from kinks that biases of zero put the activations at.
            leaf.add_(0.02 * _direction(leaf, 100 + k))

    def loss() -> Tensor:
        x = model(y, physics)
        return (x * normal(*x.shape, seed=91).to(x)).sum()

    value = loss()
    require(value.requires_grad, "the result carries no gradient")
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    directions = [_direction(leaf, k) for k, leaf in enumerate(leaves)]
    terms = [
        torch.zeros(1) if gradient is None else (gradient.conj() * direction).real
        for gradient, direction in zip(gradients, directions, strict=True)
    ]
    # Terms of both signs nearly cancel in some sums.
    scales = [float(term.norm()) for term in terms]
    for first in range(min(GROUPS, len(names))):
        group = range(first, len(names), GROUPS)
        slope = sum(float(terms[k].sum()) for k in group)
        scale = max([abs(slope), 0.01 * max(scales), *(scales[k] for k in group)])
        moved = [(leaves[k], directions[k]) for k in group]
        differences = []
        for step in STEPS:
            differences.append(_difference(loss, moved, step))
            if abs(slope - differences[-1]) <= rtol * scale:
                break
        else:
            raise AssertionError(
                "the derivative along a change of "
                f"{', '.join(names[k] for k in group)} is {slope:.8g} by automatic "
                "differentiation; central differences are "
                f"{', '.join(f'{value:.8g}' for value in differences)}"
            )


def _direction(leaf: Tensor, k: int) -> Tensor:
    """Return a random direction with the norm of the tensor."""
    noise = normal(*leaf.shape, seed=92 + k)
    if leaf.is_complex():
        noise = torch.complex(noise, normal(*leaf.shape, seed=192 + k))
    size = leaf.detach().norm()
    size = torch.where(size > 0, size, torch.ones_like(size))
    return noise.to(leaf) / noise.norm() * size


@torch.no_grad()
def _difference(
    loss: Callable[[], Tensor], moved: list[tuple[Tensor, Tensor]], step: float
) -> float:
    kept = [leaf.clone() for leaf, _ in moved]
    ends = []
    for sign in (1, -1):
        for (leaf, direction), start in zip(moved, kept, strict=True):
            leaf.copy_(start + sign * step * direction)
        ends.append(float(loss()))
    for (leaf, _), start in zip(moved, kept, strict=True):
        leaf.copy_(start)
    return (ends[0] - ends[1]) / (2 * step)
