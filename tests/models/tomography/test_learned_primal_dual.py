from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deepinv_equilibrium.models import LearnedPrimalDual

from ..denoisers.linear_network import make_linear
from ..images import random_images
from .test_learned_iterations import SIZE, scan

TAU = SIGMA = 0.9


def chambolle_pock(y: Tensor, norm: float, iterations: int) -> Tensor:
    """Return the result of primal-dual iterations for least squares."""
    physics, y = scan(), y / norm
    x = extrapolated = torch.zeros(len(y), 1, SIZE, SIZE, dtype=y.dtype)
    u = torch.zeros_like(y)
    for _ in range(iterations):
        u = (u + SIGMA * (physics.A(extrapolated) / norm - y)) / (1 + SIGMA)
        after = x - TAU * physics.A_adjoint(u) / norm
        extrapolated, x = 2 * after - x, after
    return x


def test_default_model_has_the_published_number_of_parameters() -> None:
    model = LearnedPrimalDual()
    slopes = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.PReLU))
    assert sum(p.numel() for p in model.parameters()) - slopes == 251_940
    assert slopes == 40


def test_linear_networks_compute_primal_dual_iterations_with_extrapolation() -> None:
    """The second image is the extrapolated one."""
    model = LearnedPrimalDual(
        iterations=7, primal_memory=2, dual_memory=1, filters=4, tied=True
    ).double()
    shrink = SIGMA / (1 + SIGMA)
    # The input channels are u, A x_2, y and x_1, x_2, A^T u; the outputs are added to u
    # and to x_1, x_2.
    make_linear(model.layers[0]["dual"], torch.tensor([[-shrink, shrink, -shrink]]))
    make_linear(
        model.layers[0]["primal"], torch.tensor([[0, 0, -TAU], [1, -1, -2 * TAU]])
    )
    y = scan().A(random_images(0, (2, 1, SIZE, SIZE)))
    norm = model.normalise(y, scan()).norm
    with torch.no_grad():
        x = model(y, scan())
    torch.testing.assert_close(x, chambolle_pock(y, norm, 7), rtol=1e-6, atol=1e-7)


def test_iterate_applies_the_operator_to_the_second_image() -> None:
    model = LearnedPrimalDual(iterations=1, primal_memory=3, dual_memory=2, filters=9)
    model.double()
    seen = []
    layer = model.layers[0]
    for name in ("dual", "primal"):
        layer[name].register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    y = scan().A(random_images(1, (1, 1, SIZE, SIZE)))
    normalised = model.normalise(y, scan())
    x, u = (
        random_images(2, (1, 3, SIZE, SIZE)),
        torch.zeros(1, 2, *y.shape[2:]).double(),
    )
    with torch.no_grad():
        _, after = model.iterate(layer, (x, u), normalised)
    torch.testing.assert_close(seen[0][1], normalised.apply(x[:, 1:2]))
    torch.testing.assert_close(seen[0][2], y / normalised.norm)
    torch.testing.assert_close(seen[1][1], normalised.adjoint(after[:, :1]))


def test_start_returns_zero() -> None:
    model = LearnedPrimalDual(in_channels=3).double()
    y = scan().A(random_images(3, (2, 3, SIZE, SIZE)))
    x, u = model.start(model.normalise(y, scan()))
    assert x.shape == (2, 15, SIZE, SIZE)
    assert u.shape == (2, 15, *y.shape[2:])
    assert not x.any()
    assert not u.any()


def test_forward_and_constructor_raise_for_bad_numbers_of_channels() -> None:
    model = LearnedPrimalDual(filters=4, data_channels=2, iterations=1).double()
    y = scan().A(random_images(4, (1, 1, SIZE, SIZE)))
    with pytest.raises(ValueError, match=r"shape \(B, 2, H, W\).*data_channels=2"):
        model(y, scan())
    with pytest.raises(ValueError, match="dual_memory must be an integer >= 1"):
        LearnedPrimalDual(dual_memory=0)
