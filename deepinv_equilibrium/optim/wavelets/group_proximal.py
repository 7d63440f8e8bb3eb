"""The proximal operator of a sum of weighted group norms."""

from __future__ import annotations

import torch
from torch import Tensor

_MAX_STEPS = 50


def group_prox(
    v: Tensor, weight: Tensor, gamma: Tensor | float, group: tuple[int, ...]
) -> Tensor:
    r"""
    Evaluate the proximal operator of a sum of weighted group norms,

    .. math::

        \hat w = \operatorname*{arg\,min}_w \tfrac12 \|w - v\|^2
        + \gamma \sum_k \|\theta w_k\|_2,

    exactly and with its exact gradient, also for weights that differ within a group.

    A group is 0 if :math:`\|\theta^{-1} v_k\| \leq \gamma`. Otherwise the optimality
    conditions give

    .. math::

        w_i = \frac{n}{n + \gamma \theta_i^2} v_i, \qquad n = \|\theta w\| > 0 \text{
        the root of } \Bigl(\sum_i \frac{\theta_i^2 v_i^2}{(n + \gamma
        \theta_i^2)^2}\Bigr)^{-1/2} = 1.

    The left side of the equation for :math:`n` is a power mean with exponent -2 of
    increasing affine functions, and is therefore concave and increasing: Newton's
    method from the left of the root increases to the root and never exceeds it. For
    equal weights the function is linear, and the first step gives the soft threshold of
    a norm. (The secular equation of trust-region methods has the same form.)

    Two Newton steps from the root are recorded. Their first three derivatives are the
    derivatives of the root that the implicit function theorem gives.

    :param torch.Tensor v: :math:`v`, real.
    :param torch.Tensor weight: :math:`\theta > 0`, broadcastable to ``v`` and with as
        many axes.
    :param torch.Tensor, float gamma: :math:`\gamma \geq 0`, broadcastable to ``v``,
        constant within a group.
    :param tuple group: the axes of ``v`` that form a group.
    :return: (:class:`torch.Tensor`) :math:`\hat w`, of the shape of ``v``.
    """

    def norm(x: Tensor) -> Tensor:
        # Much faster than vector_norm over axes other than the last.
        return x.square().sum(group, keepdim=True).sqrt()

    with torch.no_grad():
        nonzero = norm(v / weight) > gamma
    # In groups that are 0 the derivatives would be NaN: compute with 1 instead.
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
        # After a step below this tolerance, rounding hides all further ones.
        tolerance = torch.finfo(v.dtype).eps ** 0.75
        for _ in range(_MAX_STEPS):
            previous, n = n, torch.where(nonzero, newton_step(n), 1.0)
            if bool((n - previous <= tolerance * n).all()):
                break
    if torch.is_grad_enabled():
        n = newton_step(newton_step(n))
    return torch.where(nonzero, n / (n + shift) * inside, 0.0)
