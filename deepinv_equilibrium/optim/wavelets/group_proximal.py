"""The proximal operator of a weighted norm of groups."""

from __future__ import annotations

import torch
from torch import Tensor

_MAX_STEPS = 50


def group_prox(
    v: Tensor, weight: Tensor, gamma: Tensor | float, group: tuple[int, ...]
) -> Tensor:
    r"""
    The proximal operator of the sum of weighted norms of groups,

    .. math::

        \hat w = \operatorname*{arg\,min}_w \tfrac12 \|w - v\|^2
        + \gamma \sum_k \|\theta w_k\|_2,

    exact and with its exact gradient, also for weights that differ within a group.

    A group is 0 where :math:`\|\theta^{-1} v_k\| \leq \gamma`. Elsewhere the conditions
    of optimality give it the form

    .. math::

        w_i = \frac{n}{n + \gamma \theta_i^2} v_i, \qquad n = \|\theta w\| > 0 \text{
        the root of } \Bigl(\sum_i \frac{\theta_i^2 v_i^2}{(n + \gamma
        \theta_i^2)^2}\Bigr)^{-1/2} = 1.

    The left side is a power mean, of exponent -2, of increasing affine functions, and
    so concave and increasing in :math:`n`: Newton's method from the left of the root
    climbs to it without ever passing it. It is linear for equal weights, and the first
    step then gives the soft threshold of a norm. (The secular equation of trust-region
    methods has the same form.)

    Gradients are those of the implicit function theorem: two Newton steps are recorded
    from the root, and of the functions that these are the first three derivatives are
    those of the root.

    :param torch.Tensor v: real numbers :math:`v`.
    :param torch.Tensor weight: :math:`\theta > 0`, with the axes of ``v`` and
        broadcastable to it.
    :param torch.Tensor, float gamma: :math:`\gamma \geq 0`, broadcastable to ``v`` with
        one entry a group.
    :param tuple group: the axes of ``v`` that make a group.
    :return: (:class:`torch.Tensor`) :math:`\hat w`, of the shape of ``v``.
    """

    def norm(x: Tensor) -> Tensor:
        # Far faster than vector_norm over axes that are not the last.
        return x.square().sum(group, keepdim=True).sqrt()

    with torch.no_grad():
        nonzero = norm(v / weight) > gamma
    # Groups that are 0 are kept out of the arithmetic, whose derivatives would be NaN.
    inside = torch.where(nonzero, v, 1.0)
    slope, shift = weight * inside, gamma * weight.square()

    def newton_step(n: Tensor) -> Tensor:
        scaled = slope / (n + shift)
        mean = 1 / norm(scaled)
        moment = (scaled.square() / (n + shift)).sum(group, keepdim=True)
        return n + (1 - mean) / (mean**3 * moment)

    with torch.no_grad():
        n = (norm(slope) - shift.amax(group, keepdim=True)).clamp_min(0)
        n = torch.where(nonzero, n, 1.0)
        # A step that is as small as this is the last that rounding lets count.
        tolerance = torch.finfo(v.dtype).eps ** 0.75
        for _ in range(_MAX_STEPS):
            previous, n = n, torch.where(nonzero, newton_step(n), 1.0)
            if bool((n - previous <= tolerance * n).all()):
                break
    if torch.is_grad_enabled():
        n = newton_step(newton_step(n))
    return torch.where(nonzero, n / (n + shift) * inside, 0.0)
