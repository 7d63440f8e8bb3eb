"""Base class of synthetic datasets with one seed per sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random

from deepinv.datasets import ImageDataset
from torch import Tensor


class SeededImages(ImageDataset, ABC):
    r"""
    Base class of the synthetic datasets. Sample ``i`` depends on ``seed`` and ``i``
    only, so the order of the accesses and the length of the dataset do not matter. A
    subclass implements :meth:`draw`.

    :param int length: number of samples, at least 1.
    :param tuple img_size: size of an image; the subclass checks it.
    :param int seed: seed of the dataset.
    :param Callable transform: function applied to each image, or ``None``.
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
        Draw one image.

        :param random.Random rng: random number generator of this sample.
        :return: (:class:`torch.Tensor`) the image, in torch's default dtype.
        """

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, idx: int) -> dict[str, Tensor]:
        if not -self.length <= idx < self.length:
            raise IndexError(f"sample {idx} of {self.length} is out of range.")
        # A string seed gives the same numbers on every platform and uses both numbers.
        x = self.draw(Random(f"{self.seed} {idx % self.length}"))
        return {"x": x if self.transform is None else self.transform(x)}
