"""Proximal operators of smooth functions, solved to a tolerance."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...fixed_points import (
    CG,
    Anderson,
    FixedPointSolver,
    Implicit,
    Safeguarded,
    State,
    fixed_point,
)

_MAX_ITER = 1000
_LARGEST_CURVATURE = 1e12
# Of the estimate of the smoothness: the distance of the images, relative to their size
# and range, the number of iterations, and the margin of the estimate.
_RADIUS, _POWER_ITERATIONS, _MARGIN = 1e-2, 8, 1.5


def smooth_prox(
    gradient: Callable[[Tensor], Tensor],
    x: Tensor,
    gamma: Tensor,
    smoothness: float,
    rtol: float | None = None,
    weak_convexity: float = 0.0,
) -> Tensor:
    r"""
    Evaluate the proximal operator of a convex or :math:`\rho`-weakly convex function
    :math:`g` whose Hessian is between :math:`-\rho I` and :math:`L I`, up to a
    tolerance and with its exact gradient.

    :math:`\operatorname{prox}_{\gamma g}(x)` is the fixed point of

    .. math::

        f(z) = z - \tau \bigl(z - x + \gamma \nabla g(z)\bigr), \qquad
        \tau = \frac{2}{2 + \gamma (L - \rho)},

    which contracts at the certified rate :math:`\gamma (L + \rho) / (2 + \gamma (L -
    \rho))` if :math:`\gamma \rho < 1`, because the Jacobian of the bracket is symmetric
    and between :math:`(1 - \gamma \rho) I` and :math:`(1 + \gamma L) I`. The solver is
    Anderson acceleration within :class:`deepinv_equilibrium.Safeguarded`, or without
    this safeguard if :math:`\gamma \rho = 1`. A
    :class:`deepinv_equilibrium.ConvergenceWarning` tells if it does not meet the
    tolerance. Conjugate gradients solve for the implicit gradient to the same
    tolerance. The gradient reaches ``x``, ``gamma`` and every tensor that ``gradient``
    depends on.

    The exact operator is :math:`1 / (1 - \gamma \rho)`-Lipschitz, and firmly
    nonexpansive if :math:`g` is convex. Two computed values whose errors
    :func:`smooth_prox_error` bounds by :math:`e_1, e_2` differ by at most
    :math:`\|x_1 - x_2\| / (1 - \gamma \rho) + e_1 + e_2`.

    :param Callable gradient: :math:`\nabla g`; each sample of its value depends on the
        same sample of its argument only.
    :param torch.Tensor x: :math:`x`, of shape :math:`(B, ...)`.
    :param torch.Tensor gamma: :math:`\gamma \geq 0`, broadcast over :math:`x`.
    :param float smoothness: :math:`L`.
    :param float rtol: tolerance on the relative residual of :math:`f`. Default:
        ``None``, ``1e-6``, or ``1e-10`` in float64, which is near its rounding.
    :param float weak_convexity: :math:`\rho \geq 0`. Default: 0, for a convex function.
    :return: (:class:`torch.Tensor`) the proximal operator, of the shape of ``x``.
    :raises ValueError: if :math:`\gamma L` is not in :math:`[0, 10^{12})`, or
        :math:`\gamma \rho > 1`.
    """
    curvature = gamma.detach() * smoothness
    # One read of three numbers, because each makes the host wait for an accelerator.
    smallest, largest, largest_gamma = torch.stack(
        [curvature.min(), curvature.max(), gamma.detach().max()]
    ).tolist()
    if not (smallest >= 0 and largest < _LARGEST_CURVATURE):
        raise ValueError(
            f"gamma must be at least 0 and less than "
            f"{_LARGEST_CURVATURE / smoothness:g} for a gradient of Lipschitz constant "
            f"{smoothness:g}, got {gamma.detach()}."
        )
    modulus = 1 - largest_gamma * weak_convexity
    if modulus < 0:
        raise ValueError(
            f"gamma must be at most {1 / weak_convexity:g} for a function of weak "
            f"convexity {weak_convexity:g}, got {gamma.detach()}: the proximal "
            "operator is not unique otherwise."
        )
    above = (1 + largest) * (1 + 1e-6)  # so that rounding does not refute the rate
    rate = (above - modulus) / (above + modulus)
    rtol = _tolerance(x, rtol)
    solver: FixedPointSolver = Anderson(rtol=rtol, max_iter=_MAX_ITER)
    if rate < 1:
        solver = Safeguarded(Anderson(), rate=rate, rtol=rtol, max_iter=_MAX_ITER)
    step_size = 2 / (2 + curvature - gamma.detach() * weak_convexity)
    return _stationary_point(gradient, x, gamma, step_size, solver)


def stationary_prox(
    gradient: Callable[[Tensor], Tensor], x: Tensor, gamma: Tensor
) -> Tensor:
    r"""
    Find a stationary point of :math:`\frac12 \|z - x\|^2 + \gamma g(z)` near :math:`x`
    for a differentiable function :math:`g` whose smoothness is unknown, with the
    gradient of the implicit function theorem. The point is
    :math:`\operatorname{prox}_{\gamma g}(x)` if the objective is convex. If it is not
    convex near :math:`x`, or :math:`\nabla g` jumps, as with rectified linear units,
    the solve can fail, and warns.

    Anderson acceleration of gradient descent starts from :math:`x`, with the step size
    :math:`\tau = 1 / (1 + \gamma \hat L)`. A power iteration with differences of
    gradients near :math:`x` estimates the smoothness :math:`\hat L` of :math:`g`. The
    result satisfies

    .. math::

        \|z - x + \gamma \nabla g(z)\| \leq \epsilon (1 + \gamma \hat L) \max\bigl(
        \|z\|, \tau \gamma \|\nabla g(x)\|\bigr),

    with :math:`\epsilon = 10^{-10}` in float64 and :math:`10^{-6}` in float32, up to
    rounding; otherwise a :class:`deepinv_equilibrium.ConvergenceWarning` tells. The
    gradient reaches ``x``, ``gamma`` and every tensor that ``gradient`` depends on.

    :param Callable gradient: :math:`\nabla g`; each sample of its value depends on the
        same sample of its argument only.
    :param torch.Tensor x: :math:`x`, of shape :math:`(B, ...)`.
    :param torch.Tensor gamma: :math:`\gamma \geq 0`, of shape :math:`(B, 1, ...)` or
        :math:`(1, 1, ...)`.
    :return: (:class:`torch.Tensor`) the stationary point, of the shape of ``x``.
    """
    step_size = 1 / (1 + gamma.detach() * _smoothness(gradient, x.detach()))
    solver = Anderson(rtol=_tolerance(x, None), max_iter=300)
    return _stationary_point(gradient, x, gamma, step_size, solver)


def _stationary_point(
    gradient: Callable[[Tensor], Tensor],
    x: Tensor,
    gamma: Tensor,
    step_size: Tensor,
    solver: FixedPointSolver,
) -> Tensor:
    """Return the fixed point of gradient descent, with its implicit gradient."""

    def step(z: State) -> Tensor:
        assert isinstance(z, Tensor)
        return z - step_size * (z - x + gamma * gradient(z))

    adjoint = Implicit(CG(rtol=solver.rtol, max_iter=solver.max_iter))
    prox = fixed_point(step, x.detach(), solver, adjoint).x
    assert isinstance(prox, Tensor)
    return prox


def _tolerance(x: Tensor, rtol: float | None) -> float:
    if rtol is not None:
        return rtol
    return 1e-10 if x.dtype == torch.float64 else 1e-6


@torch.no_grad()
def _smoothness(gradient: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Estimate the smoothness of a function near each image."""

    def norm(v: Tensor) -> Tensor:
        return v.flatten(1).norm(dim=1).reshape(-1, *[1] * (v.ndim - 1))

    at_x = gradient(x)
    radius = _RADIUS * (norm(x) + norm(torch.ones_like(x)))
    # Drawn on the CPU, so that the direction does not depend on the device, and the
    # same for all samples, so that it does not depend on the batch.
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(x.shape[1:], generator=generator, dtype=x.dtype).to(x.device)
    v = v.expand_as(x)
    largest = torch.zeros_like(radius)
    for _ in range(_POWER_ITERATIONS):
        v = radius / norm(v).clamp_min(torch.finfo(x.dtype).tiny) * v
        v = gradient(x + v) - at_x
        largest = largest.maximum(norm(v) / radius)
    return _MARGIN * largest


@torch.no_grad()
def smooth_prox_error(
    gradient: Callable[[Tensor], Tensor],
    prox: Tensor,
    x: Tensor,
    gamma: Tensor,
    smoothness: float,
    weak_convexity: float = 0.0,
) -> Tensor:
    r"""
    Bound the distance of a computed proximal operator from the exact one.

    The function :math:`\frac12 \|z - x\|^2 + \gamma g(z)` is :math:`(1 - \gamma
    \rho)`-strongly convex, so the distance of any :math:`z` to the minimiser is at most
    the norm of the gradient at :math:`z`, divided by :math:`1 - \gamma \rho`. The norm
    is evaluated in float64 and enlarged by its rounding error.

    :param Callable gradient: :math:`\nabla g`, called in float64.
    :param torch.Tensor prox: :math:`z`, of shape :math:`(B, ...)`.
    :param torch.Tensor x: :math:`x`, of the same shape.
    :param torch.Tensor gamma: :math:`\gamma`, broadcast over :math:`x`.
    :param float smoothness: :math:`L`.
    :param float weak_convexity: :math:`\rho \geq 0`. Default: 0, for a convex function.
    :return: (:class:`torch.Tensor`) upper bounds of
        :math:`\|z - \operatorname{prox}_{\gamma g}(x)\|_2` in float64, of shape
        :math:`(B,)`; infinite where :math:`\gamma \rho \geq 1`.
    """
    z, x, gamma = prox.double(), x.double(), gamma.double()
    pull = gamma * gradient(z)
    norm, image, pulled = (
        torch.linalg.vector_norm(v.flatten(1), dim=1) for v in (z - x + pull, z, pull)
    )
    curvature = (gamma * smoothness).flatten(1).amax(1)
    modulus = 1 - (gamma * weak_convexity).flatten(1).amax(1) * (1 + 1e-12)
    distance = norm + 1e-13 * ((1 + curvature) * image + pulled)
    return torch.where(modulus > 0, distance / modulus.clamp_min(1e-300), torch.inf)
