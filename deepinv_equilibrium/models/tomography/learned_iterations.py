"""An operator and a measurement in units that do not depend on those of the scanner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from deepinv.models import Reconstructor
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from ...certificates.spectra.operator_norm import OperatorNorm
from ...equilibrium.input_checks import check_images
from ...fixed_points.argument_checks import require_count
from ..least_squares_image import map_input


@dataclass(frozen=True)
class NormalisedPhysics:
    r"""
    :math:`A / n` and :math:`y / n` with an upper bound :math:`n` of :math:`\|A\|`: the
    least-squares problem is the same, and what a network sees of it too where
    :math:`A` and :math:`y` are measured in another unit.

    :param deepinv.physics.LinearPhysics physics: the physics.
    :param torch.Tensor measurement: :math:`y`.
    :param float norm: :math:`n > 0`.
    """

    physics: LinearPhysics
    measurement: Tensor
    norm: float

    @property
    def y(self) -> Tensor:
        r""":math:`y / n`."""
        return self.measurement / self.norm

    def apply(self, x: Tensor) -> Tensor:
        r""":math:`A x / n`."""
        return self.physics.A(x) / self.norm

    def adjoint(self, u: Tensor) -> Tensor:
        r""":math:`A^\top u / n`."""
        return self.physics.A_adjoint(u) / self.norm


class LearnedIterations(Reconstructor, ABC):
    r"""
    Base of the reconstructors that make a number of iterations in which networks stand
    for parts of a classical algorithm, trained end to end.

    The operator and the measurement are divided by an upper bound of
    :math:`\|A\|`, by :class:`~deepinv_equilibrium.certificates.spectra.OperatorNorm`:
    a model works unchanged where both are measured in another unit. The papers have
    :math:`\|A\| = 1`.

    All iterations are recorded: a training needs memory in proportion to their number.

    :param Callable layer: returns the network of an iteration, anew in every call.
    :param int iterations: number of iterations.
    :param int in_channels: channels :math:`C` of the images.
    :param bool tied: whether all iterations have the same weights; then their number,
        ``iterations``, can be changed at any time.
    :raises ValueError: if ``iterations`` or ``in_channels`` is not a positive integer.
    """

    def __init__(
        self,
        layer: Callable[[], nn.Module],
        iterations: int,
        in_channels: int,
        tied: bool,
    ) -> None:
        super().__init__()
        require_count("iterations", iterations, 1)
        self.in_channels = in_channels
        self.tied = tied
        self.layers = nn.ModuleList(layer() for _ in range(1 if tied else iterations))
        self._iterations = iterations
        self._norm = OperatorNorm()

    @property
    def iterations(self) -> int:
        """Number of iterations."""
        return self._iterations

    @iterations.setter
    def iterations(self, iterations: int) -> None:
        require_count("iterations", iterations, 1)
        if not self.tied and iterations != len(self.layers):
            raise ValueError(
                f"iterations must stay {len(self.layers)}, because each has weights of "
                f"its own, got {iterations}; build the model with tied=True."
            )
        self._iterations = iterations

    @abstractmethod
    def start(self, scan: NormalisedPhysics) -> tuple[Tensor, ...]:
        r"""
        :param NormalisedPhysics scan: operator and measurement.
        :return: (tuple) the state before the first iteration. The first channels of its
            first tensor are the image.
        """

    @abstractmethod
    def iterate(
        self, layer: nn.Module, state: tuple[Tensor, ...], scan: NormalisedPhysics
    ) -> tuple[Tensor, ...]:
        r"""
        :param torch.nn.Module layer: the network of this iteration.
        :param tuple state: the state.
        :param NormalisedPhysics scan: operator and measurement.
        :return: (tuple) the next state.
        """

    def normalise(self, y: Tensor, physics: LinearPhysics) -> NormalisedPhysics:
        r"""
        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: (NormalisedPhysics) both, divided by the bound of the norm.
        :raises TypeError: if the physics is not linear, or the precision of ``y`` not
            that of the weights.
        :raises ValueError: if ``y`` is no measurement of images with ``in_channels``
            channels, or not finite.
        :raises AdjointMismatchError: if ``A_adjoint`` is not the transpose of ``A``.
        """
        if not isinstance(physics, LinearPhysics):
            raise TypeError(
                "physics must be a deepinv LinearPhysics, as in model(y, physics), got "
                f"{type(physics).__name__}."
            )
        with torch.no_grad():
            x = map_input(y, physics, iterations=0)
        check_images(x, self.in_channels)
        dtype = next(self.parameters()).dtype
        if y.dtype != dtype:
            raise TypeError(
                f"y has the precision of {y.dtype}, and the weights of {dtype}; convert"
                f" the model with .to({y.dtype}), or y."
            )
        return NormalisedPhysics(
            physics, y, self._norm.squared(physics, x).value ** 0.5
        )

    def forward(self, y: Tensor, physics: LinearPhysics, **kwargs: Any) -> Tensor:
        r"""
        Reconstruct.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: (:class:`torch.Tensor`) images of shape :math:`(B, C, H, W)`.
        :raises TypeError: if the physics is not linear, the precision of ``y`` is not
            that of the weights, or an argument is unknown.
        :raises ValueError: if the measurement does not fit.
        :raises AdjointMismatchError: if ``A_adjoint`` is not the transpose of ``A``.
        """
        if kwargs:
            raise TypeError(
                f"{type(self).__name__} takes no argument {next(iter(kwargs))!r}."
            )
        scan = self.normalise(y, physics)
        state = self.start(scan)
        for k in range(self.iterations):
            layer = self.layers[0 if self.tied else k]
            state = self.iterate(layer, state, scan)
        return state[0][:, : self.in_channels]

    def extra_repr(self) -> str:
        """Return what the representation shows first."""
        return (
            f"iterations={self.iterations}, in_channels={self.in_channels}, "
            f"tied={self.tied}"
        )
