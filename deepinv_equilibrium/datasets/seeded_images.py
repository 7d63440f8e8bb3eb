"""Synthetic images of which each has a seed of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random

from deepinv.datasets import ImageDataset
from torch import Tensor


class SeededImages(ImageDataset, ABC):
    r"""
    Base of the synthetic datasets: sample ``i`` depends on ``seed`` and ``i`` only.

    :param int length: number of samples.
    :param tuple img_size: size of the images, checked by the subclass.
    :param int seed: seed of all samples.
    :param Callable, None transform: applied to each image.
    :raises ValueError: if ``length`` is less than 1.
    """

    def __init__(
        self,
        length: int,
        img_size: tuple[int, ...],
        seed: int,
        transform: Callable[[Tensor], Tensor] | None,
    ) -> None:
        super().__init__(use_dict_output=True)
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}.")
        self.length = length
        self.img_size = img_size
        self.seed = seed
        self.transform = transform

    @abstractmethod
    def draw(self, rng: Random) -> Tensor:
        r"""
        :param rng: random numbers of this sample.
        :return: (:class:`torch.Tensor`) its image, in torch's default dtype.
        """

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, idx: int) -> dict[str, Tensor]:
        if not -self.length <= idx < self.length:
            raise IndexError(f"sample {idx} of {self.length} is out of range.")
        # Seeding by a string is the same on every platform, and mixes both numbers.
        x = self.draw(Random(f"{self.seed} {idx % self.length}"))
        return {"x": x if self.transform is None else self.transform(x)}
