from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from deepinv_equilibrium.models.denoisers.bundled_weights import (
    check_bundled,
    colours,
    read_weights,
)


def test_weights_are_bundled_for_grey_and_for_colour():
    check_bundled("bundled", 1)
    check_bundled("bundled", 3)
    for in_channels in (0, 2, 4):
        with pytest.raises(
            ValueError, match=rf"in_channels must be 1 .* got {in_channels}\. With pre"
        ):
            check_bundled("bundled", in_channels)
        check_bundled(None, in_channels)
        check_bundled(Path("weights.pt"), in_channels)


@pytest.mark.parametrize("in_channels", [1, 3])
def test_reads_what_is_bundled(in_channels: int):
    weights = read_weights("bundled", f"ridge_{colours(in_channels)}.pt")
    assert weights["log_threshold"].shape[0] == in_channels


def test_reads_a_file_in_the_place_of_what_is_bundled(tmp_path: Path):
    torch.save({"weight": torch.arange(3)}, tmp_path / "weights.pt")
    for path in (tmp_path / "weights.pt", str(tmp_path / "weights.pt")):
        assert read_weights(path, "ridge_grey.pt")["weight"].tolist() == [0, 1, 2]


def test_a_file_of_more_than_tensors_is_refused(tmp_path: Path):
    torch.save({"weight": Path("anything")}, tmp_path / "weights.pt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        read_weights(tmp_path / "weights.pt", "ridge_grey.pt")
