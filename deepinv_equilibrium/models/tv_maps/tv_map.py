"""The base class of maps from images to TV weights, and the constant map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .positivity import Positivity, Softplus

_DTYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)


class TVMap(nn.Module, ABC):
    r"""
    A map :math:`z \mapsto \Lambda` from an image to the weight of its total variation
    :math:`\|\Lambda \mathrm{D} x\|`, with :math:`\mathrm{D}` the forward differences.

    A direction is a spatial axis of the image. Directions of the same group share a
    weight:

    .. math::

        \Lambda_i = \operatorname{P}(r_{g(i)}(z)), \qquad i = 1, \dots, d,

    where :meth:`raw_weight` returns the raw weights :math:`r_0(z), r_1(z), \dots`, and
    :math:`\operatorname{P}` is positive and increasing. The weight is positive and
    finite for all raw weights, infinite ones included. A subclass defines
    :meth:`raw_weight`.

    :param list, tuple directions: the groups :math:`g(i)` of the 2 or 3 spatial axes,
        numbered from 0 without gaps. For images with axes :math:`(H, W)`, ``(0, 0)`` is
        one weight for both axes and ``(0, 1)`` one weight for each axis. For a time
        series with axes :math:`(T, H, W)`, ``(0, 1, 1)`` is one weight for time and one
        for the two axes of space, as in :footcite:t:`kofler2023learning`.
    :param deepinv_equilibrium.models.Positivity, None positivity: the function
        :math:`\operatorname{P}`. Default: ``None``, :class:`Softplus()
        <deepinv_equilibrium.models.Softplus>`.
    :raises TypeError: if an argument is of another type.
    :raises ValueError: if ``directions`` are not the groups of 2 or 3 axes.
    """

    def __init__(
        self, directions: Sequence[int], positivity: Positivity | None = None
    ) -> None:
        super().__init__()
        self.directions = _check_directions(directions)
        self.groups = max(self.directions) + 1
        positivity = Softplus() if positivity is None else positivity
        if not isinstance(positivity, Positivity):
            raise TypeError(
                "positivity must be a Positivity, such as Softplus(scale=0.1) or "
                f"BoundedSigmoid(bound=0.5), got {positivity!r}."
            )
        self.positivity = positivity

    @abstractmethod
    def raw_weight(self, z: Tensor) -> Tensor:
        r"""
        Return the raw weights of an image.

        :param torch.Tensor z: real images of shape :math:`(B, C, *spatial)`. The
            channels of complex images are the real parts of all channels, followed by
            the imaginary parts.
        :return: (:class:`torch.Tensor`) real numbers of shape :math:`(B, G, *spatial)`
            for :math:`G` groups. An axis along which they are constant may have size 1,
            except that of the groups.
        """

    def forward(self, z: Tensor) -> Tensor:
        r"""
        Return the weight of the total variation of an image.

        :param torch.Tensor z: images of shape :math:`(B, C, H, W)` or :math:`(B, C, T,
            H, W)`, of any size, real or complex, in single or double precision.
        :return: (:class:`torch.Tensor`) the weight :math:`\Lambda > 0`, real and in the
            precision of ``z``, of shape :math:`(B, 1, d, *spatial)`. If it is constant,
            :math:`B` and the spatial sizes are 1.
        :raises TypeError: if ``z`` is not a tensor of one of these dtypes.
        :raises ValueError: if ``z`` has another number of axes, or no pixels.
        """
        d = len(self.directions)
        _check_image(z, d)
        if z.is_complex():
            z = torch.cat((z.real, z.imag), dim=1)
        # Under autocast the raw weights may be in half precision.
        weight = self.positivity(self.raw_weight(z).to(z.dtype))
        return torch.stack([weight[:, g] for g in self.directions], dim=1)[:, None]

    def raw_weight_of(self, weight: float | Sequence[float]) -> tuple[float, ...]:
        r"""
        Return the raw weights of given weights, by the inverse of
        :math:`\operatorname{P}`.

        A subclass uses it to initialise the raw weights.

        :param float, list weight: one weight for all groups, or one for each.
        :return: (tuple) one raw weight for each group.
        :raises ValueError: if the number of weights is neither 1 nor the number of
            groups, or if a weight is out of the range of :math:`\operatorname{P}`.
        """
        weights = (
            tuple(weight) if isinstance(weight, Sequence) else (weight,) * self.groups
        )
        if len(weights) != self.groups:
            raise ValueError(
                f"initial_weight must be one number or {self.groups}, one for each "
                f"group of directions={self.directions}, got {weight!r}."
            )
        return tuple(self.positivity.initial(value) for value in weights)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the settings on which the meaning of the weights depends, for the
        ``state_dict``."""
        return {"directions": self.directions, "positivity": repr(self.positivity)}

    def set_extra_state(self, state: Any) -> None:
        """Raise ValueError if the weights were trained with other settings."""
        refuse_other_settings(self, state)

    def extra_repr(self) -> str:
        """Return the directions."""
        return f"directions={self.directions}"


def refuse_other_settings(module: nn.Module, state: dict[str, Any]) -> None:
    r"""
    Raise if a ``state_dict`` was trained with other settings than those of a module.

    :param torch.nn.Module module: the module that loads the ``state_dict``.
    :param dict state: the settings in the ``state_dict``, in the form of
        ``module.get_extra_state()``.
    :raises ValueError: if the settings differ.
    """
    own = module.get_extra_state()
    for name, value in state.items():
        if own[name] != value:
            raise ValueError(
                f"the weights were trained with {name}={value}, and this "
                f"{type(module).__name__} has {name}={own[name]}; construct it with "
                f"{name}={value}."
            )


def _check_directions(directions: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(directions, Sequence) or not all(
        type(group) is int for group in directions
    ):
        raise TypeError(
            "directions must be a tuple of integers, the group of each spatial axis, "
            f"got {directions!r}."
        )
    groups = tuple(directions)
    if len(groups) not in (2, 3) or set(groups) != set(range(max(groups) + 1)):
        raise ValueError(
            "directions must be the groups of 2 or 3 spatial axes, numbered from 0 "
            f"without gaps, such as (0, 0), (0, 1) or (0, 1, 1), got {groups}."
        )
    return groups


def _check_image(z: Tensor, d: int) -> None:
    if not isinstance(z, Tensor) or z.dtype not in _DTYPES:
        got = z.dtype if isinstance(z, Tensor) else type(z).__name__
        raise TypeError(
            f"z must be a tensor of dtype {', '.join(map(str, _DTYPES))}, got {got}."
        )
    if z.ndim != d + 2 or 0 in z.shape[1:]:
        raise ValueError(
            f"z must be of shape (B, C, {'H, W' if d == 2 else 'T, H, W'}) with at "
            f"least one channel and pixel, for directions of {d} axes, got "
            f"{tuple(z.shape)}."
        )


class ConstantTVMap(TVMap):
    r"""
    One trained weight for each group of directions, constant over pixels and images,

    .. math::

        \Lambda_i = \lambda_{g(i)}, \qquad i = 1, \dots, d.

    This is the baseline for a map in the same model: one number with ``directions=(0,
    0)``, and the pair :math:`(\lambda_t, \lambda_{xy})` of
    :footcite:t:`kofler2023learning` with ``directions=(0, 1, 1)``.

    :param list, tuple directions: the group of each spatial axis, see
        :class:`~deepinv_equilibrium.models.TVMap`.
    :param float, list initial_weight: initial weight in the unit of the images, one for
        all groups or one for each.
    :param deepinv_equilibrium.models.Positivity, None positivity: the function that
        makes the weights positive. Default: ``None``, :class:`Softplus()
        <deepinv_equilibrium.models.Softplus>`.
    :raises TypeError: if an argument is of another type.
    :raises ValueError: if an argument is out of its range.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.models import ConstantTVMap
    >>> tv_map = ConstantTVMap(directions=(0, 1, 1), initial_weight=(0.04, 0.005))
    >>> tv_map(torch.rand(4, 2, 20, 64, 64)).flatten()
    tensor([0.0400, 0.0050, 0.0050], grad_fn=<ViewBackward0>)
    """

    def __init__(
        self,
        directions: Sequence[int],
        initial_weight: float | Sequence[float] = 0.1,
        positivity: Positivity | None = None,
    ) -> None:
        super().__init__(directions, positivity)
        self.raw = nn.Parameter(torch.tensor(self.raw_weight_of(initial_weight)))

    @property
    def weights(self) -> tuple[float, ...]:
        """Current weight of each group."""
        with torch.no_grad():
            return tuple(self.positivity(self.raw).tolist())

    def raw_weight(self, z: Tensor) -> Tensor:
        r"""
        Return the raw weights, which do not depend on the image.

        :param torch.Tensor z: images of shape :math:`(B, C, *spatial)`. Only their
            number of axes and their device are used.
        :return: (:class:`torch.Tensor`) raw weights of shape :math:`(1, G, 1, \dots)`.
        """
        return self.raw.to(z.device).view(1, -1, *[1] * (z.ndim - 2))

    def extra_repr(self) -> str:
        """Return the directions and weights."""
        weights = ", ".join(f"{weight:.4g}" for weight in self.weights)
        return f"{super().extra_repr()}, weights=({weights})"
