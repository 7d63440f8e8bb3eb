"""The state of each algorithm, as a part of deepinv's iterates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeAlias

import torch
from deepinv.utils import TensorList
from torch import Tensor

Estimate: TypeAlias = tuple[Tensor, ...]
LinearMap: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class AlgorithmState:
    r"""
    The components of deepinv's estimate ``X["est"]`` that make the state of an
    algorithm: the smallest set that determines the next iterate.

    :param tuple components: indices of these components.
    :param int length: number of components that the iterator expects.
    :param Callable complete: function of a start and of the linear map :math:`K` of the
        algorithm. It returns a full estimate: it fills in the components that the start
        lacks.
    """

    components: tuple[int, ...]
    length: int
    complete: Callable[[Estimate, LinearMap], Estimate]

    def select(self, estimate: Estimate) -> Tensor | Estimate:
        """Return the state in an estimate."""
        if len(self.components) == 1:
            return estimate[self.components[0]]
        return tuple(estimate[index] for index in self.components)

    def expand(self, state: Tensor | Estimate) -> Estimate:
        """Return an estimate for the iterator. Components that the iterator does not
        read are copies of the state."""
        if isinstance(state, Tensor):
            return (state,) * self.length
        return state


def dual_start(estimate: Estimate, index: int, K: LinearMap) -> Tensor:
    r"""
    Return the dual variable of a start.

    :param tuple estimate: the start.
    :param int index: index of the dual variable.
    :param Callable K: linear map into the space of the dual variable.
    :return: (:class:`torch.Tensor`) the component, or 0 if it is missing or has not the
        shape of :math:`K x`. deepinv starts at :math:`y`, which may have another shape.
    """
    with torch.no_grad():
        zero = torch.zeros_like(K(estimate[0]))
    if len(estimate) > index and estimate[index].shape == zero.shape:
        return estimate[index]
    return zero


def _primal(est: Estimate, K: LinearMap) -> Estimate:
    return est[:1]


def _douglas_rachford(est: Estimate, K: LinearMap) -> Estimate:
    # z lives in the image space. Like deepinv, start at x where no such z is given.
    z = est[1] if len(est) > 1 and est[1].shape == est[0].shape else est[0]
    return (z, z)


def _multipliers(est: Estimate, K: LinearMap) -> Estimate:
    # The scaled multiplier lives in the image space, and starts at 0 in deepinv.
    if len(est) > 1 and est[1].shape == est[0].shape:
        return est[:2]
    return (est[0], torch.zeros_like(est[0]))


def _extrapolated(est: Estimate, K: LinearMap) -> Estimate:
    return est[:2] if len(est) > 1 else (est[0], est[0])


def _chambolle_pock(est: Estimate, K: LinearMap) -> Estimate:
    return (est[0], est[1] if len(est) > 1 else est[0], dual_start(est, 2, K))


def _condat_vu(est: Estimate, K: LinearMap) -> Estimate:
    return (est[0], dual_start(est, 1, K))


PRIMAL = AlgorithmState((0,), 1, _primal)
DOUGLAS_RACHFORD = AlgorithmState((1,), 2, _douglas_rachford)
MULTIPLIERS = AlgorithmState((0, 1), 2, _multipliers)
EXTRAPOLATED = AlgorithmState((0, 1), 2, _extrapolated)
PRIMAL_DUAL = AlgorithmState((0, 1, 2), 3, _chambolle_pock)
PRIMAL_DUAL_PAIR = AlgorithmState((0, 1), 2, _condat_vu)


def starting_estimate(start: Any) -> Estimate:
    r"""
    Return the estimate that ``init`` or ``custom_init`` specifies; the argument is not
    changed.

    :param torch.Tensor, tuple, list, dict start: :math:`x_0`, ``(x_0, z_0, ...)`` or
        ``{"est": (x_0, z_0, ...)}``.
    :return: the estimate.
    :raises TypeError: if the argument has another form.
    """
    if isinstance(start, dict):
        start = start.get("est")
    if isinstance(start, Tensor):
        return (start,)
    if isinstance(start, tuple | list):
        # deepinv starts PDCP's dual variable at y. A y with several parts is not in the
        # range of K; the dual variable is then completed.
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
