"""Seeded random problems whose solutions are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..fixed_points import State, StateLayout

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    """Return a seeded generator of random numbers."""
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Return standard normal numbers in float64."""
    return torch.randn(shape, generator=generator(seed), dtype=F64)


def as_tensor(state: State) -> Tensor:
    """Return a state that must be a tensor."""
    if not isinstance(state, Tensor):
        raise AssertionError(f"the state is a {type(state).__name__}, not a tensor")
    return state


def contractions(
    rates: Sequence[float], size: int, symmetric: bool = False, seed: int = 0
) -> Tensor:
    r"""
    Return random square matrices with given spectral norms.

    :param Sequence rates: the spectral norms, one a matrix.
    :param int size: number of rows.
    :param bool symmetric: whether they are symmetric.
    :param int seed: seed of the random numbers.
    :return: (:class:`torch.Tensor`) matrices in float64, of shape
        :math:`(B, n, n)`.
    """
    raw = normal(len(rates), size, size, seed=seed)
    if symmetric:
        raw = raw + raw.mT
    norms = torch.linalg.matrix_norm(raw, 2)[:, None, None]
    return raw / norms * torch.tensor(rates, dtype=F64)[:, None, None]


def products(matrices: Tensor, rows: Tensor) -> Tensor:
    """Multiply the vector of each sample by its matrix. The rounding does not depend on
    the batch size."""
    pairs = zip(matrices, rows, strict=True)
    return torch.stack([matrix @ row for matrix, row in pairs])


@dataclass(frozen=True)
class StateKind:
    """Shapes of a state without the batch axis."""

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...] = (F64,)
    is_tuple: bool = False

    def layout(self, batch: int, dtype: torch.dtype = F64) -> StateLayout:
        """Layout of a batch, in float64 or in float32."""
        dtypes = self.dtypes
        if dtype == torch.float32:
            single = {F64: torch.float32, torch.complex128: torch.complex64}
            dtypes = tuple(single[component] for component in dtypes)
        shapes = tuple((batch, *shape) for shape in self.shapes)
        return StateLayout(shapes, dtypes, self.is_tuple)

    @property
    def size(self) -> int:
        """Number of real entries of a sample."""
        return sum(self.layout(1).sizes)


KINDS = {
    "vector": StateKind(((6,),)),
    "image": StateKind(((2, 2, 3),)),
    "tuple": StateKind(((3,), (2, 1)), (F64, torch.complex128), is_tuple=True),
}


@dataclass(frozen=True)
class RandomSteps:
    r"""
    A contraction for each sample, :math:`f_i(x) = J_i x + b_i` or :math:`f_i(x) =
    \tanh(J_i x) + b_i`, and a log of its evaluations.

    :param torch.Tensor matrices: :math:`J_i`, of shape :math:`(B, n, n)`.
    :param torch.Tensor offsets: :math:`b_i`, of shape :math:`(B, n)`.
    :param StateKind kind: the states.
    :param bool affine: which of the two forms.
    """

    matrices: Tensor
    offsets: Tensor
    kind: StateKind = KINDS["vector"]
    affine: bool = True
    recorded: list[bool] = field(default_factory=list)

    @classmethod
    def draw(
        cls, rates: Sequence[float], kind: str = "vector", affine: bool = True
    ) -> RandomSteps:
        """Draw a random step for each rate."""
        known = KINDS[kind]
        matrices = contractions(rates, known.size, seed=1)
        offsets = normal(len(rates), known.size, seed=2)
        return cls(matrices, offsets, known, affine)

    @property
    def layout(self) -> StateLayout:
        """Layout of the states."""
        return self.kind.layout(len(self.offsets), self.offsets.dtype)

    @property
    def start(self) -> State:
        """Initial state: zeros."""
        return self.layout.unpack(torch.zeros_like(self.offsets))

    @property
    def solution(self) -> Tensor:
        """Packed fixed points of affine steps, in closed form and float64."""
        eye = torch.eye(self.kind.size, dtype=F64)
        system = eye - self.matrices.double()
        return torch.linalg.solve(system, self.offsets.double())

    @property
    def evaluations(self) -> int:
        """Number of evaluations of the step."""
        return len(self.recorded)

    def take(self, samples: Sequence[int]) -> RandomSteps:
        """Return the steps of some samples."""
        index = list(samples)
        return dataclasses.replace(
            self,
            matrices=self.matrices[index],
            offsets=self.offsets[index],
            recorded=[],
        )

    def scaled(self, factor: float) -> RandomSteps:
        """Return affine steps whose solutions are scaled by a factor."""
        return dataclasses.replace(self, offsets=factor * self.offsets, recorded=[])

    def to(self, dtype: torch.dtype) -> RandomSteps:
        """Return the steps in another precision."""
        return dataclasses.replace(
            self,
            matrices=self.matrices.to(dtype),
            offsets=self.offsets.to(dtype),
            recorded=[],
        )

    def __call__(self, state: State) -> State:
        """The value of the step."""
        self.recorded.append(torch.is_grad_enabled())
        value = products(self.matrices, self.layout.pack(state))
        if not self.affine:
            value = torch.tanh(value)
        return self.layout.unpack(value + self.offsets)
