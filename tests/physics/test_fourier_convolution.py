from __future__ import annotations

import pytest
import torch
from deepinv.physics.functional import conv2d
from hypothesis import given, settings
from hypothesis import strategies as st

from deepinv_equilibrium.physics.fourier_convolution import (
    PADDINGS,
    convolve,
    convolve_transpose,
    power,
    smallest_image,
)

from ..one_test import in_one_test


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


sizes = st.integers(1, 9)


@settings(max_examples=60, deadline=None)
@given(
    padding=st.sampled_from(PADDINGS),
    kernel=st.tuples(sizes, sizes),
    excess=st.tuples(st.integers(0, 8), st.integers(0, 8)),
    kernel_batch=st.sampled_from((1, 2)),
    kernel_channels=st.sampled_from((1, 3)),
)
def test_adjoint_is_exact_for_smallest_image_and_larger(
    padding: str,
    kernel: tuple[int, int],
    excess: tuple[int, int],
    kernel_batch: int,
    kernel_channels: int,
) -> None:
    kernels = random(kernel_batch, kernel_channels, *kernel)
    height, width = smallest_image(kernels, padding)
    x = random(2, 3, height + excess[0], width + excess[1], seed=1)
    y = convolve(x, kernels, padding)
    v = random(*y.shape, seed=2)
    adjoint = convolve_transpose(v, kernels, padding)
    assert adjoint.shape == x.shape
    gap = (y * v).sum() - (x * adjoint).sum()
    assert abs(gap) <= 1e-12 * y.norm() * v.norm()


# deepinv's spatial convolution warns of kernels of one pixel, and cannot pad an image
# circularly by more than its size.
@settings(max_examples=60, deadline=None)
@given(
    padding=st.sampled_from(PADDINGS),
    kernel=st.tuples(st.integers(2, 7), st.integers(2, 7)),
    excess=st.tuples(st.integers(0, 6), st.integers(0, 6)),
)
def test_convolve_equals_spatial_convolution_of_deepinv(
    padding: str, kernel: tuple[int, int], excess: tuple[int, int]
) -> None:
    kernels = random(1, 3, *kernel)
    height, width = smallest_image(kernels, padding)
    x = random(2, 3, height + excess[0], width + excess[1], seed=1)
    torch.testing.assert_close(
        convolve(x, kernels, padding),
        conv2d(x, kernels, padding=padding),
        rtol=0,
        atol=1e-12,
    )


@in_one_test("padding", PADDINGS)
def test_image_of_impulse_is_kernel_and_not_its_mirror(padding: str) -> None:
    kernels = random(1, 1, 3, 4)
    x = torch.zeros(1, 1, 11, 12, dtype=torch.float64)
    x[..., 5, 6] = 1
    expected = torch.zeros_like(x)
    expected[..., 4:7, 4:8] = kernels  # the centre (1, 2) is at the impulse
    if padding == "valid":
        expected = expected[..., 1:-1, 1:-2]
    torch.testing.assert_close(
        convolve(x, kernels, padding), expected, rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("padding", ["replicate", "reflect"])
@pytest.mark.parametrize("apply", [convolve, convolve_transpose])
def test_convolutions_are_twice_differentiable_in_image_and_kernels(
    padding: str, apply
) -> None:
    x = random(2, 2, 5, 6).requires_grad_()
    kernels = random(1, 2, 3, 1, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, w: apply(x, w, padding), (x, kernels), fast_mode=True
    )
    assert torch.autograd.gradgradcheck(
        lambda x, w: apply(x, w, padding), (x, kernels), fast_mode=True
    )


def test_power_is_differentiable_at_zero() -> None:
    transfer = torch.zeros(2, dtype=torch.complex128, requires_grad=True)
    power(transfer).sum().backward()
    assert transfer.grad is not None
    assert transfer.grad.tolist() == [0, 0]
