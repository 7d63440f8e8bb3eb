"""A dataset whose samples know their numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset

from ..fixed_points.argument_checks import require_count


class IndexedDataset(Dataset[dict[str, Any]]):
    r"""
    A dataset with the number of each sample among the parameters of the physics, as
    :class:`FixedPointCache <deepinv_equilibrium.equilibrium.FixedPointCache>` needs it.

    Samples are dictionaries, in deepinv's format, with the keys ``"x"``, ``"y"`` and
    ``"params"``, as far as the dataset has them.

    :param torch.utils.data.Dataset dataset: the dataset. Its samples are images ``x``,
        tuples ``(x, y)``, ``(x, params)`` or ``(x, y, params)``, or dictionaries.
    :param int first: number of the first sample, so that several datasets can share a
        cache. Default: 0.
    """

    def __init__(self, dataset: Any, first: int = 0):
        require_count("first", first, 0)
        self.dataset = dataset
        self.first = first

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        sample = _as_dictionary(self.dataset[idx])
        number = self.first + (idx if idx >= 0 else idx + len(self))
        params = {**sample.get("params", {}), "sample_index": torch.tensor(number)}
        return {**sample, "params": params}


def _as_dictionary(sample: Any) -> dict[str, Any]:
    if isinstance(sample, dict):
        return sample
    if not isinstance(sample, tuple | list):
        return {"x": sample}
    names = {
        1: ("x",),
        2: ("x", "params") if isinstance(sample[-1], dict) else ("x", "y"),
        3: ("x", "y", "params"),
    }
    if len(sample) not in names:
        raise ValueError(
            "a sample must be an image, a tuple of up to three parts (x, y, params) or "
            f"a dictionary, got {len(sample)} parts."
        )
    return dict(zip(names[len(sample)], sample, strict=True))
