"""Lipschitz constant of a module, by rules for its layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .bound import Bound
from .declaration import refuse_changed
from .image_size import require_image_size
from .lipschitz_registry import find_rule
from .uncertifiable_module_error import UncertifiableModuleError


@torch.no_grad()
def lipschitz(module: nn.Module, img_size: Sequence[int] | None = None) -> Bound:
    r"""
    Upper bound :math:`L` of the Lipschitz constant of a module in the :math:`\ell_2`
    norm: :math:`\|f(x) - f(y)\|_2 \leq L\|x - y\|_2` for all :math:`x, y`.

    Each layer has a rule: convolutions by
    :func:`~deepinv_equilibrium.certificates.convolution_norm`, linear layers by their
    spectral norm, activations by their largest slope, batch normalisation in eval mode,
    pooling, resampling and padding by their overlaps, ``Sequential`` by the product.
    Skip connections must be declared, by
    :class:`~deepinv_equilibrium.certificates.Residual`: nothing is inferred from the
    code of a ``forward``. The weights are those that the module uses, parametrisations
    applied, and the arithmetic is exact: rounding in the module itself is left out.

    The bound is that of the module as it stands, weights and mode; it ends with any
    change of them. A product of the norms of many layers is a poor bound: 1e9 is usual
    for an ordinary network.

    >>> import torch, deepinv_equilibrium as deq
    >>> network = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.AvgPool2d(2))
    >>> print(deq.lipschitz(network))
    <= 0.5 (certified: product of 2 layers)

    :param torch.nn.Module module: the module.
    :param Sequence img_size: size of its input without the batch, ``(C, H, W)``. By
        default the bound holds for every size; pooling and upsampling to a given size
        are tighter with it.
    :return: a :class:`~deepinv_equilibrium.certificates.Bound`, whose ``source`` says
        how it was obtained.
    :raises UncertifiableModuleError: if a module within is unknown, random, in train
        mode where that matters, or has forward hooks; the error names it.
    :raises TypeError: if ``module`` is no module, ``img_size`` is no sequence, or the
        module's rule returns no upper bound.
    :raises ValueError: if ``img_size`` does not hold one to four positive integers.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {module!r}.")
    size = None if img_size is None else require_image_size(img_size)
    try:
        refuse_changed(module)
        bound = find_rule(module)(module, size)
    except UncertifiableModuleError as error:
        raise UncertifiableModuleError(error.module, error.reason, module) from None
    if not isinstance(bound, Bound) or bound.is_lower:
        raise TypeError(
            f"the Lipschitz rule of {type(module).__name__} must return an upper "
            f"Bound, got {bound!r}."
        )
    return bound
