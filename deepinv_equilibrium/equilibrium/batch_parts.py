"""A measurement and its physics for some samples of a batch."""

from __future__ import annotations

from typing import Any

from deepinv.physics import Physics
from deepinv.utils import TensorList
from torch import Tensor

from ..certificates.spectra.parameter_snapshot import parameter_snapshot


def samples_of_measurement(y: Any, rows: Tensor) -> Any:
    r"""
    Return the measurement of some samples.

    :param torch.Tensor, deepinv.utils.TensorList y: the measurement of the batch; of a
        stacked physics, the list of its measurements.
    :param torch.Tensor rows: the numbers of the samples.
    """
    if isinstance(y, Tensor):
        return y.index_select(0, rows)
    return TensorList([samples_of_measurement(part, rows) for part in y])


def samples_of_physics(physics: Physics, rows: Tensor, batch_size: int) -> Physics:
    r"""
    Return a copy of a physics for some samples. It has the entries of these samples of
    each tensor whose first axis is as long as the batch. This may be a coincidence, as
    for an axis of angles, so that a solver compares what a step computes with the copy.

    :param deepinv.physics.Physics physics: the physics; unchanged.
    :param torch.Tensor rows: the numbers of the samples.
    :param int batch_size: number of samples of the batch, at least 2.
    """

    def of_samples(tensor: Tensor) -> Tensor:
        if tensor.shape[:1] != (batch_size,):
            return tensor
        return tensor.index_select(0, rows.to(tensor.device))

    return parameter_snapshot(physics, of_samples)
