"""The proximal operator of weighted total variation."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...equilibrium.input_checks import check_image
from ...fixed_points import CG, Implicit, OnFailure
from ...fixed_points.argument_checks import require_count
from ...fixed_points.failures import check_on_failure, report_failure
from .implicit_gradient import Jumps, PiecewiseConstantStep, attach_implicit_gradient
from .tv_denoising import TVDenoising, solve_denoising
from .tv_groups import TVNorm, as_weight, check_norm

_ADJOINT_MAX_ITER = 5000


def check_options(
    norm: TVNorm, tol: float, max_iter: int, on_failure: OnFailure
) -> None:
    """Raise ValueError for options of :func:`weighted_tv_prox` out of range."""
    check_norm(norm)
    check_on_failure(on_failure)
    require_count("max_iter", max_iter, 0)
    if not 0 <= tol < 1:
        raise ValueError(f"tol must be in [0, 1), got {tol!r}.")


def weighted_tv_prox(
    v: Tensor,
    weight: Tensor | float,
    norm: TVNorm = "isotropic",
    tol: float = 1e-4,
    max_iter: int = 10000,
    dual: Tensor | None = None,
    on_failure: OnFailure = "warn",
) -> TVDenoising:
    r"""
    Evaluate the proximal operator of weighted total variation,

    .. math::

        \operatorname{prox}(v) = \operatorname*{arg\,min}_x \tfrac12 \|x - v\|^2
        + \|\Lambda D x\|_{2, 1},

    with the gradient of the implicit function theorem in ``v`` and ``weight``.

    :func:`~deepinv_equilibrium.optim.total_variation.solve_denoising` solves the
    problem, and
    :class:`~deepinv_equilibrium.optim.total_variation.PiecewiseConstantStep` gives the
    solution its gradient. No iteration is recorded, and the gradient does not depend on
    the start. It converges to the gradient of the exact proximal operator as the
    tolerance decreases. Second derivatives raise.

    :param torch.Tensor v: images of shape :math:`(B, C, N_1, \ldots, N_d)`, with two or
        three spatial axes, real or complex.
    :param torch.Tensor, float weight: :math:`\Lambda \geq 0`, see
        :func:`~deepinv_equilibrium.optim.total_variation.as_weight`.
    :param str norm: ``"isotropic"``: the norm of all differences at a pixel;
        ``"componentwise"``: the absolute value of each difference.
    :param float tol: tolerance on the duality gap, relative to the energy, in
        :math:`[0, 1)`. The smallest value that float32 reaches is ``1e-6`` for weights
        up to a tenth of the range of the image, ``1e-5`` up to the range, and ``1e-4``
        up to a thousand times the contrast.
    :param int max_iter: largest number of iterations.
    :param torch.Tensor dual: dual field to start from: ``dual`` of an earlier result
        for images of the same shape. Default: ``None``, zero.
    :param str on_failure: what to do if the forward or the backward does not meet its
        tolerance: ``"warn"``, ``"raise"`` or ``"ignore"``.
    :return: (TVDenoising) ``x`` with its gradient, ``dual``, and error bounds of each
        sample.
    :raises TypeError: if ``v`` is not a real or complex tensor.
    :raises ValueError: if an argument is out of range or has a wrong shape.
    """
    check_image(v, "v")
    check_options(norm, tol, max_iter, on_failure)
    field = (*v.shape[:2], v.ndim - 2, *v.shape[2:])
    if dual is not None and (dual.shape != field or dual.dtype != v.dtype):
        raise ValueError(
            f"dual must be that of an earlier result, of shape {field} and {v.dtype}, "
            f"got {tuple(dual.shape)} and {dual.dtype}."
        )
    weight = as_weight(weight, v)
    found = solve_denoising(v.detach(), weight.detach(), norm, tol, max_iter, dual)
    report_failure(
        found,
        on_failure,
        f"Denoising by total variation, to a relative duality gap of {tol:g}",
    )
    if not (torch.is_grad_enabled() and (v.requires_grad or weight.requires_grad)):
        return found
    jumps = Jumps.of(found.x, found.dual, weight, norm, found.error_bound)
    step = PiecewiseConstantStep(found.x, lambda x: x - v, weight, norm, jumps)
    rtol = 1e-10 if v.real.dtype == torch.float64 else 1e-6
    adjoint = Implicit(CG(rtol=rtol, max_iter=_ADJOINT_MAX_ITER))
    x = attach_implicit_gradient(step, adjoint, on_failure).output
    assert x is not None
    return replace(found, x=x)
