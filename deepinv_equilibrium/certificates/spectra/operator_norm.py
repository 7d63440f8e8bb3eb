"""The squared norm of a physics, computed again only when the physics changes."""

from __future__ import annotations

import math

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..bounds import Bound
from .lanczos import largest_eigenvalue
from .physics_operator import PhysicsOperator, batch_size
from .physics_spectrum import spectrum


class OperatorNorm:
    r"""
    Upper bounds of :math:`\|A\|^2`. The last bound is stored.

    For real images the bound is the upper end of :func:`deepinv_equilibrium.spectrum`:
    certified for physics with a rule, otherwise an estimate with a probability of
    failure. For complex images the bound is always such an estimate, for the real and
    imaginary parts, because a bound for real images may fail for complex ones.

    A change of the physics is detected by the product of :math:`A^\top A` with a fixed
    random image, which does not depend on how the physics stores its parameters.
    """

    run_state = frozenset(("_probe", "_bound"))

    def __init__(self) -> None:
        self._probe: Tensor | None = None
        self._bound: Bound | None = None

    def squared(self, physics: LinearPhysics, x: Tensor) -> Bound:
        r"""
        Return an upper bound of :math:`\|A\|^2`.

        :param deepinv.physics.LinearPhysics physics: the physics.
        :param torch.Tensor x: a batch of images. Their shape without the batch, dtype
            and device matter, their values do not.
        :return: (Bound) the bound.
        :raises AdjointMismatchError: if ``A_adjoint`` is not the transpose of ``A``.
        :raises UncertifiablePhysicsError: if the operator fails on images of that size.
        :raises ValueError: if the norm is 0 or infinite.
        """
        probe = _probe(physics, x)
        if self._bound is None or not _same(probe, self._probe):
            bound = _complex(physics, x) if x.is_complex() else _real(physics, x)
            if not 0 < bound.value < math.inf:
                raise ValueError(
                    f"the norm of {type(physics).__name__} must be positive and "
                    f"finite for a step size, but its square is {bound}."
                )
            self._probe, self._bound = probe, bound
        return self._bound


@torch.no_grad()
def _probe(physics: LinearPhysics, x: Tensor) -> Tensor:
    r"""Return :math:`A^\top A x` for a fixed random image :math:`x`."""
    shape = (batch_size(physics), *x.shape[1:])
    # Drawn on the CPU, so that the image does not depend on the device.
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(shape, generator=generator, dtype=x.dtype)
    return physics.A_adjoint_A(image.to(x.device))


def _same(probe: Tensor, before: Tensor | None) -> bool:
    """Return whether two products agree up to rounding, which on an accelerator differs
    from call to call."""
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
    operator = PhysicsOperator(_on_parts(physics), shape, x.device, x.real.dtype)
    operator.check_adjoint()
    return largest_eigenvalue(
        lambda parts: operator.gram(parts.to(operator.dtype)),
        shape,
        generator=torch.Generator().manual_seed(0),
        device=x.device,
    )


def _on_parts(physics: LinearPhysics) -> LinearPhysics:
    """Return the physics as an operator on real and imaginary parts."""
    return LinearPhysics(
        A=lambda x, **_: physics.A(torch.view_as_complex(x)),
        A_adjoint=lambda y, **_: torch.view_as_real(physics.A_adjoint(y)),
    )
