"""Linear physics of deepinv and of this package on small images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import deepinv as dinv
import torch
from deepinv.physics import LinearPhysics
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq

from .draws import Draw, Generator, choose, generator
from .outcomes import VoidError


@dataclass
class PhysicsCase:
    """
    A linear physics and the size of its images.

    :param physics: the physics.
    :param size: size of an image without the batch.
    :param batch: batch size of the parameters.
    """

    physics: LinearPhysics
    size: tuple[int, ...]
    batch: int = 1

    def __str__(self) -> str:
        inner = getattr(self.physics, "physics_list", "")
        details = {
            name: getattr(self.physics, name)
            for name in ("padding", "factor", "filter", "mask")
            if hasattr(self.physics, name)
        }
        return f"{type(self.physics).__name__} {inner} on {self.size}: {details}"


def blur_kernel(rng: Generator, channels: int = 1, most: int = 5) -> Tensor:
    """Return a kernel, nonnegative in most cases."""
    shape = (1, channels, rng.randint(1, most), rng.randint(1, most))
    kernel = rng.kernel(*shape)
    if rng.random() < 0.7:
        kernel = kernel.abs()
    return kernel + 1e-3 if kernel.abs().max() == 0 else kernel


def mask_of(rng: Generator, *shape: int) -> Tensor:
    """Return a mask of real numbers or of zeros and ones."""
    mask = torch.rand(shape, generator=rng.torch, dtype=torch.float64)
    if rng.random() < 0.4:
        mask = (mask > 0.4).double()
    return mask * rng.choice([1.0, 1.0, -1.0, 0.01, 30.0])


class Rotated(LinearPhysics):
    """A user's physics: a matrix, with or without the right transpose."""

    def __init__(self, matrix: Tensor, size: tuple[int, ...], right: bool) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.size, self.factor = size, 1.0 if right else 1.1

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        return x.flatten(1) @ self.matrix.to(x).T

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        return self.factor * (y @ self.matrix.to(y)).reshape(-1, *self.size)


class LouderMask(dinv.physics.Inpainting):
    """A subclass with another operator."""

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        return 2 * super().A(x, **kwargs)

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        return 2 * super().A_adjoint(y, **kwargs)


def decomposable(rng: Generator, size: tuple[int, ...]) -> LinearPhysics:
    """Return a user's decomposition, whose V may be no isometry."""
    n = math.prod(size)
    V = rng.orthogonal(n)
    if rng.random() < 0.5:
        V = torch.diag(1 + 2 * rng.normal(n).abs()) @ V
    mask = mask_of(rng, 1, *size)
    if rng.random() < 0.3:
        return dinv.physics.DecomposablePhysics(mask=mask)
    if rng.random() < 0.5:
        return dinv.physics.DecomposablePhysics(
            U=lambda x: (x.flatten(1) @ V.to(x).T).reshape(-1, *size),
            U_adjoint=lambda x: (x.flatten(1) @ V.to(x)).reshape(-1, *size),
            mask=mask,
        )
    return dinv.physics.DecomposablePhysics(
        V_adjoint=lambda x: (x.flatten(1) @ V.to(x)).reshape(-1, *size),
        V=lambda x: (x.flatten(1) @ V.to(x).T).reshape(-1, *size),
        mask=mask,
    )


def _build(kind: str, rng: Generator) -> tuple[LinearPhysics, tuple[int, ...], int]:
    """Return a physics of a kind, the size of its images, and its batch size."""
    physics = dinv.physics
    height, width = rng.randint(3, 6), rng.randint(3, 6)
    channels = rng.choice([1, 1, 2, 3])
    size: tuple[int, ...] = (channels, height, width)
    batch = rng.choice([1, 1, 1, 2])
    padding = rng.choice(["valid", "circular", "replicate", "reflect", "constant"])
    most = 5 if padding == "circular" else min(height, width, 4)
    kernel = blur_kernel(rng, rng.choice([1, channels]), most)
    if batch == 2:
        kernel = torch.cat([kernel, 2 * kernel.flip(-1)])
    if kind == "mask":
        return physics.Inpainting(size, mask=mask_of(rng, batch, *size)), size, batch
    if kind == "louder":
        return LouderMask(size, mask=mask_of(rng, *size)), size, 1
    if kind == "denoising":
        return physics.Denoising(), size, 1
    if kind == "demosaicing":
        size = (3, 4, 4)
        return physics.Demosaicing(size), size, 1
    if kind == "blur":
        return physics.Blur(kernel, padding, rng.random() < 0.5), size, batch
    if kind == "blurfft":
        return physics.BlurFFT(size, filter=kernel[:1]), size, 1
    if kind == "channelwise":
        kernel = blur_kernel(rng, channels, most)
        return deq.physics.ChannelwiseBlur(kernel, padding=padding), size, 1
    if kind in ("downsampling", "upsampling"):
        factor = rng.choice([2, 2, 3])
        size = (channels, *(factor * rng.randint(1, 3) for _ in range(2)))
        if rng.random() < 0.2:
            size = (channels, size[1] + 1, size[2] + 1)
        if rng.random() < 0.2:
            kernel = "bicubic" if rng.random() < 0.5 else "bilinear"
        elif rng.random() < 0.2:
            kernel = None
        else:
            kernel = blur_kernel(rng, 1, 5 if padding == "circular" else min(size[1:]))
        maker = physics.Downsampling if kind == "downsampling" else physics.Upsampling
        options = {"filter": kernel, "factor": factor, "padding": padding}
        return maker(img_size=size, **options), size, 1
    if kind == "matlab":
        size = (channels, 2 * height, 2 * width)
        return physics.DownsamplingMatlab(factor=2), size, 1
    if kind == "varying":
        count = rng.randint(1, 3)
        k = rng.randint(1, 3)
        filters = rng.kernel(1, 1, count, k, k)
        if rng.random() < 0.7:
            filters = filters.abs()
        multipliers = rng.normal(1, 1, count, height, width).abs()
        return (
            physics.SpaceVaryingBlur(filters, multipliers, padding=padding),
            (1, height, width),
            1,
        )
    if kind == "decolorize":
        size = (3, height, width)
        srf = rng.choice(["rec601", "flat", (0.1, 0.2, 0.9), (2.0, 1.0, 3.0)])
        return physics.Decolorize(srf=srf), size, 1
    if kind == "unmixing":
        M = rng.normal(3, 5).abs()
        return physics.HyperSpectralUnmixing(M=M), (3, 3, 3), 1
    if kind == "sensing":
        m = rng.randint(1, 8)
        return physics.CompressedSensing(m, size, rng=rng.torch), size, 1
    if kind == "pixel":
        size = (1, 4, 4)
        camera = physics.SinglePixelCamera(
            rng.randint(1, 12), size, fast=rng.random() < 0.5, rng=rng.torch
        )
        return camera, size, 1
    if kind == "structured":
        size = (1, 4, 4)
        return physics.StructuredRandom(size, size, rng=rng.torch), size, 1
    if kind == "mri":
        size = (2, height, width)
        return physics.MRI(mask_of(rng, height, width), (height, width)), size, 1
    if kind == "dynamic":
        size = (2, 2, height, width)
        mask = mask_of(rng, 1, 2, 2, height, width)
        return physics.DynamicMRI(mask, (height, width)), size, 1
    if kind == "coils":
        coils = torch.complex(
            rng.normal(1, 2, height, width), rng.normal(1, 2, height, width)
        )
        size = (2, height, width)
        mask = mask_of(rng, 1, 1, height, width).expand(1, 2, height, width)
        return physics.MultiCoilMRI(mask, coils, (height, width)), size, 1
    if kind == "dynamic coils":
        size = (2, 2, height, width)
        coils = torch.complex(
            rng.normal(1, 2, height, width), rng.normal(1, 2, height, width)
        )
        mask = mask_of(rng, 1, 2, 2, height, width)
        return deq.physics.DynamicMultiCoilMRI(mask, coils), size, 1
    if kind == "tomography":
        width = rng.randint(3, 5)
        return (
            physics.Tomography(
                angles=rng.randint(1, 4),
                img_width=width,
                circle=rng.random() < 0.3,
                adjoint_via_backprop=rng.random() < 0.8,
                normalize=rng.random() < 0.3,
                dtype=torch.float64,
            ),
            (1, width, width),
            1,
        )
    if kind == "pansharpen":
        size = (3, 4, 4)
        return physics.Pansharpen(size, factor=2), size, 1
    if kind == "spectral":
        size = (3, 4, 4)
        return physics.CompressiveSpectralImaging(size, rng=rng.torch), size, 1
    if kind == "multiscale":
        size = (1, 4, 4)
        inner = physics.Inpainting(size, mask=mask_of(rng, *size))
        return physics.LinearPhysicsMultiScaler(inner, size, factors=(2,)), size, 1
    if kind == "decomposable":
        size = (1, rng.randint(1, 4), rng.randint(1, 4))
        return decomposable(rng, size), size, 1
    if kind == "user":
        size = (1, rng.randint(1, 4), rng.randint(1, 4))
        matrix = rng.normal(rng.randint(1, 8), math.prod(size))
        return Rotated(matrix, size, rng.random() < 0.8), size, 1
    assert kind == "closure"
    size = (1, rng.randint(1, 4), rng.randint(1, 4))
    matrix = rng.normal(rng.randint(1, 8), math.prod(size))
    return (
        LinearPhysics(
            A=lambda x: x.flatten(1) @ matrix.to(x).T,
            A_adjoint=lambda y: (y @ matrix.to(y)).reshape(-1, *size),
            img_size=size,
        ),
        size,
        1,
    )


SIMPLE = ("mask", "blurfft", "blur", "denoising", "channelwise", "downsampling")
KINDS = (
    *SIMPLE,
    *("mask", "blur", "blur", "blurfft", "channelwise", "downsampling"),
    *("louder", "demosaicing", "upsampling", "matlab", "varying", "decolorize"),
    *("unmixing", "sensing", "pixel", "structured", "mri", "dynamic", "coils"),
    *("dynamic coils", "tomography", "pansharpen", "spectral", "multiscale"),
    *("decomposable", "user", "closure"),
)
# The measurements are images of the size of x, so that operators can be chained.
CHAINED = ("mask", "blurfft", "denoising", "louder", "decomposable", "circular")


def chained(kind: str, rng: Generator, size: tuple[int, ...]) -> LinearPhysics:
    """Return a physics from images of a size to images of that size."""
    if kind in ("mask", "louder"):
        maker = LouderMask if kind == "louder" else dinv.physics.Inpainting
        return maker(size, mask=mask_of(rng, *size))
    if kind == "blurfft":
        return dinv.physics.BlurFFT(size, filter=blur_kernel(rng, 1, min(size[1:])))
    if kind == "circular":
        return dinv.physics.Blur(blur_kernel(rng, 1, min(size[1:])), "replicate")
    if kind == "decomposable":
        return decomposable(rng, size)
    return dinv.physics.Denoising()


def combined(draw: Draw, rng: Generator) -> PhysicsCase:
    """Draw a stack or a composition."""
    size = (1, rng.randint(2, 5), rng.randint(2, 5))
    parts = [
        chained(choose(draw, CHAINED), rng, size) for _ in range(rng.randint(2, 3))
    ]
    parts = [part.double() for part in parts]
    kind = choose(draw, ("stack", "identity", "identity", "product", "masks", "nested"))
    if kind == "identity":
        # The largest eigenvalues belong to one vector, so that their sum is attained.
        parts = [dinv.physics.Denoising().double(), parts[0]]
    if kind == "masks":
        mask = mask_of(rng, *size).clamp(0, 1)
        parts = [dinv.physics.Inpainting(size, mask=m) for m in (mask, 1 - mask)]
    if kind in ("stack", "masks", "identity"):
        reduction = rng.choice(["sum", "sum", "mean"])
        return PhysicsCase(
            dinv.physics.StackedLinearPhysics(parts, reduction=reduction), size
        )
    product = parts[0]
    for part in parts[1:]:
        product = part * product
    if kind == "nested":
        return PhysicsCase(dinv.physics.StackedLinearPhysics([product, *parts]), size)
    return PhysicsCase(product, size)


@st.composite
def physics(
    draw: Draw, kinds: tuple[str, ...] = KINDS, combine: bool = True
) -> PhysicsCase:
    """Draw a physics, in float64 in most cases."""
    rng = generator(draw)
    if combine and draw(st.integers(0, 4)) == 0:
        return combined(draw, rng)
    try:
        case = PhysicsCase(*_build(choose(draw, kinds), rng))
    except Exception as error:
        raise VoidError(repr(error)) from error
    cast = draw(st.integers(0, 5))
    if cast == 0 and case.physics is not None:
        case.physics = case.physics.float().double()
    elif cast != 1:
        case.physics = case.physics.double()
    return case
