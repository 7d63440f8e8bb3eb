"""Gaussian noise with one standard deviation per channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from deepinv.physics import NoiseModel
from torch import Tensor


class ChannelwiseGaussianNoise(NoiseModel):
    r"""
    Gaussian noise with one standard deviation per channel.

    .. math::

        y_c = z_c + \epsilon_c, \qquad \epsilon_c \sim \mathcal{N}(0, \sigma_c^2 I),
        \qquad c = 1, \dots, C.

    The noise of the wavelet denoising experiment of *Restarted contractive
    operators to learn at equilibrium* (Davy, Briceño-Arias, Pustelnik, 2025), there
    with :math:`(\sigma_R, \sigma_G, \sigma_B) = (0.1, 0.25, 0.5)`.

    It is no subclass of :class:`deepinv.physics.GaussianNoise`, whose one-dimensional
    ``sigma`` holds one value per *sample*: code written for that would misread ours.

    :param Sequence[float], float, torch.Tensor sigma: standard deviations in units of
        the measurement, finite and :math:`\geq 0`: one value for all channels, one per
        channel ``(C,)``, or one per sample and channel ``(B, C)``. Stored as a
        buffer; a gradient that it carries is kept.
    :param torch.Generator, None rng: random number generator, on the device of the
        measurements.
    :raises ValueError: if a value is negative or not finite or the shape is wrong;
        later, if a measurement has another number of channels or samples.
    :raises TypeError: if ``sigma`` is not real, or a measurement is not a real
        floating-point tensor.

    :Examples:

        >>> import torch
        >>> from deepinv_equilibrium.physics import ChannelwiseGaussianNoise
        >>> noise = ChannelwiseGaussianNoise((0.1, 0.25, 0.5))
        >>> noise(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 3, 16, 16])

    """

    def __init__(
        self,
        sigma: Sequence[float] | float | Tensor,
        rng: torch.Generator | None = None,
    ) -> None:
        super().__init__(rng=rng)
        deviations = _as_standard_deviations(sigma)
        self.sigma: Tensor
        self.register_buffer(
            "sigma", deviations if rng is None else deviations.to(rng.device)
        )

    def update_parameters(
        self, sigma: Sequence[float] | float | Tensor | None = None, **kwargs: Any
    ) -> None:
        r"""
        Replace the standard deviations.

        :param Sequence[float], float, torch.Tensor, None sigma: new values, as in the
            constructor; ``None`` keeps the current ones.
        :param kwargs: parameters of other parts of the measurement, which deepinv
            passes to every part; they are left to them.
        :raises ValueError: if a value is negative or not finite or the shape is wrong.
        :raises TypeError: if ``sigma`` is not real.
        """
        if sigma is not None:
            sigma = _as_standard_deviations(sigma)
        super().update_parameters(sigma=sigma, **kwargs)

    def forward(
        self,
        x: Tensor,
        sigma: Sequence[float] | float | Tensor | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        r"""
        Add noise.

        :param torch.Tensor x: measurement ``(B, C, ...)``.
        :param Sequence[float], float, torch.Tensor, None sigma: new standard
            deviations; stored if given.
        :param int, None seed: seed of ``rng``.
        :return: noisy measurement of the shape and type of ``x``.
        :raises ValueError: if ``x`` has fewer than three axes, or another number of
            channels or samples than ``sigma``.
        :raises TypeError: if ``x`` is not a real floating-point tensor.
        """
        self.update_parameters(sigma=sigma, **kwargs)
        self._check(x)
        if self.rng is not None and self.rng.device != x.device:
            self.to(x.device)
        deviations = self.sigma[(...,) + (None,) * (x.dim() - 2)].to(x)
        return x + deviations * self.randn_like(x, seed=seed)

    def __mul__(self, other: NoiseModel) -> NoiseModel:
        r"""
        Apply another noise model first: :math:`N_1 \circ N_2`.

        NoiseModel's own composition calls ``noise_model``, which is the identity in
        every class that defines ``forward``, so that both noises would be lost.
        """
        if not isinstance(other, NoiseModel):
            return NotImplemented
        return NoiseModel(noise_model=lambda x: self(other(x)), rng=self.rng)

    def _check(self, x: Tensor) -> None:
        if not x.is_floating_point():
            raise TypeError(f"x must be a real floating-point tensor, got {x.dtype}.")
        if x.dim() < 3:
            raise ValueError(f"x must have shape (B, C, ...), got {tuple(x.shape)}.")
        if self.sigma.shape[-1] not in (1, x.shape[1]):
            raise ValueError(
                f"x has {x.shape[1]} channels but sigma has {self.sigma.shape[-1]} "
                f"values: give one per channel, or a single one for all."
            )
        if self.sigma.dim() == 2 and self.sigma.shape[0] not in (1, x.shape[0]):
            raise ValueError(
                f"x has {x.shape[0]} samples but sigma has {self.sigma.shape[0]} rows: "
                f"give one per sample, or a single one for all."
            )


def _as_standard_deviations(sigma: Sequence[float] | float | Tensor) -> Tensor:
    if not isinstance(sigma, Tensor):
        try:
            sigma = torch.tensor(sigma, dtype=torch.get_default_dtype())
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"sigma must be a number, a sequence of them or a tensor, "
                f"got {sigma!r}."
            ) from error
    if not sigma.is_floating_point():
        raise TypeError(f"sigma must be real floating-point, got {sigma.dtype}.")
    if sigma.dim() > 2 or sigma.numel() == 0:
        raise ValueError(
            f"sigma must be one value, or have shape (C,) or (B, C), got "
            f"{tuple(sigma.shape)}."
        )
    if not (torch.isfinite(sigma) & (sigma >= 0)).all():
        raise ValueError(
            f"sigma must be finite and non-negative, got {sigma.tolist()}."
        )
    return sigma.reshape(1) if sigma.dim() == 0 else sigma
