"""The state of each algorithm: which of deepinv's iterates, and how it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeAlias

import torch
from deepinv.utils import TensorList
from torch import Tensor

Estimate: TypeAlias = tuple[Tensor, ...]


@dataclass(frozen=True)
class AlgorithmState:
    r"""
    Which components of deepinv's estimate ``X["est"]`` make the state of an algorithm.

    :param tuple components: indices of the state's components in the estimate.
    :param int length: number of components that the iterator is given.
    :param Callable complete: from a start that may lack components, and the image that
        :math:`K` maps to the dual space, to a full estimate.
    """

    components: tuple[int, ...]
    length: int
    complete: Callable[[Estimate, Callable[[Tensor], Tensor]], Estimate]

    def select(self, estimate: Estimate) -> Tensor | Estimate:
        """The state in an estimate."""
        if len(self.components) == 1:
            return estimate[self.components[0]]
        return tuple(estimate[index] for index in self.components)

    def expand(self, state: Tensor | Estimate) -> Estimate:
        """The estimate that the iterator is given for a state; components which it
        does not read are filled with the state."""
        if isinstance(state, Tensor):
            return (state,) * self.length
        return state


def _primal(est: Estimate, K: Callable[[Tensor], Tensor]) -> Estimate:
    return est[:1]


def _douglas_rachford(est: Estimate, K: Callable[[Tensor], Tensor]) -> Estimate:
    # As deepinv: z is a point of the image space, and starts at x where it is not.
    z = est[1] if len(est) > 1 and est[1].shape == est[0].shape else est[0]
    return (z, z)


def _multipliers(est: Estimate, K: Callable[[Tensor], Tensor]) -> Estimate:
    # As deepinv: the scaled multiplier lives in the image space, and starts at 0.
    if len(est) > 1 and est[1].shape == est[0].shape:
        return est[:2]
    return (est[0], torch.zeros_like(est[0]))


def _extrapolated(est: Estimate, K: Callable[[Tensor], Tensor]) -> Estimate:
    return est[:2] if len(est) > 1 else (est[0], est[0])


def _primal_dual(est: Estimate, K: Callable[[Tensor], Tensor]) -> Estimate:
    x = est[0]
    z = est[1] if len(est) > 1 else x
    # deepinv starts the dual variable at y, which need not live in K's space.
    with torch.no_grad():
        zero = torch.zeros_like(K(x))
    u = est[2] if len(est) > 2 and est[2].shape == zero.shape else zero
    return (x, z, u)


PRIMAL = AlgorithmState((0,), 1, _primal)
DOUGLAS_RACHFORD = AlgorithmState((1,), 2, _douglas_rachford)
MULTIPLIERS = AlgorithmState((0, 1), 2, _multipliers)
EXTRAPOLATED = AlgorithmState((0, 1), 2, _extrapolated)
PRIMAL_DUAL = AlgorithmState((0, 1, 2), 3, _primal_dual)


def starting_estimate(start: Any) -> Estimate:
    r"""
    Read what ``init`` or ``custom_init`` gave, without changing it.

    :param torch.Tensor, tuple, list, dict start: :math:`x_0`, ``(x_0, z_0, ...)`` or
        ``{"est": (x_0, z_0, ...)}``.
    :return: the estimate.
    :raises TypeError: if it is none of these.
    """
    if isinstance(start, dict):
        start = start.get("est")
    if isinstance(start, Tensor):
        return (start,)
    if isinstance(start, tuple | list):
        # deepinv starts PDCP's dual variable at y, which has no place in K's space
        # where it is in several parts: it is completed instead.
        whole = takewhile(lambda c: not isinstance(c, TensorList), start)
        start = tuple(whole)
    if (
        isinstance(start, tuple)
        and start
        and all(isinstance(component, Tensor) for component in start)
    ):
        return start
    raise TypeError(
        "init must be a tensor, a tuple of tensors, a dict {'est': (x_0, ...)}, or a "
        f"function (y, physics) that returns one of these; got {type(start).__name__}."
    )
