"""The exact gradient of a minimiser with weighted total variation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...fixed_points import Implicit, OnFailure, Solution, State, attach_gradient
from .image_differences import (
    differences,
    differences_adjoint,
    differences_norm_squared,
)
from .tv_groups import TVNorm, group_norm, radii_and_ratios


@torch.no_grad()
def connected_components(joined: Tensor) -> Tensor:
    r"""
    Label the connected components of a grid of pixels.

    In each round every pixel takes the smallest label of its neighbours and passes it
    to the pixel that its old label names; then labels are replaced by the labels of the
    pixels that they name, until none changes. A component merges with at least one
    other in a round, so the number of rounds grows with the logarithm of its size.

    :param torch.Tensor joined: boolean, of shape :math:`(B, C, d, N_1, \ldots, N_d)`:
        whether a pixel is joined to the next one along axis :math:`d`. The last entry
        of each axis is ignored.
    :return: (:class:`torch.Tensor`) for each pixel the smallest index in its component,
        where :math:`(C, N_1, \ldots, N_d)` of the sample is flattened; of shape
        :math:`(B, n)`.
    """
    batch, shape = joined.shape[0], (*joined.shape[:2], *joined.shape[3:])
    size = joined[:, :, 0].numel() // batch
    # One grid for the whole batch: no edge joins two samples.
    labels = torch.arange(batch * size, device=joined.device)
    pixels = labels.reshape(shape)
    ends = [
        torch.stack(
            [
                pixels.narrow(2 + d, 0, n - 1)[inside],
                pixels.narrow(2 + d, 1, n - 1)[inside],
            ]
        )
        for d, n in enumerate(shape[2:])
        for inside in [joined[:, :, d].narrow(2 + d, 0, n - 1)]
    ]
    start, end = torch.cat(ends, dim=1)
    while True:
        a, b = labels[start], labels[end]
        if torch.equal(a, b):
            offset = size * torch.arange(batch, device=joined.device)[:, None]
            return labels.reshape(batch, size) - offset
        least = torch.minimum(a, b)
        # Hook the tree with the larger root to the smaller root.
        labels = labels.scatter_reduce(0, torch.maximum(a, b), least, "amin")
        while True:
            followed = labels[labels]
            if torch.equal(followed, labels):
                break
            labels = followed


@dataclass(frozen=True)
class Jumps:
    r"""
    The jumps of a minimiser: the groups of differences that are not zero.

    :param torch.Tensor field: boolean, of the shape of the groups: whether a group
        jumps.
    :param torch.Tensor labels: labels of the regions between jumps, where the image is
        constant, see
        :func:`~deepinv_equilibrium.optim.total_variation.connected_components`.
    """

    field: Tensor
    labels: Tensor

    @classmethod
    @torch.no_grad()
    def of(
        cls, x: Tensor, dual: Tensor, weight: Tensor, norm: TVNorm, error: Tensor
    ) -> Jumps:
        r"""
        Find the jumps of an image that is accurate to ``error``.

        A group jumps if a step on the dual leaves its ball,
        :math:`\|p_i + (S D x)_i / \|D\|^2\| > \bar\lambda_i`, and if its difference is
        large enough. All duals of a minimiser agree on the first condition, except
        where a flat region has a dual on the border of its ball. The second condition
        excludes these groups: :math:`\|(S D x)_i\|` must exceed a tenth of the largest
        difference that ``error`` explains at a pixel. (On noisy photos, larger
        multiples lose true jumps of a rough solution, and without the condition the
        adjoint system is ill-conditioned.)

        :param torch.Tensor x: the minimiser.
        :param torch.Tensor dual: the dual :math:`p`.
        :param torch.Tensor weight: :math:`\Lambda`, with the axes of the differences.
        :param str norm: ``"isotropic"`` or ``"componentwise"``.
        :param torch.Tensor error: :math:`\ell_2` error of each sample, of shape
            :math:`(B,)`; it is assumed to be spread evenly over the pixels.
        :return: (Jumps) the jumps.
        """
        radius, ratio = radii_and_ratios(weight, norm)
        moved = differences(x) if ratio is None else differences(x) * ratio
        size = group_norm(moved, norm)
        scale = differences_norm_squared(x.shape[2:]) or 1.0
        leaves = group_norm(dual + moved / scale, norm) > radius
        threshold = 0.1 * 2 * error / x[0].numel() ** 0.5
        threshold = threshold.to(size.dtype).reshape(-1, *[1] * (size.ndim - 1))
        jumps = leaves & (size > threshold)
        if ratio is not None:
            # The derivative in a weight of 0 is one-sided. If the weights of all
            # directions are 0, it is the derivative of their norm.
            jumps &= radius > 0
        return cls(jumps, connected_components(~jumps & (weight > 0).expand_as(moved)))


class PiecewiseConstantStep:
    r"""
    Gradient descent over the images that are constant where a minimiser is constant.

    Near a minimiser :math:`x^*` of :math:`f(x) + \|\Lambda D x\|_{2, 1}` the flat
    regions stay flat (if no dual is on the border of its ball there) and elsewhere the
    energy is smooth. Let the columns of :math:`E` be the scaled indicators of the
    components. The step on their coordinates is

    .. math::

        c \mapsto c - E^\top \left( \nabla f(x^* + E c) + D^\top \Lambda q \right),
        \qquad q_i = \frac{(\Lambda D (x^* + E c))_i}{\|(\Lambda D (x^* + E c))_i\|}
        \text{ at jumps, } 0 \text{ elsewhere,}

    with the fixed point :math:`c = 0` and the image as output. The Jacobian is
    :math:`I - E^\top H E` with the Hessian :math:`H \succeq \nabla^2 f`. It is
    symmetric, so conjugate gradients solve the adjoint system. The step does not
    contain the dual, which is not unique: the adjoint system of an iteration on the
    dual is singular.

    :param torch.Tensor x: the minimiser.
    :param Callable data_gradient: :math:`x \mapsto \nabla f(x)`.
    :param torch.Tensor weight: :math:`\Lambda`, with the axes of the differences.
    :param str norm: ``"isotropic"`` or ``"componentwise"``.
    :param Jumps jumps: the jumps of :math:`x`.
    """

    def __init__(
        self,
        x: Tensor,
        data_gradient: Callable[[Tensor], Tensor],
        weight: Tensor,
        norm: TVNorm,
        jumps: Jumps,
    ):
        self.x, self.weight, self.norm, self.jumps = x, weight, norm, jumps
        self.data_gradient = data_gradient
        self._scale = self._inverse_root_of_diagonal()

    def step_and_output(self, c: State) -> tuple[State, Tensor]:
        """Return the next coordinates, and the image of the given ones."""
        assert isinstance(c, Tensor)
        move = (c * self._scale).gather(1, self.jumps.labels)
        x = self.x + move.reshape(self.x.shape)
        gradient = self.data_gradient(x) + differences_adjoint(self.force(x))
        return c - self._totals(gradient.reshape(c.shape)) * self._scale, x

    def __call__(self, c: State) -> State:
        """Return the next coordinates."""
        return self.step_and_output(c)[0]

    def force(self, x: Tensor) -> Tensor:
        r"""Return :math:`\Lambda q`, of the shape of the differences."""
        field, weight = differences(x), self.weight
        if self.norm == "componentwise" and not x.is_complex():
            return torch.where(self.jumps.field, weight * field.sign(), 0.0)
        if self.norm == "isotropic" and weight.shape[2] > 1:
            # q does not depend on the radius; to divide by it avoids underflow.
            radius = weight.detach().amax(dim=2, keepdim=True)
            field = field * (weight / torch.where(radius > 0, radius, 1.0))
        size = torch.where(self.jumps.field, group_norm(field, self.norm), 1.0)
        return torch.where(self.jumps.field, weight * field / size, 0.0)

    @torch.no_grad()
    def _inverse_root_of_diagonal(self) -> Tensor:
        r"""Return :math:`\operatorname{diag}(E^\top (I + D^\top \Lambda \partial q
        \Lambda D) E)^{-1/2}` for indicators :math:`E`, without the products of two
        directions: any positive scale is valid."""
        weight, ratio = radii_and_ratios(self.weight, self.norm)
        field = differences(self.x)
        if ratio is not None:
            field, weight = field * ratio, weight * ratio.square()
        size = group_norm(field, self.norm)
        safe = torch.where(self.jumps.field, size, 1.0)
        bending = weight * (1 - (field.abs() / safe).square()).clamp_min(0) / safe
        bending = torch.where(self.jumps.field, bending, 0.0).expand(field.shape)
        labels = self.jumps.labels.reshape(self.x.shape)
        diagonal = torch.ones_like(self.x.real)
        for d, n in enumerate(self.x.shape[2:]):
            axis = 2 + d
            crossing = labels.narrow(axis, 1, n - 1) != labels.narrow(axis, 0, n - 1)
            add = bending[:, :, d].narrow(axis, 0, n - 1) * crossing
            diagonal.narrow(axis, 0, n - 1).add_(add)
            diagonal.narrow(axis, 1, n - 1).add_(add)
        return self._totals(diagonal.reshape(len(self.x), -1)).clamp_min(1).rsqrt()

    def _totals(self, values: Tensor) -> Tensor:
        """Sum over each component, at its smallest index."""
        return torch.zeros_like(values).scatter_add(1, self.jumps.labels, values)


def attach_implicit_gradient(
    step: PiecewiseConstantStep, adjoint: Implicit, on_failure: OnFailure
) -> Solution:
    r"""
    Return a minimiser with the gradient of the implicit function theorem,

    .. math::

        \frac{\partial \ell}{\partial \theta} = -u^\top \partial_\theta
        \left( \nabla f(x^*) + D^\top \Lambda q \right), \qquad
        E^\top H E\, w = E^\top \frac{\partial \ell}{\partial x^*}, \qquad u = E w,

    for every tensor that :math:`f` and :math:`\Lambda` depend on.

    :param PiecewiseConstantStep step: the step at the minimiser.
    :param deepinv_equilibrium.Implicit adjoint: its solver solves the adjoint system,
        which is symmetric positive definite, as ``CG`` requires.
    :param str on_failure: what to do if the adjoint system is not solved.
    :return: (deepinv_equilibrium.Solution) the solution; ``output`` is the minimiser
        with its gradient, and ``backward`` the report of the adjoint system.
    """
    c = step.x.new_zeros(step.x.shape).reshape(len(step.x), -1)
    return attach_gradient(step, c, adjoint, on_failure)
