"""Images and random patches of a folder, for the training scripts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

HELD_OUT = 40  # Every fortieth image is for validation.


def load(path: Path, in_channels: int) -> Tensor:
    """Return an image with values in [0, 1], of shape (C, H, W)."""
    image = Image.open(path).convert("L" if in_channels == 1 else "RGB")
    values = torch.from_numpy(np.array(image, dtype=np.float32) / 255)
    return values[None] if in_channels == 1 else values.movedim(-1, 0)


def split(folder: Path, in_channels: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return the images for training and those for validation."""
    files = sorted(folder.iterdir())
    training = [load(f, in_channels) for i, f in enumerate(files) if i % HELD_OUT]
    return training, [load(file, in_channels) for file in files[::HELD_OUT]]


def split_in_three(folder: Path, in_channels: int) -> dict[str, list[Tensor]]:
    """Return the images for training, validation and test. In the order of the names,
    every fifth file is for the test and every tenth for validation."""
    parts: dict[str, list[Tensor]] = {"training": [], "validation": [], "test": []}
    for number, file in enumerate(sorted(folder.iterdir())):
        part = {0: "test", 5: "test", 3: "validation"}.get(number % 10, "training")
        parts[part].append(load(file, in_channels))
    return parts


def patches(
    images: list[Tensor], count: int, size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return square patches of random images, each transposed with probability 1/2, and
    the numbers of the images."""
    picks = torch.randint(len(images), (count,), generator=generator)
    return torch.stack([_patch(images[i], size, generator) for i in picks]), picks


def centres(images: list[Tensor], size: int) -> Tensor:
    """Return the centres of images, as large as the smallest of them at most."""
    size = min(size, *(side for image in images for side in image.shape[-2:]))
    crops = []
    for image in images:
        top, left = ((side - size) // 2 for side in image.shape[-2:])
        crops.append(image[:, top : top + size, left : left + size])
    return torch.stack(crops)


def _patch(image: Tensor, size: int, generator: torch.Generator) -> Tensor:
    top, left = (
        int(torch.randint(side - size + 1, (), generator=generator))
        for side in image.shape[-2:]
    )
    cut = image[:, top : top + size, left : left + size]
    return cut.mT if torch.rand((), generator=generator) < 0.5 else cut
