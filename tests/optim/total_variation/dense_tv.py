"""Total variation by dense matrices and an interior point method. The code is
independent of the package."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

DOUBLE = torch.float64


def dense_differences(spatial: Sequence[int]) -> Tensor:
    """Return the forward differences of one channel, of shape (d, n, n)."""
    grid = list(itertools.product(*map(range, spatial)))
    index = {pixel: k for k, pixel in enumerate(grid)}
    matrix = torch.zeros(len(spatial), len(grid), len(grid), dtype=DOUBLE)
    for d, pixel in itertools.product(range(len(spatial)), grid):
        after = (*pixel[:d], pixel[d] + 1, *pixel[d + 1 :])
        if after in index:
            matrix[d, index[pixel], index[pixel]] = -1
            matrix[d, index[pixel], index[after]] = 1
    return matrix


def dense_prox(v: Tensor, weight: Tensor, norm: str, error: float = 2e-7) -> Tensor:
    """
    The proximal operator of total variation, to an error that is checked.

    :param v: images (B, C, *spatial), real or complex, in double precision.
    :param weight: broadcastable to (B, C, d, *spatial).
    """
    d, n = v.ndim - 2, v[0, 0].numel()
    full = weight.expand(*v.shape[:2], d, *v.shape[2:]).reshape(-1, d, n)
    flat = v.reshape(-1, 1, n)
    parts = torch.cat([flat.real, flat.imag], dim=1) if v.is_complex() else flat
    rows = full[..., None] * dense_differences(v.shape[2:])
    # (N, d, pixels, parts, parts * n); parts are real and imaginary.
    both = torch.eye(parts.shape[1], dtype=DOUBLE)
    blocks = torch.einsum("Ndpn,rs->Ndprsn", rows, both).flatten(4)
    if norm == "isotropic":
        blocks = blocks.transpose(1, 2).flatten(2, 3)
    else:
        blocks = blocks.flatten(1, 2)
    x = _interior_point(parts.flatten(1), blocks, error).reshape(parts.shape)
    image = torch.complex(x[:, 0], x[:, 1]) if v.is_complex() else x
    return image.reshape(v.shape)


def _interior_point(v: Tensor, blocks: Tensor, error: float) -> Tensor:
    """
    min 1/2 |x - v|^2 + sum_g |K_g x| through its dual with a barrier,
    min 1/2 |v - K^T q|^2 - mu sum_g log(1 - |q_g|^2), mu -> 0, by Newton's method.

    :param v: (N, n), N problems.
    :param blocks: K, (N, groups, members, n).
    """
    matrix = blocks.flatten(1, 2)
    gram = matrix @ matrix.mT
    q = torch.zeros(blocks.shape[:3], dtype=DOUBLE)
    members = torch.eye(q.shape[2], dtype=DOUBLE)

    def primal(q: Tensor) -> Tensor:
        return v - (matrix.mT @ q.flatten(1)[..., None])[..., 0]

    def barrier(q: Tensor, mu: float) -> Tensor:
        room = 1 - q.square().sum(2)
        value = primal(q).square().sum(1) / 2 - mu * room.log().sum(1)
        return torch.where((room > 0).all(1), value, torch.inf)

    mu = max((matrix @ v[..., None]).abs().max().item(), 1e-3)
    while mu > 1e-15 / q.shape[1]:
        mu *= 0.03
        for _ in range(30):
            room = (1 - q.square().sum(2))[..., None]
            pull = (matrix @ primal(q)[..., None])[..., 0]
            slope = (2 * mu * q / room).flatten(1) - pull
            curve = 2 * mu * members / room[..., None]
            curve = curve + 4 * mu * q[..., None] * (q / room**2)[..., None, :]
            hessian = gram.clone()
            blocks_of_it = hessian.view(*q.shape, *q.shape[1:]).diagonal(0, 1, 3)
            blocks_of_it += curve.permute(0, 2, 3, 1)
            # K K^T is singular, and its other eigenvalues, from 2 mu, below rounding.
            hessian.diagonal(0, 1, 2).mul_(1 + 1e-14)
            move = -torch.linalg.solve(hessian, slope)
            decrease = -(slope * move).sum(1)
            if bool((decrease < 1e-3 * mu).all()):
                break
            move, now = move.reshape(q.shape), barrier(q, mu)
            # No further than to the boundary: |q + length * move| < 1.
            along = (q * move).sum(2)
            root = (along.square() + move.square().sum(2) * room[..., 0]).sqrt()
            length = (0.99 * (room[..., 0] / (along + root)).amin(1)).clamp_max(1)
            for _ in range(40):
                there = barrier(q + length[:, None, None] * move, mu)
                good = there <= now - 0.1 * length * decrease
                if bool(good.all()):
                    break
                length = torch.where(good, length, length / 2)
            q = q + torch.where(good, length, 0.0)[:, None, None] * move
    x = primal(q)
    field = (matrix @ x[..., None]).reshape(q.shape)
    gap = (field.norm(dim=2) - (field * q).sum(2)).sum(1).max().item()
    assert 2 * gap < error**2, f"the reference has not converged: {gap}"
    return x
