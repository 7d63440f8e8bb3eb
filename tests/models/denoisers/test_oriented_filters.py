from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.models.denoisers.oriented_filters import (
    channel_transform,
    extend_by_reflection,
    orbit,
    orientation_norm,
    oriented_adjoint,
    oriented_responses,
)

DOUBLE = {"dtype": torch.float64}
SHAPE = (2, 3, 4, 7)


def random_filters(size: int) -> Tensor:
    generator = torch.Generator().manual_seed(size)
    return orbit(torch.randn(2, 1, size, size, generator=generator, **DOUBLE))


@pytest.mark.parametrize("size", [3, 7])
def test_oriented_responses_are_convolutions_of_the_transformed_channels(size: int):
    x, filters = torch.rand(SHAPE, **DOUBLE), random_filters(size)
    responses = oriented_responses(x, filters, border=size // 2)
    planes = extend_by_reflection(channel_transform(x), size // 2)
    for sample in range(2):
        for channel in range(3):
            plane = planes[sample, channel][None, None]
            expected = torch.nn.functional.conv2d(plane, filters)
            torch.testing.assert_close(
                responses[3 * sample + channel].flatten(0, 1), expected[0].flatten(1)
            )


@pytest.mark.parametrize("size", [3, 5])
def test_oriented_adjoint_is_the_transpose_on_symmetric_responses(size: int):
    # On the period, <W x, r> = <x, W^T r>. If r are the responses of another image, the
    # image, which is a quarter of the period, contributes a quarter to both sides.
    x, other = torch.rand(2, *SHAPE, **DOUBLE)
    filters = random_filters(size)
    inside = oriented_responses(x, filters, size // 2)
    paired = inside * oriented_responses(other, filters, size // 2)
    pull = oriented_adjoint(
        oriented_responses(other, filters, size - 1), filters, x.shape
    )
    torch.testing.assert_close(paired.sum(), (x * pull).sum())


def test_channel_transform_is_orthonormal():
    x = torch.rand(SHAPE, **DOUBLE)
    transformed = channel_transform(x)
    torch.testing.assert_close(transformed.norm(), x.norm())
    torch.testing.assert_close(channel_transform(transformed, adjoint=True), x)
    torch.testing.assert_close(transformed[:, 0], x.sum(1) / 3**0.5)
    grey = torch.rand(1, 1, 2, 2, **DOUBLE)
    assert torch.equal(channel_transform(grey), grey)


def test_orientation_norm_of_zero_has_gradient_zero():
    responses = torch.zeros(1, 8, 2, 3, requires_grad=True)
    orientation_norm(responses).sum().backward()
    assert responses.grad is not None
    assert torch.equal(responses.grad, torch.zeros_like(responses))
