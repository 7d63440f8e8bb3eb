"""Soft thresholding, and the thresholds that are learned for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from deepinv.optim.prior import L1Prior
from torch import Tensor, nn

_L1 = L1Prior()


def soft_threshold(z: Tensor, threshold: Tensor) -> Tensor:
    r"""
    :math:`\operatorname{sign}(z) \max(|z| - \theta, 0)`, the proximal operator of
    :math:`\theta \|\cdot\|_1`.

    :param torch.Tensor z: coefficients of shape :math:`(B, M, ...)`.
    :param torch.Tensor threshold: :math:`\theta`, of shape :math:`(M,)`.
    :return: (:class:`torch.Tensor`) of the shape and precision of ``z``.
    """
    shaped = threshold.to(z.dtype).reshape(-1, *[1] * (z.ndim - 2))
    return _L1.prox(z, gamma=shaped)


def log_thresholds(
    name: str, values: float | Sequence[float] | Tensor, atoms: int
) -> Tensor:
    r"""
    Thresholds as logarithms, to be learned: they stay positive, and where one starts at
    0 its atom is, and stays, unpenalised.

    :param str name: what to call them in an error.
    :param float, Sequence, torch.Tensor values: one for all atoms, or one for each.
    :param int atoms: number of atoms :math:`M`.
    :return: (:class:`torch.Tensor`) of shape :math:`(M,)` and torch's default dtype.
    :raises ValueError: if there are other than 1 or :math:`M`, or one is negative or
        not finite.
    """
    given = torch.as_tensor(values, dtype=torch.get_default_dtype()).detach().flatten()
    if len(given) not in (1, atoms):
        raise ValueError(
            f"{name} must be one number, or one for each of the {atoms} atoms, got "
            f"{len(given)}."
        )
    if not bool((torch.isfinite(given) & (given >= 0)).all()):
        raise ValueError(f"{name} must be nonnegative and finite, got {values!r}.")
    return given.log().expand(atoms).clone()


def per_layer(value: Tensor, layers: int) -> nn.Parameter:
    r"""
    :param torch.Tensor value: where every layer starts.
    :param int layers: number of layers :math:`K`.
    :return: (torch.nn.Parameter) copies, one a layer along a new first axis.
    """
    return nn.Parameter(value.detach().expand(layers, *value.shape).clone())
