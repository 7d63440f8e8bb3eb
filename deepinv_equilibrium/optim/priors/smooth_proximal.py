"""Proximal operators of smooth convex functions, solved to a tolerance."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...fixed_points import CG, Anderson, Implicit, Safeguarded, State, fixed_point

_MAX_ITER = 1000
_LARGEST_CURVATURE = 1e12


def smooth_prox(
    gradient: Callable[[Tensor], Tensor],
    x: Tensor,
    gamma: Tensor,
    smoothness: float,
    rtol: float | None = None,
) -> Tensor:
    r"""
    Evaluate the proximal operator of a convex function :math:`g` with an
    :math:`L`-Lipschitz gradient, up to a tolerance and with its exact gradient.

    :math:`\operatorname{prox}_{\gamma g}(x)` is the fixed point of

    .. math::

        f(z) = z - \tau \bigl(z - x + \gamma \nabla g(z)\bigr), \qquad
        \tau = \frac{2}{2 + \gamma L},

    which contracts at the certified rate :math:`\gamma L / (2 + \gamma L)`, because the
    Jacobian of the bracket is symmetric and between :math:`I` and
    :math:`(1 + \gamma L) I`. The solver is Anderson acceleration within
    :class:`deepinv_equilibrium.Safeguarded`; a
    :class:`deepinv_equilibrium.ConvergenceWarning` tells if it does not meet the
    tolerance. Conjugate gradients solve for the implicit gradient to the same
    tolerance. The gradient reaches ``x``, ``gamma`` and every tensor that ``gradient``
    depends on.

    The exact operator is firmly nonexpansive. Two computed values whose errors
    :func:`smooth_prox_error` bounds by :math:`e_1, e_2` differ by at most
    :math:`\|x_1 - x_2\| + e_1 + e_2`.

    :param Callable gradient: :math:`\nabla g`; each sample of its value depends on the
        same sample of its argument only.
    :param torch.Tensor x: :math:`x`, of shape :math:`(B, ...)`.
    :param torch.Tensor gamma: :math:`\gamma \geq 0`, broadcast over :math:`x`.
    :param float smoothness: :math:`L`.
    :param float rtol: tolerance on the relative residual of :math:`f`. Default:
        ``None``, ``1e-6``, or ``1e-10`` in float64, which is near its rounding.
    :return: (:class:`torch.Tensor`) the proximal operator, of the shape of ``x``.
    :raises ValueError: if :math:`\gamma L` is not in :math:`[0, 10^{12})`.
    """
    curvature = gamma.detach() * smoothness
    largest = float(curvature.max())
    if not (float(curvature.min()) >= 0 and largest < _LARGEST_CURVATURE):
        raise ValueError(
            f"gamma must be at least 0 and less than "
            f"{_LARGEST_CURVATURE / smoothness:g} for a gradient of Lipschitz constant "
            f"{smoothness:g}, got {gamma.detach()}."
        )
    step_size = 2 / (2 + curvature)

    def step(z: State) -> Tensor:
        assert isinstance(z, Tensor)
        return z - step_size * (z - x + gamma * gradient(z))

    if rtol is None:
        rtol = 1e-10 if x.dtype == torch.float64 else 1e-6
    above = largest * (1 + 1e-6)  # so that rounding does not refute the rate
    solver = Safeguarded(
        Anderson(), rate=above / (2 + above), rtol=rtol, max_iter=_MAX_ITER
    )
    adjoint = Implicit(CG(rtol=rtol, max_iter=_MAX_ITER))
    prox = fixed_point(step, x.detach(), solver, adjoint).x
    assert isinstance(prox, Tensor)
    return prox


@torch.no_grad()
def smooth_prox_error(
    gradient: Callable[[Tensor], Tensor],
    prox: Tensor,
    x: Tensor,
    gamma: Tensor,
    smoothness: float,
) -> Tensor:
    r"""
    Bound the distance of a computed proximal operator from the exact one.

    The function :math:`\frac12 \|z - x\|^2 + \gamma g(z)` is 1-strongly convex, so the
    distance of any :math:`z` to the minimiser is at most the norm of the gradient at
    :math:`z`. The norm is evaluated in float64 and enlarged by its rounding error.

    :param Callable gradient: :math:`\nabla g`, called in float64.
    :param torch.Tensor prox: :math:`z`, of shape :math:`(B, ...)`.
    :param torch.Tensor x: :math:`x`, of the same shape.
    :param torch.Tensor gamma: :math:`\gamma`, broadcast over :math:`x`.
    :param float smoothness: :math:`L`.
    :return: (:class:`torch.Tensor`) upper bounds of
        :math:`\|z - \operatorname{prox}_{\gamma g}(x)\|_2` in float64, of shape
        :math:`(B,)`.
    """
    z, x, gamma = prox.double(), x.double(), gamma.double()
    pull = gamma * gradient(z)
    norm, image, pulled = (
        torch.linalg.vector_norm(v.flatten(1), dim=1) for v in (z - x + pull, z, pull)
    )
    curvature = (gamma * smoothness).flatten(1).amax(1)
    return norm + 1e-13 * ((1 + curvature) * image + pulled)
