"""The exact gradient of a minimiser with weighted total variation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...fixed_points import Implicit, OnFailure, Restarts, Solution, State, fixed_point
from .flat_components import connected_components
from .image_differences import (
    differences,
    differences_adjoint,
    differences_norm_squared,
)
from .tv_groups import TVNorm, group_norm, radii_and_ratios


@dataclass(frozen=True)
class Jumps:
    r"""
    Where the differences of a minimiser do not vanish.

    :param torch.Tensor field: boolean, of the shape of the groups: a jump.
    :param torch.Tensor labels: connected components of the rest, where the image is
        constant: see
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
        Tell jumps from flat places, in an image that is accurate to ``error``.

        A group jumps where a step on the dual leaves its ball,
        :math:`\|p_i + (S D x)_i / \|D\|^2\| > \bar\lambda_i`, which of the many duals
        of a minimiser all agree on but for a field on the border of a ball at a flat
        place; there :math:`\|(S D x)_i\|` is below a tenth of what the error amounts to
        at a pixel. (Measured on noisy photos: for larger multiples true jumps of a
        rough solution are lost, for none the adjoint system is ill-conditioned.)

        :param torch.Tensor x: the minimiser.
        :param torch.Tensor dual: its dual :math:`p`.
        :param torch.Tensor weight: :math:`\Lambda`, with the axes of the differences.
        :param str norm: ``"isotropic"`` or ``"componentwise"``.
        :param torch.Tensor error: :math:`\ell_2` error of each sample, of shape
            :math:`(B,)`, taken to be spread evenly over the pixels.
        :return: (Jumps) what jumps.
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
            # Where a weight is 0 its derivative is one-sided, but where those of all
            # directions are, it is that of their norm.
            jumps &= radius > 0
        return cls(jumps, connected_components(~jumps & (weight > 0).expand_as(moved)))


class PiecewiseConstantStep:
    r"""
    Gradient descent among the images with the flat places of a minimiser.

    Near a minimiser :math:`x^*` of :math:`f(x) + \|\Lambda D x\|_{2, 1}` the flat
    places stay flat (where no dual is on the border of its ball there) and elsewhere
    the energy is smooth. With the indicators of the components as the columns of
    :math:`E`, scaled, the step on coordinates is

    .. math::

        c \mapsto c - E^\top \left( \nabla f(x^* + E c) + D^\top \Lambda q \right),
        \qquad q_i = \frac{(\Lambda D (x^* + E c))_i}{\|(\Lambda D (x^* + E c))_i\|}
        \text{ at jumps, } 0 \text{ elsewhere,}

    whose fixed point is :math:`c = 0` and whose output is the image. Its Jacobian is
    symmetric, :math:`I - E^\top H E` with the Hessian :math:`H \succeq \nabla^2 f`, so
    that the adjoint system is one for conjugate gradients; it does not know the dual,
    which is not unique, and is not singular, as that of an iteration on the dual is.

    :param torch.Tensor x: the minimiser.
    :param Callable data_gradient: :math:`x \mapsto \nabla f(x)`.
    :param torch.Tensor weight: :math:`\Lambda`, with the axes of the differences.
    :param str norm: ``"isotropic"`` or ``"componentwise"``.
    :param Jumps jumps: where :math:`x` jumps.
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
        """The next coordinates, and the image of these."""
        assert isinstance(c, Tensor)
        move = (c * self._scale).gather(1, self.jumps.labels)
        x = self.x + move.reshape(self.x.shape)
        gradient = self.data_gradient(x) + differences_adjoint(self.force(x))
        return c - self._totals(gradient.reshape(c.shape)) * self._scale, x

    def __call__(self, c: State) -> State:
        """The next coordinates."""
        return self.step_and_output(c)[0]

    def force(self, x: Tensor) -> Tensor:
        r""":math:`\Lambda q`, of the shape of the differences."""
        field, weight = differences(x), self.weight
        if self.norm == "componentwise" and not x.is_complex():
            return torch.where(self.jumps.field, weight * field.sign(), 0.0)
        if self.norm == "isotropic" and weight.shape[2] > 1:
            # q does not depend on the radius, which keeps tiny weights from underflow.
            radius = weight.detach().amax(dim=2, keepdim=True)
            field = field * (weight / torch.where(radius > 0, radius, 1.0))
        size = torch.where(self.jumps.field, group_norm(field, self.norm), 1.0)
        return torch.where(self.jumps.field, weight * field / size, 0.0)

    @torch.no_grad()
    def _inverse_root_of_diagonal(self) -> Tensor:
        r""":math:`\operatorname{diag}(E^\top (I + D^\top \Lambda \partial q \Lambda D)
        E)^{-1/2}` for indicators :math:`E`, but for the products of different
        directions: any positive scale will do."""
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
        """Sums over the components, at their least index."""
        return torch.zeros_like(values).scatter_add(1, self.jumps.labels, values)


def attach_implicit_gradient(
    step: PiecewiseConstantStep, adjoint: Implicit, on_failure: OnFailure
) -> Solution:
    r"""
    Give a minimiser the gradient of the implicit function theorem,

    .. math::

        \frac{\partial \ell}{\partial \theta} = -u^\top \partial_\theta
        \left( \nabla f(x^*) + D^\top \Lambda q \right), \qquad
        E^\top H E\, w = E^\top \frac{\partial \ell}{\partial x^*}, \qquad u = E w,

    for everything that :math:`f` and :math:`\Lambda` close over.

    :param PiecewiseConstantStep step: the step that has the minimiser.
    :param deepinv_equilibrium.Implicit adjoint: has the solver of the adjoint system,
        which is symmetric positive definite: ``CG`` is made for it.
    :param str on_failure: what to do where that is not solved.
    :return: the solution, whose ``output`` is the minimiser with its gradient, and
        whose ``backward`` reports.
    """
    c = step.x.new_zeros(step.x.shape).reshape(len(step.x), -1)
    once = Restarts(max_iter=1, rtol=0.0)
    return fixed_point(step, c, once, adjoint, on_failure)
