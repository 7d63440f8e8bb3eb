from __future__ import annotations

import pytest
import torch

from deepinv_equilibrium.optim.total_variation.tv_groups import (
    check_norm,
    group_norm,
    project,
    project_,
    radii_and_ratios,
    shrinkage,
)

from ...one_test import in_one_test
from .weightings import NORMS, VOLUME, random_dual, random_images, random_weight

DTYPES = [torch.float64, torch.complex128]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_group_norm_has_the_closed_form(dtype: torch.dtype):
    field = random_dual(0, random_images(0, VOLUME, dtype))
    isotropic = group_norm(field, "isotropic")
    torch.testing.assert_close(
        isotropic, torch.linalg.vector_norm(field, dim=2, keepdim=True)
    )
    torch.testing.assert_close(group_norm(field, "componentwise"), field.abs())
    # The code branches if gradients are required.
    assert torch.equal(isotropic, group_norm(field.requires_grad_(), "isotropic"))


@pytest.mark.parametrize("norm", NORMS)
def test_gradient_of_group_norm_is_zero_at_zero(norm: str):
    field = torch.zeros(1, 1, 2, 1, 2, dtype=torch.float64)
    field[..., 1] = 3.0
    field.requires_grad_()
    group_norm(field, norm).sum().backward()
    assert torch.equal(field.grad[..., 0], torch.zeros(1, 1, 2, 1))
    assert (field.grad[..., 1] > 0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_radii_and_ratios_multiply_to_the_weight(norm: str):
    weight = random_weight(0, VOLUME)
    weight[0, ..., 0] = 0
    radius, ratio = radii_and_ratios(weight, norm)
    if norm == "componentwise":
        assert ratio is None
        assert radius is weight
        return
    torch.testing.assert_close(radius * ratio, weight)
    assert torch.equal(radius, weight.amax(2, keepdim=True))
    assert 0 < ratio.min() <= ratio.max() == 1
    assert radii_and_ratios(weight[:, :, :1], norm)[1] is None


@in_one_test("dtype", DTYPES, ids=str)
@in_one_test("norm", NORMS)
def test_project_is_the_projection_onto_the_balls(norm: str, dtype: torch.dtype):
    field = random_dual(0, random_images(0, VOLUME, dtype), 0.3)
    field[..., 0] = 0
    radius = random_weight(1, VOLUME)
    if norm == "isotropic":
        radius = radius[:, :, :1]
    radius[..., :2] = 0
    found = project(field, radius, norm)
    inside = group_norm(field, norm) <= radius
    assert 0 < inside.float().mean() < 1
    factor = torch.where(inside, 1.0, radius / group_norm(field, norm))
    torch.testing.assert_close(found, factor * field, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(project(found, radius, norm), found)
    memory = field.clone()
    assert project_(memory, radius, norm) is memory
    assert torch.equal(memory, found)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("norm", NORMS)
def test_project_has_the_derivative_of_the_projection(norm: str, dtype: torch.dtype):
    field = random_dual(0, random_images(0, (1, 1, 2, 2), dtype), 0.3)
    radius = random_weight(1, (1, 1, 2, 2))
    if norm == "isotropic":
        radius = radius[:, :, :1]
    inputs = (field.requires_grad_(), radius.requires_grad_())
    assert torch.autograd.gradcheck(lambda f, r: project(f, r, norm), inputs)


def test_shrinkage_is_zero_if_radius_and_norm_are_zero():
    zero, one = torch.zeros(1), torch.ones(1)
    assert shrinkage(zero, zero) == 0
    assert shrinkage(one, zero) == 0
    assert shrinkage(zero, one) == 1


def test_check_norm_raises_for_an_unknown_norm():
    with pytest.raises(ValueError, match=r"norm must be one of .*, got 'l2'"):
        check_norm("l2")
