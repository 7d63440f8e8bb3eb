"""The Jacobian of a step in its state, at one point, by its products."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ...fixed_points import State, StateLayout, Step

MISMATCH = 1e-3
"""Of two products that should be adjoint, relative: far above rounding in float32."""


class StateJacobian:
    r"""
    :math:`J = \partial f(x)` of a step at one state, on packed states of shape
    :math:`(B, n)`; samples do not mix, so that :math:`J` is block diagonal.

    The step is evaluated and recorded once. :math:`J^\top w` is one backward pass, and
    :math:`J v` the derivative of :math:`w \mapsto J^\top w`, which is another; where
    the step cannot be differentiated twice, which a dot test finds, :math:`J v` is
    taken in forward mode.

    :param Callable step: :math:`f`.
    :param torch.Tensor, tuple state: where.
    """

    def __init__(self, step: Step, state: State):
        self.layout = StateLayout.of(state, "state")
        self.step = step
        self.x = self.layout.pack(state).detach().clone().requires_grad_()
        with torch.enable_grad():
            self.value = self._evaluate(self.x)
        self._cotangent = torch.zeros_like(self.value, requires_grad=True)
        self._pulled: Tensor | None = None
        self._uses_forward_mode: bool | None = None

    def adjoint(self, w: Tensor, create_graph: bool = False) -> Tensor:
        r"""
        :math:`J^\top w`.

        :param torch.Tensor w: cotangents, of shape :math:`(B, n)`.
        :param bool create_graph: whether it shall be differentiable in what the step
            closes over, such as weights.
        """
        if not self.value.requires_grad:
            return torch.zeros_like(self.x)
        (product,) = torch.autograd.grad(
            self.value,
            self.x,
            w,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )
        return torch.zeros_like(self.x) if product is None else product

    def product(self, v: Tensor) -> Tensor:
        r"""
        :math:`J v`.

        :param torch.Tensor v: tangents, of shape :math:`(B, n)`.
        :raises ValueError: if the step can be differentiated neither twice nor in
            forward mode.
        """
        if not self.value.requires_grad:
            return torch.zeros_like(v)
        if self._uses_forward_mode is None:
            self._uses_forward_mode = not self._is_twice_differentiable()
        return (
            self._in_forward_mode(v)
            if self._uses_forward_mode
            else self._twice_backward(v)
        )

    def _evaluate(self, x: Tensor) -> Tensor:
        value = self.step(self.layout.unpack(x))
        self.layout.check(value)
        return self.layout.pack(value)

    def _twice_backward(self, v: Tensor) -> Tensor:
        if self._pulled is None:
            with torch.enable_grad():
                self._pulled = self.adjoint(self._cotangent, create_graph=True)
        (product,) = torch.autograd.grad(
            self._pulled, self._cotangent, v, retain_graph=True
        )
        return product

    def _is_twice_differentiable(self) -> bool:
        """Whether products by two backward passes are right: a backward that cannot be
        differentiated raises, or is left out without a word."""
        generator = torch.Generator().manual_seed(0)
        v, w = (
            torch.randn(self.x.shape, generator=generator, dtype=torch.float64).to(
                self.x
            )
            for _ in range(2)
        )
        try:
            product = self._twice_backward(v)
        except RuntimeError:
            return False
        pulled = self.adjoint(w)
        scale = product.norm() * w.norm() + v.norm() * pulled.norm()
        mismatch = (product * w).sum() - (v * pulled).sum()
        return bool(mismatch.abs() <= MISMATCH * scale)

    def _in_forward_mode(self, v: Tensor) -> Tensor:
        try:
            with torch.no_grad(), warnings.catch_warnings():
                # torch warns of itself when it loads its forward rules.
                warnings.simplefilter("ignore", FutureWarning)
                pair = torch.func.jvp(self._evaluate, (self.x.detach(),), (v,))
        except RuntimeError as error:
            raise ValueError(
                "the Jacobian of the step has no products with vectors: it can be "
                "differentiated neither twice nor in forward mode "
                f"({str(error).splitlines()[0]}). Replace the operation that is named."
            ) from error
        return pair[1]
