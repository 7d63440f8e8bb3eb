"""States of a step, and their packing into one real vector a sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

State: TypeAlias = Tensor | tuple[Tensor, ...]


def inner_products(basis: Tensor, x: Tensor) -> Tensor:
    r"""
    Inner products of each sample's vectors with its state.

    :param torch.Tensor basis: vectors, of shape :math:`(B, m, n)`.
    :param torch.Tensor x: packed states, of shape :math:`(B, n)`.
    :return: the products, of shape :math:`(B, m)`.
    """
    # Sample by sample: a batched product rounds differently with the batch size, which
    # the ill-conditioned small systems of accelerated solvers would amplify.
    return torch.stack([rows @ row for rows, row in zip(basis, x, strict=True)])


@dataclass(frozen=True)
class StateLayout:
    r"""
    Shapes of a state, and the isometry between states and real vectors.

    A state is a tensor or a tuple of tensors whose first axis is the batch. Solvers
    work on its packed form, a real matrix of shape :math:`(B, n)`: the components are
    flattened and set side by side, complex ones as their real and imaginary parts, so
    that the Euclidean norm of a row is the norm of that sample's state.

    :param tuple shapes: shape of each component, the batch axis first.
    :param tuple dtypes: dtype of each component.
    :param bool is_tuple: whether the state is a tuple (also when of one component).
    """

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    is_tuple: bool

    @classmethod
    def of(cls, state: State, name: str = "x0") -> StateLayout:
        r"""
        Read the layout of a state.

        :param torch.Tensor, tuple state: the state.
        :param str name: what to call it in an error.
        :raises TypeError: if it is no floating-point tensor or tuple of such.
        :raises ValueError: if it is empty, or the components disagree in batch size,
            precision or device.
        """
        is_tuple = isinstance(state, tuple)
        components: tuple[Tensor, ...] = state if isinstance(state, tuple) else (state,)
        if not components:
            raise ValueError(f"{name} is an empty tuple; a state needs a tensor.")
        for component in components:
            if not isinstance(component, Tensor):
                raise TypeError(
                    f"{name} must be a tensor or a tuple of tensors, got "
                    f"{type(component).__name__}."
                )
            if not (component.is_floating_point() or component.is_complex()):
                raise TypeError(
                    f"{name} must be of a floating-point dtype, got {component.dtype}; "
                    "convert it, e.g. with .float()."
                )
            if component.ndim == 0 or component.numel() == 0:
                raise ValueError(
                    f"{name} must have a batch axis and at least one entry, got shape "
                    f"{tuple(component.shape)}."
                )
        for what, values in (
            ("batch size", {c.shape[0] for c in components}),
            ("precision", {c.real.dtype for c in components}),
            ("device", {c.device for c in components}),
        ):
            if len(values) > 1:
                raise ValueError(
                    f"the components of {name} must agree in {what}, got "
                    f"{sorted(map(str, values))}."
                )
        return cls(
            tuple(tuple(c.shape) for c in components),
            tuple(c.dtype for c in components),
            is_tuple,
        )

    @property
    def batch_size(self) -> int:
        """Number of samples."""
        return self.shapes[0][0]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Real entries of each component in a sample."""
        return tuple(
            math.prod(shape[1:]) * (2 if dtype.is_complex else 1)
            for shape, dtype in zip(self.shapes, self.dtypes, strict=True)
        )

    def pack(self, state: State) -> Tensor:
        r"""
        :param torch.Tensor, tuple state: a state of this layout.
        :return: the matrix of shape :math:`(B, n)`.
        """
        components = state if isinstance(state, tuple) else (state,)
        rows = [
            (torch.view_as_real(c.resolve_conj()) if c.is_complex() else c).reshape(
                c.shape[0], -1
            )
            for c in components
        ]
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)

    def unpack(self, packed: Tensor) -> State:
        r"""
        :param torch.Tensor packed: a matrix of shape :math:`(B, n)`.
        :return: the state it stands for.
        """
        if len(self.shapes) == 1 and not self.dtypes[0].is_complex:
            image = packed.reshape(self.shapes[0])
            return (image,) if self.is_tuple else image
        components, start = [], 0
        for size, shape, dtype in zip(
            self.sizes, self.shapes, self.dtypes, strict=True
        ):
            # Not split: views of which there are several cannot be changed in place.
            part = packed.narrow(1, start, size)
            start += size
            if dtype.is_complex:
                # Not a view: after a real part of odd size its strides would not fit.
                part = torch.complex(*part.reshape(*shape, 2).unbind(-1))
            components.append(part.reshape(shape))
        return tuple(components) if self.is_tuple else components[0]

    def check(self, state: State) -> None:
        r"""
        Refuse a value of the step that is no state of this layout.

        :param torch.Tensor, tuple state: what the step returned.
        :raises ValueError: if shapes, dtypes or the number of components differ.
        """
        if self._fits(state):
            return
        got = StateLayout.of(state, "the value of the step")
        if got != self:
            raise ValueError(
                "a step must return a state like the one it is given: expected "
                f"{self._describe()}, got {got._describe()}."
            )

    def _fits(self, state: State) -> bool:
        """Whether shapes and dtypes are those of this layout: fast, as it is asked at
        every evaluation."""
        if isinstance(state, tuple) != self.is_tuple:
            return False
        components = state if isinstance(state, tuple) else (state,)
        return len(components) == len(self.shapes) and all(
            isinstance(c, Tensor) and c.shape == shape and c.dtype == dtype
            for c, shape, dtype in zip(
                components, self.shapes, self.dtypes, strict=True
            )
        )

    def _describe(self) -> str:
        parts = ", ".join(
            f"{shape} of {str(dtype).removeprefix('torch.')}"
            for shape, dtype in zip(self.shapes, self.dtypes, strict=True)
        )
        return f"a tuple ({parts})" if self.is_tuple else parts
