"""Bounds of the spectral norm of a matrix trigonometric polynomial on the torus."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# Largest number of complex numbers in memory at a time: 32 MiB.
CHUNK = 2**21
# The worst frequencies of the last kernels: integers, a few kilobytes in all.
_REMEMBERED = 256
_recent: OrderedDict[Any, tuple[int, tuple[int, ...]]] = OrderedDict()


def grid_sizes(taps: tuple[int, ...], grid: int | None) -> tuple[int, ...]:
    r"""
    Return the number of grid points along each axis; it is 1 along axes on which the
    polynomial is constant.

    :param tuple taps: number of taps :math:`k_d` of the kernel along each axis.
    :param int grid: number of points along each other axis; ``None`` for
        :math:`\max(32, 8(k_d-1))`.
    :return: the numbers.
    :raises ValueError: if ``grid`` is less than the number of taps.
    """
    if grid is not None and grid < max(taps):
        raise ValueError(
            f"grid must be at least the taps of the kernel (after striding) along each "
            f"axis, {taps}, got {grid!r}."
        )
    return tuple(
        1 if k == 1 else max(32, 8 * (k - 1)) if grid is None else grid for k in taps
    )


def torus_norm(kernel: Tensor, grid: int | None = None) -> Tensor:
    r"""
    Return an upper bound of :math:`\sup_\omega \|\hat k(\omega)\|_2`, where
    :math:`\hat k(\omega) = \sum_n k_n e^{-i\langle\omega, n\rangle}`.

    The bound is the maximum over a grid of :math:`N_d` points along axis :math:`d`,
    times :math:`\prod_d 1/\cos\frac{\pi(k_d-1)}{2N_d}`. The proof treats one axis after
    the other. For unit vectors :math:`u, v`, the function :math:`p = |u^*\hat k v|^2`
    is a trigonometric polynomial of degree :math:`n = k_d - 1` along the axis, with
    values in :math:`[0, M]`. By M. Riesz's inequality for :math:`p - M/2`, at a
    distance :math:`\delta\leq\pi/n` from its maximum
    :math:`p \geq M(1+\cos n\delta)/2 = M\cos^2(n\delta/2)`, and the distance of the
    nearest grid point is at most :math:`\pi/N_d`.

    The gradient is that of the spectral norm at the worst frequency.

    :param torch.Tensor kernel: finite kernel of shape ``(groups, rows, columns, k_1,
        ..., k_D)``. The supremum is also over the groups.
    :param int grid: number of points along each axis. Default: ``None``,
        :math:`\max(32, 8(k_d-1))`.
    :return: a 0-dim float64 tensor.
    """
    kernel = kernel.to(torch.complex128 if kernel.is_complex() else torch.float64)
    taps = tuple(kernel.shape[3:])
    sizes = grid_sizes(taps, grid)
    scale = kernel.detach().abs().amax()
    if not scale > 0:
        return kernel.abs().sum()
    kernel = kernel / scale  # so that no Gram matrix and no square overflows
    group, frequency = _known_worst(kernel.detach(), sizes)
    symbol = (kernel[group].flatten(2) + 0j) @ _phases(
        frequency, taps, sizes, kernel.device
    )
    factor = math.prod(
        1 / math.cos(math.pi * (k - 1) / (2 * size))
        for k, size in zip(taps, sizes, strict=True)
    )
    return torch.linalg.matrix_norm(symbol, 2) * scale * factor


def _phases(
    frequency: tuple[int, ...],
    taps: tuple[int, ...],
    sizes: tuple[int, ...],
    device: torch.device,
) -> Tensor:
    """Return the exponentials of a grid frequency at the taps, in row-major order."""
    turns = torch.zeros((), dtype=torch.float64)
    for f, k, size in zip(frequency, taps, sizes, strict=True):
        turns = turns[..., None] + torch.arange(k, dtype=torch.float64) * f / size
    angle = -2 * math.pi * turns.flatten()
    return torch.polar(torch.ones_like(angle), angle).to(device)


def _known_worst(kernel: Tensor, sizes: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Return :func:`_worst` of a kernel, from memory if a kernel of the same values was
    one of the last. A training step needs the bound of the same weights in the solve,
    in the recorded step and in certificates, and the search is most of its cost."""
    if (
        kernel.is_meta
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
    ):
        return _worst(kernel, sizes)
    values = torch.view_as_real(kernel) if kernel.is_complex() else kernel
    digest = hashlib.blake2b(values.cpu().contiguous().numpy().data).digest()
    key = (digest, tuple(values.shape), sizes)
    if key not in _recent:
        _recent[key] = _worst(kernel, sizes)
        if len(_recent) > _REMEMBERED:
            _recent.popitem(last=False)
    return _recent[key]


@torch.no_grad()
def _worst(kernel: Tensor, sizes: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Return the group and the grid frequency with the largest spectral norm."""
    best, worst = -1.0, (0, (0,) * len(sizes))
    for start, symbols in _symbols(kernel, sizes):
        shape, symbols = symbols.shape[:-2], symbols.flatten(0, -3)
        # The Frobenius norm is an upper bound that rules out most frequencies.
        frobenius = torch.linalg.matrix_norm(symbols)
        for count in (1, len(symbols)):  # the largest bound first, then the rest
            some = frobenius.topk(count).indices
            some = some[frobenius[some] > best]
            if some.numel() == 0:
                break
            values = _spectral_norms(symbols[some])
            if values.max() > best:
                best = float(values.max())
                first, *rest, group = _unravel(int(some[values.argmax()]), shape)
                worst = group, (start + first, *rest)
    return worst


def _spectral_norms(matrices: Tensor) -> Tensor:
    """Return the spectral norms of matrices from the Gram matrices of the smaller
    size."""
    if matrices.shape[-2] > matrices.shape[-1]:
        matrices = matrices.mH
    gram = matrices @ matrices.mH
    if gram.shape[-1] == 1:
        return gram[:, 0, 0].real.sqrt()
    return torch.linalg.eigvalsh(gram)[:, -1].clamp(min=0).sqrt()


def _unravel(index: int, shape: torch.Size) -> tuple[int, ...]:
    found: list[int] = []
    for size in reversed(shape):
        index, remainder = divmod(index, size)
        found.insert(0, remainder)
    return tuple(found)


def _symbols(kernel: Tensor, sizes: tuple[int, ...]) -> Iterator[tuple[int, Tensor]]:
    """Yield chunks of the first frequency axis: the first index and the symbols, of
    shape ``(F_1, ..., F_D, groups, rows, columns)``. The kernel is padded with zeros to
    the grid. The symbols of a real kernel at omega and -omega are conjugate to each
    other, so that half the first axis suffices."""
    first = torch.fft.fft(kernel, n=sizes[0], dim=3)
    count = sizes[0] if kernel.is_complex() else sizes[0] // 2 + 1
    entries = math.prod(kernel.shape[:3]) * math.prod(sizes[1:])
    step = max(1, CHUNK // entries)
    rest = tuple(range(4, kernel.ndim))
    for start in range(0, count, step):
        chunk = first[:, :, :, start : min(start + step, count)]
        if rest:
            chunk = torch.fft.fftn(chunk, s=sizes[1:], dim=rest)
        yield start, chunk.permute(*range(3, kernel.ndim), 0, 1, 2)
