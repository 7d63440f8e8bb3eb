from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deepinv_equilibrium.models import BoundedDnCNN, RidgeRegulariser
from deepinv_equilibrium.models.denoisers.bundled_weights import (
    colours,
    load_pretrained,
)


def line() -> nn.Linear:
    return nn.Linear(3, 1, bias=False)


@pytest.mark.parametrize("in_channels", [0, 2, 4])
def test_load_pretrained_raises_for_channels_without_bundled_weights(
    in_channels: int, tmp_path: Path
) -> None:
    torch.save(line().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(
        ValueError, match=rf"in_channels must be 1 .* got {in_channels}\. Build the"
    ):
        load_pretrained(line(), "bundled", "ridge_convex_grey.pt", in_channels)
    load_pretrained(line(), None, "ridge_convex_grey.pt", in_channels)
    load_pretrained(
        line(), tmp_path / "weights.pt", "ridge_convex_grey.pt", in_channels
    )


@pytest.mark.parametrize("in_channels", [1, 3])
def test_load_pretrained_reads_bundled_weights(in_channels: int) -> None:
    model = RidgeRegulariser(in_channels, None)
    bundled = f"ridge_convex_{colours(in_channels)}.pt"
    load_pretrained(model, "bundled", bundled, in_channels)
    start = RidgeRegulariser(in_channels, None).scaling.exponents
    assert bool((model.scaling.exponents != start).any())
    assert model.scaling.exponents.dtype == torch.float32
    assert not model.training


def test_load_pretrained_adapts_bundled_weights_only(tmp_path: Path) -> None:
    def double(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: 2 * value for name, value in weights.items()}

    plain, doubled = RidgeRegulariser(1, None), RidgeRegulariser(1, None)
    load_pretrained(plain, "bundled", "ridge_convex_grey.pt", 1)
    load_pretrained(doubled, "bundled", "ridge_convex_grey.pt", 1, double)
    torch.testing.assert_close(doubled.scaling.exponents, 2 * plain.scaling.exponents)
    torch.save(plain.state_dict(), tmp_path / "weights.pt")
    load_pretrained(doubled, tmp_path / "weights.pt", "ridge_convex_grey.pt", 1, double)
    assert doubled.scaling.exponents.equal(plain.scaling.exponents)


def test_load_pretrained_reads_a_file_instead_of_bundled_weights(
    tmp_path: Path,
) -> None:
    torch.save({"weight": torch.arange(3.0)[None]}, tmp_path / "weights.pt")
    for path in (tmp_path / "weights.pt", str(tmp_path / "weights.pt")):
        model = line()
        load_pretrained(model, path, "ridge_convex_grey.pt", 1)
        assert model.weight.flatten().tolist() == [0, 1, 2]


def test_load_pretrained_without_weights_changes_nothing() -> None:
    model, before = line(), line()
    before.load_state_dict(model.state_dict())
    load_pretrained(model, None, "ridge_convex_grey.pt", 1)
    assert model.weight.equal(before.weight)
    assert model.training


def test_load_pretrained_raises_for_a_model_without_bundled_weights() -> None:
    with pytest.raises(ValueError, match=r"got 'bundled': no weights .* BoundedDnCNN"):
        BoundedDnCNN(1, depth=2, filters=2, pretrained="bundled")


def test_load_pretrained_refuses_a_file_that_holds_other_objects(
    tmp_path: Path,
) -> None:
    torch.save({"weight": Path("anything")}, tmp_path / "weights.pt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        load_pretrained(line(), tmp_path / "weights.pt", "ridge_convex_grey.pt", 1)
