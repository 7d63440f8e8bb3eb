from __future__ import annotations

import sys

import pytest
import skimage.data
import torch
from deepinv.datasets import check_dataset
from torch.utils.data import DataLoader

from deepinv_equilibrium.datasets import Photos
from deepinv_equilibrium.datasets.photos import SPLITS

from ..one_test import in_one_test


def test_splits_share_no_photo():
    names = [name for split in SPLITS.values() for name in split]
    assert len(names) == len(set(names)) == 15


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("grey", [False, True])
def test_photos_have_channels_and_range_and_pass_check_of_deepinv(
    split: str, grey: bool
):
    dataset = Photos(split, grey=grey)
    check_dataset(dataset, allow_non_tensor=False)
    assert len(dataset) == len(SPLITS[split])
    for sample in dataset:
        x = sample["x"]
        assert x.ndim == 3
        assert x.shape[0] == (1 if grey else 3)
        assert x.dtype == torch.float32
        assert 0 <= x.min() < x.max() <= 1


def test_whole_colour_photo_has_pixels_of_file():
    x = Photos("test")[0]["x"]
    pixels = torch.from_numpy(skimage.data.chelsea())
    assert torch.equal((255 * x).round().to(torch.uint8), pixels.permute(2, 0, 1))


def test_grey_photo_is_repeated_over_colours():
    x = Photos("test")[2]["x"]
    coins = torch.from_numpy(skimage.data.coins())
    assert torch.equal((255 * x).round().to(torch.uint8), coins.expand(3, -1, -1))


def test_colour_photo_becomes_grey_with_luma_weights():
    colour, grey = Photos("validation")[0]["x"], Photos("validation", grey=True)[0]["x"]
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    torch.testing.assert_close(grey[0], luma, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("img_size", "top", "left"), [(100, 100, 176), (101, 100, 175)]
)
def test_img_size_crops_the_centre(img_size: int, top: int, left: int):
    x = Photos("test", img_size=img_size)[0]["x"]
    whole = Photos("test")[0]["x"]  # 300 x 451
    assert torch.equal(x, whole[:, top : top + img_size, left : left + img_size])


def test_crops_are_windows_of_all_photos():
    dataset = Photos("test", img_size=(20, 30), crops=60, seed=1)
    photos = Photos("test").photos
    assert len(dataset) == 60
    assert {photo for photo, _, _ in dataset._windows} == set(range(5))
    for sample, (photo, rows, columns) in zip(dataset, dataset._windows, strict=True):
        assert torch.equal(sample["x"], photos[photo][:, rows, columns])
        assert sample["x"].shape == (3, 20, 30)


def test_crop_of_full_size_is_the_photo():
    dataset = Photos("validation", img_size=(500, 741), crops=3)
    assert all(torch.equal(s["x"], dataset.photos[0]) for s in dataset)


def test_crops_depend_on_seed_and_not_on_global_generator():
    state = torch.get_rng_state()
    first, again, other = (
        Photos("validation", img_size=16, crops=8, seed=seed) for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), state)
    batches = [next(iter(DataLoader(d, 8)))["x"] for d in (first, again, other)]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def test_samples_have_default_dtype():
    dataset = Photos("validation", img_size=8)
    torch.set_default_dtype(torch.float64)
    try:
        assert dataset[0]["x"].dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@in_one_test(
    ("arguments", "message"),
    [
        ({"split": "held-out"}, "split must be one of .*'test'.*, got 'held-out'"),
        ({"img_size": (192, 100)}, "page, which has 191 x 384 pixels, got 192 x 100"),
        ({"img_size": 0}, "img_size must fit"),
        ({"crops": 4}, "crops must be at least 1 and needs img_size"),
        ({"crops": 0, "img_size": 8}, "got crops=0"),
    ],
)
def test_bad_values_are_named(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Photos(**{"split": "test"} | arguments)


@pytest.mark.parametrize("img_size", [(8, 8, 3), 8.0, "ab"])
def test_bad_image_size_is_named(img_size: object):
    with pytest.raises(TypeError, match="img_size"):
        Photos(img_size=img_size)


def test_missing_scikit_image_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(ImportError, match=r"deepinv_equilibrium\[gallery\]"):
        Photos()
