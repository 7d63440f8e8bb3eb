"""Compare bounds of the norm of a 3 x 3 convolution, and their times::

    OMP_NUM_THREADS=1 python -m tests.benchmarks.norm_bounds

The convolutions are the 64-channel layers of ``SmallDRUNet`` with the bundled weights,
and one with random weights. The truth is the norm with zero padding for 64 x 64 pixels,
computed in float64 by Lanczos.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import convolution_norm

PIXELS, LANCZOS_STEPS, ROUNDS = 64, 50, 2
# Layers of SmallDRUNet with 64 -> 64 channels and stride 1.
TRAINED = ("m_down3.0.res.0", "m_down3.0.res.2", "m_up3.1.res.0", "m_up3.1.res.2")


def reshaped(weight: Tensor) -> Tensor:
    """Return the norm of the kernel as a matrix, as in torch's ``spectral_norm``. It is
    not a bound."""
    return torch.linalg.matrix_norm(weight.flatten(1), 2)


def taps_times_reshaped(weight: Tensor) -> Tensor:
    r"""Return :math:`\sqrt{k_1 k_2}` times :func:`reshaped` (Tsuzuku et al., 2018)."""
    return math.sqrt(math.prod(weight.shape[2:])) * reshaped(weight)


def gram_in_space(weight: Tensor, iterations: int) -> Tensor:
    r"""
    Gram iteration (Delattre et al., 2024): :math:`A_{t+1} = A_t^\top A_t` on kernels,
    and the largest absolute row sum of :math:`A_t`, to the power :math:`2^{-t}`. One
    iteration is the bound of almost-orthogonal layers (Prach and Lampert, 2022).
    """
    log_scale = torch.zeros((), dtype=weight.dtype)
    for _ in range(iterations):
        scale = weight.norm()
        weight = weight / scale
        log_scale = 2 * (log_scale + scale.log())
        kernel = weight.transpose(0, 1)
        weight = conv2d(kernel, kernel, padding=kernel.shape[-1] - 1).transpose(0, 1)
    rows = weight.abs().sum((1, 2, 3)).max()
    return ((rows.log() + log_scale) / 2**iterations).exp()


def almost_orthogonal(weight: Tensor) -> Tensor:
    """Return the bound of one Gram iteration."""
    return gram_in_space(weight, 1)


def gram_iteration(weight: Tensor) -> Tensor:
    """Return the bound of three Gram iterations."""
    return gram_in_space(weight, 3)


def gram_on_the_torus(weight: Tensor, grid: int = 16, squarings: int = 4) -> Tensor:
    r"""
    Return a bound by Schatten norms on the grid of this package and its factor. The
    norms come from squared Gram matrices and are differentiable without a
    decomposition.
    """
    symbols = torch.fft.rfft2(weight, s=(grid, grid)).permute(2, 3, 0, 1)
    gram = symbols @ symbols.mH
    log_norm = torch.zeros(gram.shape[:2], dtype=weight.dtype)
    for _ in range(squarings):
        scale = torch.linalg.matrix_norm(gram)
        gram = gram / scale[..., None, None]
        log_norm = 2 * (log_norm + scale.log())
        gram = gram @ gram
    log_norm = log_norm + torch.linalg.matrix_norm(gram).log()
    factor = math.cos(math.pi * (weight.shape[-1] - 1) / (2 * grid)) ** -2
    return (log_norm.max() / 2 ** (squarings + 1)).exp() * factor


def ours(weight: Tensor) -> Tensor:
    """Return the default bound of this package."""
    return convolution_norm(weight)


def ours_for_training(weight: Tensor) -> Tensor:
    """Return the bound of this package on a coarser grid."""
    return convolution_norm(weight, grid=16)


METHODS: dict[str, Callable[[Tensor], Tensor]] = {
    "reshaped kernel (no bound)": reshaped,
    "sqrt(k k) x reshaped kernel": taps_times_reshaped,
    "AOL": almost_orthogonal,
    "Gram iteration in space, x 3": gram_iteration,
    "Gram on the torus, x 4, N = 16": gram_on_the_torus,
    "ours, N = 16": ours_for_training,
    "ours": ours,
}


@torch.no_grad()
def truth(weight: Tensor) -> float:
    """Return the largest Ritz value of Lanczos with full reorthogonalisation."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, weight.shape[1], PIXELS, PIXELS)
    v = torch.randn(shape, generator=generator, dtype=weight.dtype)
    basis = torch.zeros(LANCZOS_STEPS + 1, v.numel(), dtype=weight.dtype)
    basis[0] = v.flatten() / v.norm()
    tridiagonal = torch.zeros(LANCZOS_STEPS + 1, LANCZOS_STEPS + 1, dtype=weight.dtype)
    for k in range(LANCZOS_STEPS):
        image = conv2d(basis[k].view(shape), weight, padding=1)
        w = conv_transpose2d(image, weight, padding=1).flatten()
        coefficients = basis[: k + 1] @ w
        w = w - coefficients @ basis[: k + 1]
        tridiagonal[k, k] = coefficients[k]
        tridiagonal[k + 1, k] = tridiagonal[k, k + 1] = w.norm()
        basis[k + 1] = w / w.norm()
    return torch.linalg.eigvalsh(tridiagonal[:-1, :-1])[-1].sqrt().item()


def layers() -> list[Tensor]:
    """Return the trained layers and the random one in float64."""
    network = deq.models.SmallDRUNet()
    trained = [network.get_submodule(name).weight.detach() for name in TRAINED]
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(64, 64, 3, 3, generator=generator) / 24
    return [weight.double() for weight in (*trained, random)]


def measure(method: Callable[[Tensor], Tensor], weight: Tensor) -> tuple[float, float]:
    """Return a bound and the processor time in milliseconds, with the gradient."""
    times = []
    for number in range(ROUNDS):
        # Norms of the same weight are computed once; a training changes it.
        leaf = (weight * (1 + 1e-12 * number)).requires_grad_()
        start = time.process_time()
        bound = method(leaf)
        bound.backward()
        times.append(time.process_time() - start)
    return bound.item(), 1e3 * min(times)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    weights = layers()
    truths = [truth(weight) for weight in weights]
    print(f"Bound / norm at {PIXELS} x {PIXELS} pixels of 3 x 3 layers, 64 to 64")
    print(f"{'':31s}{'trained':>13s}{'random':>8s}   ms with its gradient")
    for name, method in METHODS.items():
        found = [measure(method, weight) for weight in weights]
        ratios = [bound / norm for (bound, _), norm in zip(found, truths, strict=True)]
        spread = f"{min(ratios[:-1]):.3f}-{max(ratios[:-1]):.3f}"
        spent = [milliseconds for _, milliseconds in found]
        print(
            f"{name:31s}{spread:>13s}{ratios[-1]:8.3f}   "
            f"{statistics.median(spent[:-1]):.0f} trained, {spent[-1]:.0f} random",
            flush=True,
        )


if __name__ == "__main__":
    main()
