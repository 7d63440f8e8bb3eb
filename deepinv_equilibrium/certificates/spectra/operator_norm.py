"""The squared norm of a physics, computed once for as long as it stays the same."""

from __future__ import annotations

import math

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..bounds import Bound
from .lanczos import largest_eigenvalue
from .physics_operator import LinearOperator, batch_size
from .physics_spectrum import spectrum


class OperatorNorm:
    r"""
    Upper bounds of :math:`\|A\|^2`, the last of which is remembered.

    For real images it is the upper end of :func:`deepinv_equilibrium.spectrum`:
    certified for the physics that have a rule there, else an estimate that holds with a
    stated probability. For complex images it is such an estimate, by the same method on
    their real and imaginary parts: a bound for real images need not hold for them.

    Whether the physics is still the same is seen by what :math:`A^\top A` makes of one
    fixed random image, wherever it keeps its parameters.
    """

    def __init__(self) -> None:
        self._probe: Tensor | None = None
        self._bound: Bound | None = None

    def squared(self, physics: LinearPhysics, x: Tensor) -> Bound:
        r"""
        :param deepinv.physics.LinearPhysics physics: the physics.
        :param torch.Tensor x: images that it acts on; only their layout matters.
        :return: (Bound) an upper bound of :math:`\|A\|^2`.
        :raises AdjointMismatchError: if ``A_adjoint`` is not the transpose of ``A``.
        :raises UncertifiablePhysicsError: if the operator fails on such images.
        :raises ValueError: if the norm is 0 or infinite.
        """
        probe = _probe(physics, x)
        if self._bound is None or not _same(probe, self._probe):
            bound = _complex(physics, x) if x.is_complex() else _real(physics, x)
            if not 0 < bound.value < math.inf:
                raise ValueError(
                    f"the norm of {type(physics).__name__} must be positive and "
                    f"finite for a step size, got squared {bound}."
                )
            self._probe, self._bound = probe, bound
        return self._bound


@torch.no_grad()
def _probe(physics: LinearPhysics, x: Tensor) -> Tensor:
    """What the operator makes of a random image, the same in every call."""
    shape = (batch_size(physics), *x.shape[1:])
    # Drawn on the CPU, to be the same everywhere.
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(shape, generator=generator, dtype=x.dtype)
    return physics.A_adjoint_A(image.to(x.device))


def _same(probe: Tensor, before: Tensor | None) -> bool:
    """Up to rounding, which on an accelerator differs from call to call."""
    if before is None or before.shape != probe.shape or before.dtype != probe.dtype:
        return False
    before = before.to(probe.device)
    eps = 8 * torch.finfo(probe.dtype).eps
    return float((probe - before).norm()) <= eps * float(before.norm())


def _real(physics: LinearPhysics, x: Tensor) -> Bound:
    return spectrum(physics, x.shape[1:]).upper


@torch.no_grad()
def _complex(physics: LinearPhysics, x: Tensor) -> Bound:
    shape = (batch_size(physics), *x.shape[1:], 2)
    operator = LinearOperator(_on_parts(physics), shape, x.device, x.real.dtype)
    operator.check_adjoint()
    return largest_eigenvalue(
        lambda parts: operator.gram(parts.to(operator.dtype)),
        shape,
        generator=torch.Generator().manual_seed(0),
        device=x.device,
    )


def _on_parts(physics: LinearPhysics) -> LinearPhysics:
    """A physics of complex images as one of their real and imaginary parts."""
    return LinearPhysics(
        A=lambda x, **_: physics.A(torch.view_as_complex(x)),
        A_adjoint=lambda y, **_: torch.view_as_real(physics.A_adjoint(y)),
    )
