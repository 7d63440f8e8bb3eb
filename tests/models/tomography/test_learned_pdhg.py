from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.models import LearnedPDHG

from ...certificates.dense_operator import matrix
from ..denoisers.linear_network import make_linear
from ..images import random_images
from .test_learned_iterations import SIZE, scan


def classical(
    extrapolation: float, dual: tuple[float, float], steps: float = 0.9
) -> LearnedPDHG:
    """Networks that add multiples of the dual variable and y to it, and nothing to
    the image; step sizes with a product below 1."""
    model = LearnedPDHG(1, filters=4, extrapolation=extrapolation).double()
    layer = model.layers[0]
    make_linear(layer.dual, torch.tensor([dual]))
    make_linear(layer.primal, torch.zeros(1, 1))
    with torch.no_grad():
        layer.log_tau.fill_(steps).log_()
        layer.log_eta.fill_(steps).log_()
    return model


def run(
    model: LearnedPDHG, iterations: int
) -> tuple[list[Tensor], list[Tensor], float]:
    """The iterates from an image that is not zero, and the invariant of the
    rotation, for proximal operators that are the identity."""
    y = torch.zeros(1, 1, *scan().A(torch.zeros(1, 1, SIZE, SIZE).double()).shape[2:])
    normalised = model.normalise(y.double(), scan())
    x = normalised.adjoint(normalised.apply(random_images(0, (1, 1, SIZE, SIZE))))
    state: tuple[Tensor, ...] = (x, x, torch.zeros_like(y).double())
    images, invariants = [x], []
    tau = eta = 0.9
    with torch.no_grad():
        for _ in range(iterations):
            state = model.iterate(model.layers[0], state, normalised)
            x, _, u = state
            product = (normalised.apply(x) * u).sum()
            invariants.append(x.square().sum() / tau + product + u.square().sum() / eta)
            images.append(x)
    return images, invariants, float(images[0].square().sum() / tau)


def test_without_extrapolation_it_goes_round_for_ever() -> None:
    """Where both proximal operators are the identity: a saddle of <Ax, u>."""
    images, invariants, start = run(classical(0.0, (0.0, 0.0)), 300)
    torch.testing.assert_close(
        torch.stack(invariants), torch.full((300,), start, dtype=torch.float64)
    )
    norms = torch.stack([x.norm() for x in images])
    assert norms[200:].max() > 0.7 * norms[0]


def test_with_extrapolation_it_converges_to_the_saddle_point() -> None:
    images, _, _ = run(classical(1.0, (0.0, 0.0)), 300)
    norms = torch.stack([x.norm() for x in images])
    # What A does not see stays; the start was in the range of its transpose.
    assert norms[-1] < 0.2 * norms[0]
    assert norms[-1] < norms[150] < norms[50] < norms[0]


def test_it_can_solve_least_squares() -> None:
    """With the proximal operator of the conjugate of 1/2 |. - y|^2."""
    eta = 0.9
    model = classical(1.0, (-eta / (1 + eta), -eta / (1 + eta)))
    A = matrix(scan().A, (1, SIZE, SIZE))
    y = scan().A(random_images(1, (2, 1, SIZE, SIZE)))
    model.iterations = 600
    with torch.no_grad():
        x = model(y, scan())
    gradient = (x.flatten(1) @ A.T - y.flatten(1)) @ A
    assert gradient.norm() < 1e-2 * (y.flatten(1) @ A).norm()


def test_an_iteration_is_the_documented_one() -> None:
    model = LearnedPDHG(filters=3, extrapolation=0.5).double()
    layer = model.layers[0]
    y = scan().A(random_images(2, (1, 1, SIZE, SIZE)))
    normalised = model.normalise(y, scan())
    x, bar = random_images(3, (2, 1, 1, SIZE, SIZE))
    u = random_images(4, tuple(y.shape))
    tau, eta = layer.log_tau.exp(), layer.log_eta.exp()
    assert (tau.item(), eta.item()) == pytest.approx((0.5, 0.5))
    with torch.no_grad():
        w = u + eta * normalised.apply(bar)
        dual = w + layer.dual(torch.cat((w, normalised.y), dim=1))
        v = x - tau * normalised.adjoint(dual)
        image = v + layer.primal(v)
        got = model.iterate(layer, (x, bar, u), normalised)
    expected = (image, image + 0.5 * (image - x), dual)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_bad_arguments() -> None:
    for value in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"extrapolation must be in \[0, 1\]"):
            LearnedPDHG(extrapolation=value)
    with pytest.raises(TypeError, match="extrapolation must be a number"):
        LearnedPDHG(extrapolation="1")
    model = LearnedPDHG(filters=3, data_channels=2).double()
    y = scan().A(random_images(5, (1, 1, SIZE, SIZE)))
    with pytest.raises(ValueError, match=r"shape \(B, 2, H, W\)"):
        model(y, scan())
