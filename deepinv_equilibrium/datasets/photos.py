"""Photos that are installed with scikit-image."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from deepinv.datasets import ImageDataset
from torch import Tensor

# The splits share no photo, so that no crop of a test photo is used in training.
SPLITS: dict[str, tuple[str, ...]] = {
    "train": (
        "astronaut",
        "coffee",
        "rocket",
        "hubble_deep_field",
        "immunohistochemistry",
        "camera",
        "brick",
        "grass",
        "gravel",
    ),
    "validation": ("stereo_motorcycle",),
    "test": ("chelsea", "retina", "coins", "moon", "page"),
}

# Weights of red, green and blue in ITU-R BT.601, which PIL and OpenCV use.
LUMA = (0.299, 0.587, 0.114)


class Photos(ImageDataset):
    r"""
    Photos of the scikit-image package, in three splits. Nothing is downloaded.

    =============== ==============================================================
    split           photos
    =============== ==============================================================
    ``train``       astronaut, coffee, rocket, hubble_deep_field,
                    immunohistochemistry; grey: camera, brick, grass, gravel
    ``validation``  stereo_motorcycle (left view)
    ``test``        chelsea, retina; grey: coins, moon, page
    =============== ==============================================================

    A sample is ``{"x": x}`` with ``x`` of shape ``(3, H, W)``, or ``(1, H, W)`` with
    ``grey=True``, in torch's default dtype and with values in :math:`[0, 1]`. Grey
    photos are repeated over the three colours; colour photos are converted to grey
    with the BT.601 weights.

    ``img_size`` and ``crops`` choose the samples:

    - without both: the whole photos, whose sizes differ (use batches of one);
    - with ``img_size``: the central crop of each photo;
    - with both: ``crops`` random crops of uniform photo and position. The constructor
      draws them, so a sample is the same in each epoch and in any order of access.

    :param str split: ``"train"`` (default), ``"validation"`` or ``"test"``.
    :param bool grey: return one channel instead of three. Default: ``False``.
    :param int, tuple[int, int] img_size: height and width of the samples in pixels; one
        number means a square. At most 191 x 384 in ``test`` (page), 400 x 512 in
        ``train`` and 500 x 741 in ``validation``. Default: ``None``, whole photos.
    :param int crops: number of random crops, at least 1. Default: ``None``, central
        crops.
    :param int seed: seed of the random crops. Default: 0.
    :raises ImportError: if scikit-image is not installed.
    :raises TypeError: if ``img_size`` is not one or two integers.
    :raises ValueError: if the split is unknown, a photo of the split is smaller than
        ``img_size``, or ``crops`` is less than 1 or given without ``img_size``.

    |sep|

    :Example:

    >>> from deepinv_equilibrium.datasets import Photos
    >>> dataset = Photos(split="validation", img_size=64, crops=10)
    >>> len(dataset), dataset[0]["x"].shape
    (10, torch.Size([3, 64, 64]))
    """

    def __init__(
        self,
        split: str = "train",
        *,
        grey: bool = False,
        img_size: int | tuple[int, int] | None = None,
        crops: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(use_dict_output=True)
        if split not in SPLITS:
            raise ValueError(f"split must be one of {list(SPLITS)}, got {split!r}.")
        if crops is not None and (img_size is None or crops < 1):
            raise ValueError(
                "crops must be at least 1 and needs img_size, the size of a crop, "
                f"got crops={crops} and img_size={img_size}."
            )
        self.names = SPLITS[split]
        self.photos = [_read(name, grey) for name in self.names]
        self.img_size = None if img_size is None else _pair(img_size)
        self._windows = self._place_windows(crops, seed)

    def _place_windows(
        self, crops: int | None, seed: int
    ) -> list[tuple[int, slice, slice]]:
        """Return the photo, the rows and the columns of each sample."""
        if self.img_size is None:
            return [(i, slice(None), slice(None)) for i in range(len(self.photos))]
        height, width = self.img_size
        for name, photo in zip(self.names, self.photos, strict=True):
            if not (1 <= height <= photo.shape[1] and 1 <= width <= photo.shape[2]):
                raise ValueError(
                    f"img_size must fit the photo {name}, which has {photo.shape[1]} x "
                    f"{photo.shape[2]} pixels, got {height} x {width}."
                )
        if crops is None:
            photo_of = torch.arange(len(self.photos))
            fractions = torch.full((len(self.photos), 2), 0.5)
        else:
            generator = torch.Generator().manual_seed(seed)
            photo_of = torch.randint(len(self.photos), (crops,), generator=generator)
            fractions = torch.rand(crops, 2, generator=generator)
        windows = []
        for i, (down, across) in zip(
            photo_of.tolist(), fractions.tolist(), strict=True
        ):
            # A uniform fraction in [0, 1) gives a uniform corner.
            top = int(down * (self.photos[i].shape[1] - height + 1))
            left = int(across * (self.photos[i].shape[2] - width + 1))
            windows.append((i, slice(top, top + height), slice(left, left + width)))
        return windows

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, idx: int) -> dict[str, Tensor]:
        photo, rows, columns = self._windows[idx]
        return {"x": self.photos[photo][:, rows, columns].to(torch.get_default_dtype())}


def _pair(img_size: int | tuple[int, int]) -> tuple[int, int]:
    """Return height and width."""
    match img_size:
        case int(side):
            return side, side
        case (int(height), int(width)):
            return height, width
    raise TypeError(f"img_size must be one or two integers, got {img_size!r}.")


def _read(name: str, grey: bool) -> Tensor:
    """Return a photo as a float32 tensor of shape (1 or 3, H, W) in [0, 1]."""
    photo = _pixels(_scikit_image_data(), name).float() / 255
    if photo.ndim == 2:
        return photo.expand(1 if grey else 3, -1, -1)
    photo = photo.permute(2, 0, 1).contiguous()
    return (
        torch.einsum("c,chw->hw", photo.new_tensor(LUMA), photo)[None]
        if grey
        else photo
    )


@cache
def _pixels(data: ModuleType, name: str) -> Tensor:
    """Return the 8-bit pixels of a photo, which is read and decoded only once."""
    loaded = getattr(data, name)()
    # stereo_motorcycle returns (left view, right view, disparity).
    return torch.from_numpy(loaded[0] if isinstance(loaded, tuple) else loaded)


def _scikit_image_data() -> ModuleType:
    try:
        import skimage.data
    except ImportError as error:
        raise ImportError(
            "Photos needs scikit-image, which contains the photos. Install it: "
            '`pip install "deepinv_equilibrium[gallery]"`.'
        ) from error
    data: ModuleType = skimage.data
    return data
