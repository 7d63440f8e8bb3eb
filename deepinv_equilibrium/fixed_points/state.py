"""States of a step, and their packing into one real vector per sample."""

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
    Return the inner products of each sample's vectors with its state.

    :param torch.Tensor basis: :math:`m` vectors per sample, of shape
        :math:`(B, m, n)`.
    :param torch.Tensor x: packed states, of shape :math:`(B, n)`.
    :return: the products, of shape :math:`(B, m)`.
    """
    # One sample at a time: the rounding of a batched product depends on the batch
    # size, and the ill-conditioned small systems of accelerated solvers amplify it.
    return torch.stack([rows @ row for rows, row in zip(basis, x, strict=True)])


def combinations(basis: Tensor, weights: Tensor) -> Tensor:
    r"""
    Return the linear combination of each sample's vectors with its weights.

    :param torch.Tensor basis: :math:`m` vectors per sample, of shape
        :math:`(B, m, n)`.
    :param torch.Tensor weights: the weights, of shape :math:`(B, m)`.
    :return: the combinations, of shape :math:`(B, n)`.
    """
    # One sample at a time and with contiguous weights, for the reason above.
    pairs = zip(basis, weights.contiguous(), strict=True)
    return torch.stack([row @ rows for rows, row in pairs])


@dataclass(frozen=True)
class StateLayout:
    r"""
    Shapes of a state, and the isometry between states and real vectors.

    A state is a tensor or a tuple of tensors whose first axis is the batch. Solvers
    work on packed states, real matrices of shape :math:`(B, n)`: the components are
    flattened and concatenated, complex ones as real and imaginary parts. The Euclidean
    norm of a row is therefore the norm of that sample's state.

    :param tuple shapes: shape of each component, with the batch axis.
    :param tuple dtypes: dtype of each component.
    :param bool is_tuple: whether the state is a tuple; a tuple may have one component.
    """

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    is_tuple: bool

    @classmethod
    def of(cls, state: State, name: str = "x0") -> StateLayout:
        r"""
        Return the layout of a state.

        :param torch.Tensor, tuple state: the state.
        :param str name: name of the state in error messages. Default: ``"x0"``.
        :return: (StateLayout) the layout.
        :raises TypeError: if ``state`` is not a floating-point or complex tensor, nor a
            tuple of such tensors.
        :raises ValueError: if ``state`` is empty, or its components differ in batch
            size, precision or device.
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
        """Number of real entries of each component, per sample."""
        return tuple(
            math.prod(shape[1:]) * (2 if dtype.is_complex else 1)
            for shape, dtype in zip(self.shapes, self.dtypes, strict=True)
        )

    def pack(self, state: State) -> Tensor:
        r"""
        Pack a state into a real matrix.

        :param torch.Tensor, tuple state: a state of this layout.
        :return: (torch.Tensor) the packed state, of shape :math:`(B, n)`.
        """
        components = state if isinstance(state, tuple) else (state,)
        if len(components) == 1:
            (c,) = components
            real = torch.view_as_real(c.resolve_conj()) if c.is_complex() else c
            return real.reshape(c.shape[0], -1)
        # The backward of view_as_real fails for a slice at an odd offset, which the
        # backward of cat makes behind a real component of odd size.
        parts = [
            torch.stack((c.real, c.imag), dim=-1) if c.is_complex() else c
            for c in components
        ]
        return torch.cat([part.reshape(part.shape[0], -1) for part in parts], dim=1)

    def unpack(self, packed: Tensor) -> State:
        r"""
        Unpack a real matrix into a state; the inverse of :meth:`pack`.

        :param torch.Tensor packed: a packed state, of shape :math:`(B, n)`.
        :return: (torch.Tensor, tuple) the state.
        """
        if len(self.shapes) == 1 and not self.dtypes[0].is_complex:
            image = packed.reshape(self.shapes[0])
            return (image,) if self.is_tuple else image
        components, start = [], 0
        for size, shape, dtype in zip(
            self.sizes, self.shapes, self.dtypes, strict=True
        ):
            # torch.split would return views that autograd forbids to change in place.
            part = packed.narrow(1, start, size)
            start += size
            if dtype.is_complex:
                # view_as_complex would fail behind a real component of odd size,
                # because of its strides.
                part = torch.complex(*part.reshape(*shape, 2).unbind(-1))
            components.append(part.reshape(shape))
        return tuple(components) if self.is_tuple else components[0]

    def check(self, state: State) -> None:
        r"""
        Raise unless a value of the step has this layout.

        :param torch.Tensor, tuple state: the value that the step returned.
        :raises TypeError: if the value is not a state at all, see :meth:`of`.
        :raises ValueError: if its shapes, its dtypes or its number of components
            differ from this layout.
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
        """Whether a state has the shapes and dtypes of this layout."""
        # Runs at every evaluation of the step, so it builds no layout.
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
