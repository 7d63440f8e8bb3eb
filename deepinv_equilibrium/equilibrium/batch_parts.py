"""A measurement and its physics for some samples of a batch."""

from __future__ import annotations

from typing import Any

from deepinv.physics import Physics
from deepinv.utils import TensorList
from torch import Tensor

from ..certificates.spectra.parameter_snapshot import parameter_snapshot


def of_samples(y: Any, physics: Physics, rows: Tensor) -> tuple[Any, Physics]:
    r"""
    Return the measurement of some samples, and a copy of the physics for them.

    The copy has the entries of these samples of each tensor whose first axis is as long
    as the batch. This may be a coincidence, as for an axis of angles, so that a solver
    compares what a step computes with the copy.

    :param torch.Tensor, deepinv.utils.TensorList y: the measurement of the batch; of a
        stacked physics, the list of its measurements.
    :param deepinv.physics.Physics physics: its physics; unchanged.
    :param torch.Tensor rows: the numbers of the samples.
    :return: (tuple) the measurement and the physics.
    """
    batch_size = _batch_size(y)

    def chosen(tensor: Tensor) -> Tensor:
        if tensor.shape[:1] != (batch_size,):
            return tensor
        return tensor.index_select(0, rows.to(tensor.device))

    return _chosen_measurement(y, rows), parameter_snapshot(physics, chosen)


def _chosen_measurement(y: Any, rows: Tensor) -> Any:
    if isinstance(y, Tensor):
        return y.index_select(0, rows)
    return TensorList([_chosen_measurement(part, rows) for part in y])


def _batch_size(y: Any) -> int:
    return len(y) if isinstance(y, Tensor) else _batch_size(y[0])
