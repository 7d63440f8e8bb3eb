"""Derivatives of a step, in its state and in its parameters, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...fixed_points import Step
from ..bounds import Bound, Kind
from ..spectra.lanczos import largest_eigenvalue

FEW_PARAMETERS = 32
"""Up to so many, the parameter Jacobian is computed column by column."""

LANCZOS_STEPS = 12
LANCZOS_DELTA = 1e-3


def sample_norms(x: Tensor) -> Tensor:
    r"""
    :param torch.Tensor x: of shape :math:`(B, ...)`.
    :return: the norm of each sample, in float64, of shape :math:`(B,)`.
    """
    return x.detach().flatten(1).double().norm(dim=1)


class StepJacobians:
    r"""
    :math:`J = \partial_x f` and :math:`B = \partial_\theta f` of a step.

    :param Callable step: :math:`f`, on states that are one real tensor.
    :param Sequence parameters: the tensors :math:`\theta`.
    """

    def __init__(self, step: Step, parameters: Sequence[Tensor]):
        self.step = step
        self.parameters = list(parameters)

    @property
    def has_few_parameters(self) -> bool:
        """Whether norms of :math:`B` are computed, not estimated."""
        return sum(p.numel() for p in self.parameters) <= FEW_PARAMETERS

    def norms_rest_on(self, batch_size: int) -> Bound:
        r"""What norms of :math:`B` rest on; its value means nothing."""
        if self.has_few_parameters:
            return Bound(0.0, source="product by product")
        delta = min(batch_size * LANCZOS_DELTA, 0.5)
        return Bound(0.0, Kind.ESTIMATED, f"{LANCZOS_STEPS} Lanczos steps", delta=delta)

    def state_vjp(self, x: Tensor, cotangent: Tensor) -> Tensor:
        r""":math:`J(x)^\top c`, of the shape of :math:`x`."""
        x = x.detach().requires_grad_()
        value = self._value(x)
        if not value.requires_grad:
            return torch.zeros_like(x)
        (product,) = torch.autograd.grad(value, x, cotangent, allow_unused=True)
        return torch.zeros_like(x) if product is None else product

    @torch.enable_grad()
    def columns(self, x: Tensor) -> Tensor:
        r""":math:`B(x)` in float64, of shape :math:`(B, n, p)`."""
        value = self._value(x.detach())
        w = torch.zeros_like(value, requires_grad=True)
        zero = torch.zeros_like(value)
        columns = []
        # Products B u by differentiating w -> B^T w: forward mode would have to swap
        # the parameters inside modules.
        for gradient, parameter in zip(
            self._gradients(value, w, create_graph=True), self.parameters, strict=True
        ):
            for k in range(parameter.numel()):
                column = None
                if gradient is not None and gradient.requires_grad:
                    (column,) = torch.autograd.grad(
                        gradient.flatten()[k], w, retain_graph=True, allow_unused=True
                    )
                columns.append(zero if column is None else column)
        return torch.stack([c.detach().flatten(1).double() for c in columns], dim=2)

    def gradient_norm(self, x: Tensor, cotangent: Tensor) -> float:
        r"""
        :param torch.Tensor x: a state.
        :param torch.Tensor cotangent: :math:`c`, of its shape.
        :return: :math:`\|B(x)^\top c\|`, of the batch.
        """
        gradients = self._gradients(self._value(x.detach()), cotangent)
        norms = [float(g.double().norm()) for g in gradients if g is not None]
        return math.hypot(*norms)

    def parameter_norms(self, x: Tensor) -> Tensor:
        r"""
        :param torch.Tensor x: a state.
        :return: :math:`\|B_b(x)\|` of each sample, of shape :math:`(B,)`: exact but for
            rounding for few parameters, else a probabilistic bound by Lanczos.
        """
        if self.has_few_parameters:
            return largest_singular_values(self.columns(x))
        value = self._value(x.detach())
        w = torch.zeros_like(value, requires_grad=True)
        gradients = self._gradients(value, w, create_graph=True)
        norms = [self._lanczos(value, w, gradients, b) for b in range(len(value))]
        return torch.tensor(norms, dtype=torch.float64, device=x.device)

    def parameter_change(self, x: Tensor, other: Tensor, cotangent: Tensor) -> Tensor:
        r"""
        How much :math:`B` differs between two states: in norm for few parameters, else
        along a cotangent, :math:`\|(B(x_1) - B(x_2))^\top c\| / \|c\|`.

        :param torch.Tensor x: :math:`x_1`.
        :param torch.Tensor other: :math:`x_2`.
        :param torch.Tensor cotangent: :math:`c`.
        :return: one number a sample, of shape :math:`(B,)`.
        """
        if self.has_few_parameters:
            return largest_singular_values(self.columns(x) - self.columns(other))
        values = [self._value(state.detach()) for state in (x, other)]
        changes = []
        for b in range(len(x)):
            masked = torch.zeros_like(cotangent)
            masked[b] = cotangent[b]
            first, second = (self._gradients(v, masked) for v in values)
            squares = [
                (p - q).double().square().sum()
                for p, q in zip(first, second, strict=True)
                if p is not None and q is not None
            ]
            zero = torch.zeros((), dtype=torch.float64, device=x.device)
            changes.append(sum(squares, zero).sqrt())
        scale = sample_norms(cotangent)
        return torch.stack(changes) / torch.where(scale > 0, scale, 1.0)

    def _value(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            value = self.step(x)
        assert isinstance(value, Tensor)
        return value

    def _gradients(
        self, value: Tensor, w: Tensor, create_graph: bool = False
    ) -> list[Tensor | None]:
        if not value.requires_grad:
            return [None] * len(self.parameters)
        return list(
            torch.autograd.grad(
                value,
                self.parameters,
                w,
                create_graph=create_graph,
                retain_graph=True,
                allow_unused=True,
            )
        )

    def _lanczos(
        self, value: Tensor, w: Tensor, gradients: list[Tensor | None], sample: int
    ) -> float:
        r""":math:`\|B_b\|` by Lanczos on :math:`B_b B_b^\top`."""
        live = [
            (parameter, gradient)
            for parameter, gradient in zip(self.parameters, gradients, strict=True)
            if gradient is not None and gradient.requires_grad
        ]
        if not live:
            return 0.0

        def apply(q: Tensor) -> Tensor:
            cotangent = torch.zeros_like(value)
            cotangent[sample] = q
            with torch.enable_grad():
                direction = torch.autograd.grad(
                    value, [p for p, _ in live], cotangent, retain_graph=True
                )
                (image,) = torch.autograd.grad(
                    [g for _, g in live], w, direction, retain_graph=True
                )
            return image[sample]

        if not bool(torch.isfinite(value[sample]).all()):
            return math.inf
        return math.sqrt(
            largest_eigenvalue(
                apply,
                value.shape[1:],
                steps=LANCZOS_STEPS,
                delta=LANCZOS_DELTA,
                generator=torch.Generator().manual_seed(0),
                device=value.device,
            ).value
        )


def largest_singular_values(matrices: Tensor) -> Tensor:
    r"""
    :param torch.Tensor matrices: of shape :math:`(B, n, p)`, with :math:`p` small.
    :return: their norms, of shape :math:`(B,)`.
    """
    gram = matrices.mT @ matrices
    if not bool(torch.isfinite(gram).all()):
        return torch.full(gram.shape[:1], torch.inf, dtype=gram.dtype)
    return torch.linalg.eigvalsh(gram)[:, -1].clamp(min=0).sqrt()
