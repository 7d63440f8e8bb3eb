"""A sample's result does not depend on its batch-mates, for every algorithm and every
linear physics of deepinv and of this package that needs no further package."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv import physics as dp
from torch import Tensor

import deepinv_equilibrium as deq

rand = partial(
    torch.rand, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
)
kernel = rand(1, 1, 3, 3) / 4
image = (1, 4, 4)


def cumulative(x: Tensor, **kwargs: Any) -> Tensor:
    return x.cumsum(-1)


def cumulative_adjoint(y: Tensor, **kwargs: Any) -> Tensor:
    return y.flip(-1).cumsum(-1).flip(-1)


def blur(padding: str = "replicate") -> dp.Blur:
    return dp.Blur(filter=kernel, padding=padding)


def downsampling(padding: str, **kwargs: Any) -> dp.Downsampling:
    return dp.Downsampling(image, **{"filter": kernel, **kwargs}, padding=padding)


def complex_maps() -> Tensor:
    return torch.complex(rand(1, 2, 4, 4), rand(1, 2, 4, 4))


PHYSICS: dict[str, tuple[Callable[[], dp.LinearPhysics], tuple[int, ...]]] = {
    "Denoising": (dp.Denoising, image),
    "Inpainting": (lambda: dp.Inpainting(image, mask=rand(image)), image),
    "Demosaicing": (lambda: dp.Demosaicing((4, 4)), (3, 4, 4)),
    "Decolorize": (dp.Decolorize, (3, 4, 4)),
    "BlurFFT": (lambda: dp.BlurFFT(image, filter=kernel), image),
    "Blur, valid": (lambda: blur("valid"), image),
    "Blur, circular": (lambda: blur("circular"), image),
    "Blur, replicate": (blur, image),
    "Blur, use_fft": (lambda: dp.Blur(kernel, "reflect", use_fft=True), image),
    "Downsampling, valid": (lambda: downsampling("valid"), image),
    "Downsampling, circular": (lambda: downsampling("circular"), image),
    "Downsampling, replicate": (lambda: downsampling("replicate"), image),
    "Downsampling, large": (lambda: downsampling("circular", filter="bicubic"), image),
    "Downsampling, None": (lambda: downsampling("circular", filter=None), image),
    "Upsampling": (lambda: dp.Upsampling((1, 8, 8), filter=kernel), image),
    "DownsamplingMatlab": (lambda: dp.DownsamplingMatlab(factor=2), (1, 8, 8)),
    "SpaceVaryingBlur": (
        lambda: dp.SpaceVaryingBlur(
            rand(1, 1, 2, 3, 3) / 8, rand(1, 1, 2, 4, 4), padding="replicate"
        ),
        image,
    ),
    "MRI": (lambda: dp.MRI(mask=rand(4, 4), img_size=(4, 4)), (2, 4, 4)),
    "DynamicMRI": (
        lambda: dp.DynamicMRI(mask=rand(2, 4, 4), img_size=(2, 4, 4)),
        (2, 2, 4, 4),
    ),
    "MultiCoilMRI": (
        lambda: dp.MultiCoilMRI(
            mask=rand(4, 4), coil_maps=complex_maps(), img_size=(4, 4)
        ),
        (2, 4, 4),
    ),
    "Tomography": (lambda: dp.Tomography(angles=3, img_width=6), (1, 6, 6)),
    "SinglePixelCamera": (lambda: dp.SinglePixelCamera(6, image), image),
    "SinglePixelCamera, slow": (
        lambda: dp.SinglePixelCamera(6, image, fast=False),
        image,
    ),
    "CompressedSensing": (
        lambda: dp.CompressedSensing(6, image, dtype=torch.float64),
        image,
    ),
    "HyperSpectralUnmixing": (
        lambda: dp.HyperSpectralUnmixing(M=rand(3, 4)),
        (3, 4, 4),
    ),
    "CompressiveSpectralImaging": (
        lambda: dp.CompressiveSpectralImaging((3, 8, 8), mode="sd"),
        (3, 8, 8),
    ),
    "Pansharpen": (lambda: dp.Pansharpen((3, 8, 8), factor=2), (3, 8, 8)),
    "StructuredRandom": (lambda: dp.StructuredRandom(image, image), image),
    "StackedLinearPhysics": (lambda: dp.stack(blur("valid"), dp.Denoising()), image),
    "ComposedLinearPhysics": (lambda: dp.compose(blur(), blur("valid")), image),
    "LinearPhysics": (
        lambda: dp.LinearPhysics(A=cumulative, A_adjoint=cumulative_adjoint),
        image,
    ),
    "VirtualLinearPhysics": (
        lambda: dp.VirtualLinearPhysics(
            physics=blur(),
            transform=dinv.transform.Shift(),
            g_params={"x_shift": torch.tensor([1]), "y_shift": torch.tensor([0])},
        ),
        image,
    ),
    "PhysicsCropper": (lambda: dp.PhysicsCropper(blur(), (1, 1)), (1, 5, 5)),
    "ChannelwiseBlur": (
        lambda: deq.physics.ChannelwiseBlur(rand(2, 3, 3) / 4, "replicate"),
        (2, 4, 4),
    ),
    "ChannelwiseBlur, circular": (
        lambda: deq.physics.ChannelwiseBlur(rand(2, 3, 3) / 4),
        (2, 4, 4),
    ),
    "DynamicMultiCoilMRI": (
        lambda: deq.physics.DynamicMultiCoilMRI(mask=rand(2, 4, 4), coil_maps=2),
        (2, 2, 4, 4),
    ),
}
ALGORITHMS: dict[str, dict[str, float]] = {
    **{key: {} for key in ("PGD", "GD", "FISTA", "HQS", "DRS", "ADMM")},
    "PDCP": {"stepsize_dual": 0.5},
}


def last_sample(y: Any) -> Any:
    if isinstance(y, Tensor):
        return y[1:]
    return type(y)([last_sample(part) for part in y])


@pytest.mark.parametrize("name", PHYSICS)
def test_result_of_a_sample_does_not_depend_on_its_batch(name: str) -> None:
    make, size = PHYSICS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deepinv on deprecated and slow operators
        physics = make()
    physics = physics if name == "Tomography" else physics.double()
    dtype = torch.float32 if name == "Tomography" else torch.float64
    physics.tol = 1e-3
    ramp = torch.linspace(0, 1, torch.Size(size).numel(), dtype=dtype).reshape(size)
    # The first sample is harder for conjugate gradients than the second one.
    y = physics.A(torch.stack([rand(size).to(dtype), ramp]))
    for algorithm, settings in ALGORITHMS.items():
        model = getattr(deq.optim, algorithm)(
            data_fidelity=dinv.optim.L2(),
            prior=dinv.optim.Tikhonov(),
            stepsize=0.3,
            trainable_params=[],
            DEQ=deq.Equilibrium(deq.Picard(max_iter=2, rtol=0.0), on_failure="ignore"),
            **settings,
        )
        with torch.no_grad():
            together, alone = model(y, physics)[1:], model(last_sample(y), physics)
        rounding = 1e-12 if dtype is torch.float64 else 1e-5
        error = float((together - alone).abs().max() / alone.abs().max())
        assert error <= rounding, f"{algorithm}: {error:.1e}"
