"""The Jacobian of a step in its state, at one state."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ...fixed_points import State, StateLayout, Step
from ...fixed_points.recorded_jacobian import RecordedJacobian

MISMATCH = 1e-3
"""Largest relative mismatch of two products that are adjoint to each other; far above
the rounding of float32."""


class StateJacobian:
    r"""
    The Jacobian :math:`J = \partial f(x)` of a step at one state, on packed states of
    shape :math:`(B, n)`. Samples do not mix, so that :math:`J` is block diagonal.

    The step is evaluated and recorded once. Both :math:`J^\top w` and :math:`J v` are
    backward passes, the latter through the former. If the step cannot be differentiated
    twice, which a dot test detects, :math:`J v` is computed in forward mode.

    :param Callable step: :math:`f`.
    :param torch.Tensor, tuple state: :math:`x`.
    """

    def __init__(self, step: Step, state: State):
        self.layout = StateLayout.of(state, "state")
        self.step = step
        self.x = self.layout.pack(state).detach().clone().requires_grad_()
        with torch.enable_grad():
            self.value = self._evaluate(self.x)
        self._recorded = RecordedJacobian(self.value, (self.x,))
        self._uses_forward_mode: bool | None = None

    def adjoint(self, w: Tensor, create_graph: bool = False) -> Tensor:
        r"""
        Return :math:`J^\top w`.

        :param torch.Tensor w: cotangents, of shape :math:`(B, n)`.
        :param bool create_graph: whether the result is differentiable in the tensors
            that the step closes over, such as weights. Default: ``False``.
        :return: the product, of shape :math:`(B, n)`.
        """
        return self._recorded.adjoint(w, create_graph)[0]

    def product(self, v: Tensor) -> Tensor:
        r"""
        Return :math:`J v`.

        :param torch.Tensor v: tangents, of shape :math:`(B, n)`.
        :return: the product, of shape :math:`(B, n)`.
        :raises ValueError: if the step can be differentiated neither twice nor in
            forward mode.
        """
        if self._uses_forward_mode is None:
            self._uses_forward_mode = not self._is_twice_differentiable()
        if self._uses_forward_mode:
            return self._in_forward_mode(v)
        return self._recorded.product([v])

    def _evaluate(self, x: Tensor) -> Tensor:
        value = self.step(self.layout.unpack(x))
        self.layout.check(value)
        return self.layout.pack(value)

    def _is_twice_differentiable(self) -> bool:
        """Return whether two backward passes give the right product. A backward pass
        that cannot be differentiated raises, or its derivative is silently zero."""
        generator = torch.Generator().manual_seed(0)
        w = torch.randn(self.x.shape, generator=generator, dtype=torch.float64)
        w = w.to(self.x)
        try:
            pulled = self.adjoint(w)
            product = self._recorded.product([pulled])
        except RuntimeError:
            return False
        # Both sides of <J J^T w, w> = <J^T w, J^T w> are large unless J^T w vanishes.
        square = pulled.square().sum()
        mismatch = (product * w).sum() - square
        return bool(mismatch.abs() <= MISMATCH * (product.norm() * w.norm() + square))

    def _in_forward_mode(self, v: Tensor) -> Tensor:
        try:
            with torch.no_grad(), warnings.catch_warnings():
                # torch itself warns when it loads its forward rules.
                warnings.simplefilter("ignore", FutureWarning)
                pair = torch.func.jvp(self._evaluate, (self.x.detach(),), (v,))
        except RuntimeError as error:
            raise ValueError(
                "the Jacobian of the step has no products with vectors: it can be "
                "differentiated neither twice nor in forward mode "
                f"({str(error).splitlines()[0]}). Replace the operation that is named."
            ) from error
        return pair[1]
