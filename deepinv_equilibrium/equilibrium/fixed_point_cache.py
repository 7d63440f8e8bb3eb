"""Warm starts: the fixed points of training samples from the last epoch."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from deepinv.physics import Physics
from torch import Tensor, nn

from ..fixed_points import Solution, State, StateLayout, Status
from ..fixed_points.argument_checks import require_count, require_number

INDEX = "sample_index"
# Random projections of a measurement. Their relative difference has a standard
# deviation of about a tenth of that of the measurements.
_PROJECTIONS = 64


@dataclass(frozen=True)
class _Entry:
    """The packed fixed point of a sample, projections of its measurement, and the
    number of samples that were stored before it."""

    state: Tensor
    projections: Tensor
    stored: int


class FixedPointCache:
    r"""
    The fixed points of training samples, from which the next epoch starts.

    Between two epochs the weights change little, and so does a fixed point: to start
    there saves evaluations, and the result meets the same tolerance. The samples are
    told apart by their number, which :class:`IndexedDataset
    <deepinv_equilibrium.datasets.IndexedDataset>` adds to a dataset, and which
    ``physics.update`` or deepinv's ``Trainer`` writes into the buffer ``sample_index``
    of a physics that :meth:`follow` has prepared. A model uses the cache that is its
    attribute ``warm_starts``, in training mode and with gradients enabled only.

    A fixed point is stored if its sample converged, or spent a budget that was fixed.
    It is not used

    - if more than ``largest_age`` times as many samples as the cache holds were stored
      since,
    - if the measurement has changed: the relative distance of the measurements, which
      random projections estimate, exceeds ``largest_change``. New noise changes it
      little; another crop or another mask of the same sample changes it much,
    - if the size or the dtype of the state has changed.

    The fixed points are kept in the memory of the host. With more than ``capacity``
    samples, those that were stored first are dropped.

    :param int capacity: largest number of samples. Default: 1024.
    :param float largest_change: largest relative change of a measurement. Default: 0.5.
    :param float largest_age: largest age, in epochs of the stored samples. Default: 5.
    :raises ValueError: if an argument is out of its range.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> physics = dinv.physics.Denoising()
    >>> denoiser = deq.models.ConvexPotentialDenoiser(1, contraction=0.9)
    >>> model = deq.optim.PGD(
    ...     data_fidelity=dinv.optim.L2(),
    ...     prior=dinv.optim.PnP(denoiser),
    ...     stepsize=0.5,
    ...     sigma_denoiser=0.05,
    ...     DEQ=deq.Equilibrium(),
    ... )
    >>> model.warm_starts = cache = deq.equilibrium.FixedPointCache()
    >>> cache.follow(physics)
    >>> y = physics(torch.rand(2, 1, 16, 16))
    >>> physics.update(sample_index=torch.tensor([0, 1]))  # the Trainer does so
    >>> for epoch in range(2):
    ...     x = model(y, physics)
    ...     print(model.solution.evaluations.max().item() <= 2)
    False
    True
    """

    def __init__(
        self,
        capacity: int = 1024,
        largest_change: float = 0.5,
        largest_age: float = 5.0,
    ):
        require_count("capacity", capacity, 1)
        for name, value in (
            ("largest_change", largest_change),
            ("largest_age", largest_age),
        ):
            require_number(name, value)
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value!r}.")
        self.capacity = capacity
        self.largest_change = largest_change
        self.largest_age = largest_age
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._stored = 0

    def __len__(self) -> int:
        return len(self._entries)

    @staticmethod
    def follow(physics: Physics) -> None:
        r"""
        Prepare a physics to hold the numbers of its samples.

        :param deepinv.physics.Physics physics: the physics; it gets the buffer
            ``sample_index``, which ``physics.update(sample_index=...)`` writes.
        """
        if not hasattr(physics, INDEX):
            physics.register_buffer(INDEX, torch.full((1,), -1), persistent=False)

    def start(self, y: Any, physics: Any, start: State) -> State:
        r"""
        Return an initial state.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics, with the numbers of the
            samples.
        :param torch.Tensor, tuple start: the initial state of the model.
        :return: (:class:`torch.Tensor`, tuple) the state, with the fixed points of the
            samples that have a valid one.
        """
        layout = StateLayout.of(start)
        numbers = _numbers(physics, layout.batch_size)
        if not numbers:
            return start
        packed, found = layout.pack(start).detach().clone(), False
        projections = _project(y)
        for row, number in enumerate(numbers):
            entry = self._entries.get(number)
            if entry is not None and self._is_valid(
                entry, packed[row], projections[row]
            ):
                packed[row] = entry.state.to(packed.device)
                found = True
        return layout.unpack(packed) if found else start

    def store(self, y: Any, physics: Any, solution: Solution) -> None:
        r"""
        Store the fixed points of a solve.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics, with the numbers of the
            samples.
        :param deepinv_equilibrium.Solution solution: the solution.
        """
        layout = StateLayout.of(solution.x)
        numbers = _numbers(physics, layout.batch_size)
        if not numbers:
            return
        packed, projections = layout.pack(solution.x).detach().cpu(), _project(y)
        for row, (number, status) in enumerate(
            zip(numbers, solution.status, strict=True)
        ):
            self._entries.pop(number, None)
            if status not in (Status.CONVERGED, Status.COMPLETED):
                continue
            state = packed[row].clone()
            self._entries[number] = _Entry(state, projections[row], self._stored)
            self._stored += 1
            if len(self._entries) > self.capacity:
                self._entries.popitem(last=False)

    def _is_valid(self, entry: _Entry, state: Tensor, projections: Tensor) -> bool:
        if self._stored - entry.stored > self.largest_age * len(self._entries):
            return False
        if (entry.state.shape, entry.state.dtype) != (state.shape, state.dtype):
            return False
        change = torch.linalg.vector_norm(projections - entry.projections)
        size = torch.linalg.vector_norm(entry.projections)
        return bool(change <= self.largest_change * size)

    def state_dict(self) -> dict[str, Any]:
        """Return the stored fixed points, for a checkpoint of a training."""
        return {
            "stored": self._stored,
            "entries": {
                number: (entry.state, entry.projections, entry.stored)
                for number, entry in self._entries.items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the stored fixed points by those of a checkpoint."""
        self._stored = state["stored"]
        self._entries = OrderedDict(
            (number, _Entry(*parts)) for number, parts in state["entries"].items()
        )


def cache_in_use(
    model: nn.Module, cache: FixedPointCache | None
) -> FixedPointCache | None:
    """Return the cache of a model if a call belongs to a training, else ``None``."""
    # Not in the model: a certificate would depend on the mode that its code reads.
    return cache if model.training and torch.is_grad_enabled() else None


def _numbers(physics: Any, batch_size: int) -> list[int]:
    """Return the numbers of the samples of a batch; an empty list if it has none."""
    index = getattr(physics, INDEX, None)
    if not isinstance(index, Tensor) or index.shape != (batch_size,):
        return []
    numbers: list[int] = index.tolist()
    return numbers if min(numbers) >= 0 else []


@torch.no_grad()
def _project(y: Any) -> Tensor:
    """Return random projections of each measurement, which are the same for the same
    size."""
    total: Tensor | None = None
    for part in [y] if isinstance(y, Tensor) else y:
        real = torch.view_as_real(part.resolve_conj()) if part.is_complex() else part
        rows = real.detach().flatten(1).double().cpu()
        # Each entry belongs to one projection, with a random sign.
        generator = torch.Generator().manual_seed(rows.shape[1])
        size = (rows.shape[1],)
        signs = torch.randint(0, 2, size, generator=generator).double() * 2 - 1
        places = torch.randint(0, _PROJECTIONS, size, generator=generator)
        sums = rows.new_zeros(len(rows), _PROJECTIONS)
        sums.index_add_(1, places, rows * signs)
        total = sums if total is None else total + sums
    assert total is not None
    return total
