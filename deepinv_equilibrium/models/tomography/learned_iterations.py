"""The base class of learned iterations, and the physics that they see."""

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
from ...equilibrium.input_checks import (
    check_images,
    require_linear,
    require_measurement,
    require_physics,
)
from ...fixed_points.argument_checks import (
    SuggestsArguments,
    refuse_unknown,
    require_count,
)
from ..least_squares_image import map_input


@dataclass(frozen=True)
class NormalisedPhysics:
    r"""
    A physics and a measurement divided by an upper bound :math:`n` of :math:`\|A\|`.

    :math:`A / n` and :math:`y / n` have the same least-squares problem as :math:`A` and
    :math:`y`, and do not depend on the unit of the measurement.

    :param deepinv.physics.LinearPhysics physics: the physics of :math:`A`.
    :param torch.Tensor measurement: :math:`y`.
    :param float norm: :math:`n > 0`.
    """

    physics: LinearPhysics
    measurement: Tensor
    norm: float

    @property
    def y(self) -> Tensor:
        r"""Return :math:`y / n`."""
        return self.measurement / self.norm

    def apply(self, x: Tensor) -> Tensor:
        r"""Return :math:`A x / n`."""
        return self.physics.A(x) / self.norm

    def adjoint(self, u: Tensor) -> Tensor:
        r"""Return :math:`A^\top u / n`."""
        return self.physics.A_adjoint(u) / self.norm


class LearnedIterations(SuggestsArguments, Reconstructor, ABC):
    r"""
    Base class of reconstructors with a fixed number of iterations, in which networks
    replace parts of a classical algorithm. They are trained end to end.

    The operator and the measurement are divided by an upper bound of :math:`\|A\|`
    from :class:`~deepinv_equilibrium.certificates.spectra.OperatorNorm`, so that a
    model does not depend on the unit of the measurement. The papers assume
    :math:`\|A\| = 1`.

    All iterations are recorded for the gradient: the memory of training grows in
    proportion to their number.

    :param Callable layer: returns a new network for one iteration. It is called after
        the other arguments are checked.
    :param int iterations: number of iterations.
    :param int in_channels: channels :math:`C` of the images.
    :param bool tied: whether all iterations have the same weights. If so,
        ``iterations`` can be changed at any time.
    :param int counts: further arguments of the constructor of the subclass that must be
        positive integers.
    :raises ValueError: if ``iterations``, ``in_channels`` or one of ``counts`` is not a
        positive integer.
    """

    def __init__(
        self,
        layer: Callable[[], nn.Module],
        iterations: int,
        in_channels: int,
        tied: bool,
        **counts: int,
    ) -> None:
        super().__init__()
        counts = {"iterations": iterations, "in_channels": in_channels} | counts
        for name, count in counts.items():
            require_count(name, count, 1)
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
                f"iterations must stay {len(self.layers)}, because each has its own "
                f"weights, got {iterations}; build the model with tied=True."
            )
        self._iterations = iterations

    @abstractmethod
    def start(self, scan: NormalisedPhysics) -> tuple[Tensor, ...]:
        r"""
        Return the state before the first iteration.

        :param NormalisedPhysics scan: operator and measurement.
        :return: (tuple) the state. The first ``in_channels`` channels of its first
            tensor are the image.
        """

    @abstractmethod
    def iterate(
        self, layer: nn.Module, state: tuple[Tensor, ...], scan: NormalisedPhysics
    ) -> tuple[Tensor, ...]:
        r"""
        Return the state after an iteration.

        :param torch.nn.Module layer: the network of this iteration.
        :param tuple state: the state.
        :param NormalisedPhysics scan: operator and measurement.
        :return: (tuple) the next state.
        """

    def normalise(self, y: Tensor, physics: LinearPhysics) -> NormalisedPhysics:
        r"""
        Check a measurement and its physics, and divide both by a bound of the norm.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: (NormalisedPhysics) both, divided by the bound.
        :raises TypeError: if the physics is not linear, or ``y`` is not a tensor of the
            precision of the weights.
        :raises ValueError: if ``y`` is not a finite measurement of images with
            ``in_channels`` channels.
        :raises AdjointMismatchError: if ``A_adjoint`` is not the transpose of ``A``.
        """
        require_physics(physics, y)
        require_linear(physics)
        require_measurement(y)
        if not isinstance(y, Tensor):
            raise TypeError(
                f"y must be one tensor, got {type(y).__name__}: {type(self).__name__} "
                "takes no stacked physics; use a model of deq.optim, or FBPUNet."
            )
        with torch.no_grad():
            x = map_input(y, physics, iterations=0)
        check_images(x, self.in_channels)
        require_precision(y, self)
        return NormalisedPhysics(
            physics, y, self._norm.squared(physics, x).value ** 0.5
        )

    def forward(self, y: Tensor, physics: LinearPhysics, **kwargs: Any) -> Tensor:
        r"""
        Reconstruct.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: (:class:`torch.Tensor`) images of shape :math:`(B, C, H, W)`.
        :raises TypeError: if the physics is not linear, ``y`` is not a tensor of the
            precision of the weights, or an argument is unknown.
        :raises ValueError: if ``y`` is not a finite measurement of images with
            ``in_channels`` channels.
        :raises AdjointMismatchError: if ``A_adjoint`` is not the transpose of ``A``.
        """
        refuse_unknown(type(self).__name__, kwargs, ("y", "physics"))
        scan = self.normalise(y, physics)
        state = self.start(scan)
        for k in range(self.iterations):
            layer = self.layers[0 if self.tied else k]
            state = self.iterate(layer, state, scan)
        return state[0][:, : self.in_channels]

    def extra_repr(self) -> str:
        """Return the part of the representation that precedes the modules."""
        return (
            f"iterations={self.iterations}, in_channels={self.in_channels}, "
            f"tied={self.tied}"
        )


def require_precision(y: Tensor, model: nn.Module) -> None:
    r"""
    Raise unless a measurement has the precision of the weights of a model.

    :param torch.Tensor y: the measurement.
    :param torch.nn.Module model: the model.
    :raises TypeError: if the dtypes differ.
    """
    dtype = next(model.parameters()).dtype
    if y.dtype != dtype:
        raise TypeError(
            f"y has the precision of {y.dtype}, and the weights of {dtype}; convert "
            f"the model with .to({y.dtype}), or y."
        )


def require_data_channels(name: str, u: Tensor, data_channels: int) -> None:
    r"""
    Raise unless a tensor can be convolved by the networks of the dual variable.

    :param str name: name of the tensor, for the message.
    :param torch.Tensor u: a measurement or dual variable.
    :param int data_channels: its number of channels :math:`C'`.
    :raises ValueError: if ``u`` is not of shape :math:`(B, C', H', W')`.
    """
    if u.ndim != 4 or u.shape[1] != data_channels:
        raise ValueError(
            f"{name} must be of shape (B, {data_channels}, H, W), with "
            f"data_channels={data_channels}, got {tuple(u.shape)}."
        )
