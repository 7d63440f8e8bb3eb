"""Numbers of an accelerator that the host reads without waiting for its kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

from .solution import Status

ASYNCHRONOUS_DEVICES = {"cuda"}
"""Types of devices that copy to pinned memory while the host goes on. On the others a
copy that does not wait may be read before it is written."""


class LateNumbers:
    r"""
    A copy of a few integers of an accelerator on the host, which is on its way.

    The copy is queued behind the kernels that compute the numbers. Reading a tensor at
    once would make the host wait for all of them, and the accelerator wait for the
    host afterwards.

    :param torch.Tensor numbers: the numbers, on the accelerator.
    """

    def __init__(self, numbers: Tensor):
        self._event: torch.Event | None = None
        if numbers.device.type in ASYNCHRONOUS_DEVICES:
            self._copy = torch.empty_like(numbers, device="cpu", pin_memory=True)
            self._copy.copy_(numbers, non_blocking=True)
            self._event = torch.Event(numbers.device)
            self._event.record()
        else:
            self._copy = numbers.cpu()

    @property
    def has_arrived(self) -> bool:
        """Whether the host can read the numbers without waiting."""
        return self._event is None or self._event.query()

    def read(self) -> list[list[int]]:
        """Return the numbers; the host waits for them if they have not arrived."""
        if self._event is not None:
            self._event.synchronize()
        return self._copy.tolist()


class LateStatuses(Sequence[Status]):
    r"""
    The status of each sample, which the host reads when someone asks for one.

    :param LateNumbers numbers: the codes of the statuses in its first row.
    :param int count: number of samples.
    """

    def __init__(self, numbers: LateNumbers, count: int):
        self.numbers = numbers
        self._count = count

    @property
    def _statuses(self) -> tuple[Status, ...]:
        return tuple(map(Status, self.numbers.read()[0]))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Status: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Status]: ...

    def __getitem__(self, index: int | slice) -> Status | Sequence[Status]:
        return self._statuses[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LateStatuses):
            other = other._statuses
        return self._statuses == other

    def __hash__(self) -> int:
        return hash(self._statuses)

    def __repr__(self) -> str:
        return repr(self._statuses)
