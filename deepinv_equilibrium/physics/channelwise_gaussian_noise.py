"""Gaussian noise with one standard deviation per channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from deepinv.physics import NoiseModel
from torch import Tensor


class ChannelwiseGaussianNoise(NoiseModel):
    r"""
    Gaussian noise with one standard deviation per channel:

    .. math::

        y_c = z_c + \epsilon_c, \qquad \epsilon_c \sim \mathcal{N}(0, \sigma_c^2 I),
        \qquad c = 1, \dots, C.

    The wavelet denoising experiment in *Restarted contractive operators to learn at
    equilibrium* (Davy, Briceño-Arias, Pustelnik, 2025) uses it with
    :math:`(\sigma_R, \sigma_G, \sigma_B) = (0.1, 0.25, 0.5)`.

    It is not a subclass of :class:`deepinv.physics.GaussianNoise`, because code for
    that class reads a one-dimensional ``sigma`` as one value per *sample*.

    :param Sequence[float], float, torch.Tensor sigma: standard deviations in units of
        the measurement, finite and :math:`\geq 0`: one value for all channels, one per
        channel ``(C,)``, or one per sample and channel ``(B, C)``. They are a buffer
        and keep their gradient.
    :param torch.Generator rng: random number generator, on the device of the
        measurements. Default: ``None``, torch's global generator.
    :raises TypeError: if ``sigma`` is not real; ``forward`` raises it if the
        measurement is not a real floating-point tensor.
    :raises ValueError: if a value is negative or not finite, or the shape is wrong;
        ``forward`` raises it if the measurement has another number of channels or
        samples.

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

        :param Sequence[float], float, torch.Tensor sigma: new values, as in the
            constructor. Default: ``None``, keep the current ones.
        :param kwargs: parameters of the operator, which deepinv also passes here;
            ignored.
        :raises TypeError: if ``sigma`` is not real.
        :raises ValueError: if a value is negative or not finite, or the shape is wrong.
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
        :param Sequence[float], float, torch.Tensor sigma: new standard deviations,
            which replace the current ones. Default: ``None``, keep the current ones.
        :param int seed: seed of ``rng``. Default: ``None``, go on with its state.
        :return: noisy measurement of the shape and type of ``x``.
        :raises TypeError: if ``x`` is not a real floating-point tensor.
        :raises ValueError: if ``x`` has fewer than three axes, or another number of
            channels or samples than ``sigma``.
        """
        self.update_parameters(sigma=sigma, **kwargs)
        self._check(x)
        if self.rng is not None and self.rng.device != x.device:
            self.to(x.device)
        deviations = self.sigma[(...,) + (None,) * (x.dim() - 2)].to(x)
        return x + deviations * self.randn_like(x, seed=seed)

    def __mul__(self, other: NoiseModel) -> NoiseModel:
        r"""
        Compose with another noise model, which is applied first: :math:`N_1 \circ N_2`.

        ``NoiseModel.__mul__`` would lose both noises: it calls ``noise_model``, which
        is the identity in every class that defines ``forward``.

        :param deepinv.physics.NoiseModel other: :math:`N_2`.
        :return: (deepinv.physics.NoiseModel) the composition.
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
    """Return standard deviations of shape (C,) or (B, C), or raise."""
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
