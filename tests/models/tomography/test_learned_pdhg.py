from __future__ import annotations

import deepinv as dinv
import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.certificates import AdjointMismatchError
from deepinv_equilibrium.models import LearnedPDHG
from deepinv_equilibrium.models.tomography.learned_pdhg import SplitPhysics

from ...certificates.dense_operator import matrix
from ..denoisers.linear_network import make_linear
from ..images import random_images
from .test_learned_iterations import (
    SIZE,
    directions,
    directions_adjoint,
    pdhg_of_differences,
    scan,
)


def classical(
    extrapolation: float, dual: tuple[float, float], steps: float = 0.9
) -> LearnedPDHG:
    """A model whose dual network is linear in the dual variable and y, whose primal
    network is 0, and whose step sizes have a product below 1."""
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
    """Return the iterates from an image that is not zero, and the value that is
    constant if the proximal operators are the identity."""
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


def test_iterates_without_extrapolation_circle_around_the_saddle_point() -> None:
    """Both proximal operators are the identity; the saddle function is <Ax, u>."""
    images, invariants, start = run(classical(0.0, (0.0, 0.0)), 300)
    torch.testing.assert_close(
        torch.stack(invariants), torch.full((300,), start, dtype=torch.float64)
    )
    norms = torch.stack([x.norm() for x in images])
    assert norms[200:].max() > 0.7 * norms[0]


def test_iterates_with_extrapolation_converge_to_the_saddle_point() -> None:
    images, _, _ = run(classical(1.0, (0.0, 0.0)), 300)
    norms = torch.stack([x.norm() for x in images])
    # The null space of A is not moved; the start was in the range of A^T.
    assert norms[-1] < 0.2 * norms[0]
    assert norms[-1] < norms[150] < norms[50] < norms[0]


def test_linear_networks_solve_least_squares() -> None:
    """The dual network is the proximal operator of the conjugate of 1/2 |. - y|^2."""
    eta = 0.9
    model = classical(1.0, (-eta / (1 + eta), -eta / (1 + eta)))
    A = matrix(scan().A, (1, SIZE, SIZE))
    y = scan().A(random_images(1, (2, 1, SIZE, SIZE)))
    model.iterations = 600
    with torch.no_grad():
        x = model(y, scan())
    gradient = (x.flatten(1) @ A.T - y.flatten(1)) @ A
    assert gradient.norm() < 1e-2 * (y.flatten(1) @ A).norm()


def test_iterate_computes_the_documented_formula() -> None:
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


def test_constructor_and_forward_raise_for_bad_arguments() -> None:
    for value in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"extrapolation must be in \[0, 1\]"):
            LearnedPDHG(extrapolation=value)
    with pytest.raises(TypeError, match="extrapolation must be a number"):
        LearnedPDHG(extrapolation="1")
    model = LearnedPDHG(filters=3, data_channels=2).double()
    y = scan().A(random_images(5, (1, 1, SIZE, SIZE)))
    with pytest.raises(ValueError, match=r"shape \(B, 2, H, W\)"):
        model(y, scan())


def test_state_dict_without_K_has_the_layers_of_earlier_versions() -> None:
    shapes = {name: tuple(p.shape) for name, p in LearnedPDHG().state_dict().items()}
    assert shapes == {
        "layers.0.dual.0.weight": (32, 2, 3, 3),
        "layers.0.dual.0.bias": (32,),
        "layers.0.dual.1.weight": (1,),
        "layers.0.dual.2.weight": (32, 32, 3, 3),
        "layers.0.dual.2.bias": (32,),
        "layers.0.dual.3.weight": (1,),
        "layers.0.dual.4.weight": (1, 32, 3, 3),
        "layers.0.dual.4.bias": (1,),
        "layers.0.primal.0.weight": (32, 1, 3, 3),
        "layers.0.primal.0.bias": (32,),
        "layers.0.primal.1.weight": (1,),
        "layers.0.primal.2.weight": (32, 32, 3, 3),
        "layers.0.primal.2.bias": (32,),
        "layers.0.primal.3.weight": (1,),
        "layers.0.primal.4.weight": (1, 32, 3, 3),
        "layers.0.primal.4.bias": (1,),
        "layers.0.log_tau": (),
        "layers.0.log_eta": (),
    }


def test_iterate_with_K_computes_the_documented_formula() -> None:
    model = pdhg_of_differences(filters=3, extrapolation=0.5).double()
    layer = model.layers[0]
    y = scan().A(random_images(2, (1, 1, SIZE, SIZE)))
    normalised = model.normalise(y, scan())
    assert isinstance(normalised, SplitPhysics)
    n, m = normalised.norm, normalised.coupling_norm
    x, bar = random_images(3, (2, 1, 1, SIZE, SIZE))
    u = random_images(4, (1, 2, SIZE, SIZE))
    K = matrix(directions, (1, SIZE, SIZE))
    assert 1 <= m / torch.linalg.matrix_norm(K, 2).item() < 1.05
    with torch.no_grad():
        w = u + 0.5 * directions(bar) / m
        dual = w + layer.dual(w)
        v = x - 0.5 * directions_adjoint(dual) / m
        gradient = scan().A_adjoint(scan().A(v) - y) / n**2
        image = v + layer.primal(torch.cat((v, gradient), dim=1))
        got = model.iterate(layer, (x, bar, u), normalised)
    expected = (image, image + 0.5 * (image - x), dual)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_linear_networks_with_K_solve_quadratic_regularisation() -> None:
    """Minimise 1/2 |A x - y|^2 + mu/2 |K x|^2 for a mask A, where the primal network
    can represent the proximal operator exactly."""
    mask = (random_images(5, (1, SIZE, SIZE)) > 0.3).double()
    physics = dinv.physics.Inpainting((1, SIZE, SIZE), mask=mask)
    model = pdhg_of_differences(1, iterations=2000, filters=4).double()
    y = physics.A(random_images(6, (2, 1, SIZE, SIZE)))
    normalised = model.normalise(y, physics)
    assert isinstance(normalised, SplitPhysics)
    scale = normalised.norm**-2
    layer, step, mu = model.layers[0], 0.9, 0.5
    shrink = -step / (mu + step)
    make_linear(layer.dual, torch.diag(torch.tensor([shrink, shrink])))
    make_linear(layer.primal, torch.tensor([[0, -step / (1 + step * scale)]]))
    with torch.no_grad():
        layer.log_tau.fill_(step).log_()
        layer.log_eta.fill_(step).log_()
        x = model(y, physics)
    K = matrix(directions, (1, SIZE, SIZE)) / normalised.coupling_norm
    gram = scale * torch.diag(mask.flatten()) + mu * K.mT @ K
    expected = torch.linalg.solve(gram, scale * y.flatten(1).mT).mT
    torch.testing.assert_close(x.flatten(1), expected, rtol=1e-6, atol=1e-6)


def test_K_that_is_a_module_is_saved_and_trained_with_the_model() -> None:
    K = torch.nn.Conv2d(1, 3, 1, bias=False)
    adjoint = torch.nn.functional.conv_transpose2d
    model = LearnedPDHG(
        filters=3, data_channels=3, K=K, K_adjoint=lambda u: adjoint(u, K.weight)
    ).double()
    assert "K.weight" in model.state_dict()
    y = scan().A(random_images(7, (1, 1, SIZE, SIZE)))
    model(y, scan()).square().sum().backward()
    assert K.weight.grad is not None
    assert bool(K.weight.grad.any())


def test_constructor_and_forward_raise_for_bad_K() -> None:
    with pytest.raises(ValueError, match="K and K_adjoint must be given together"):
        LearnedPDHG(K=directions)
    with pytest.raises(TypeError, match=r"K_adjoint must be a function.*got 3"):
        LearnedPDHG(K=directions, K_adjoint=3)
    y = scan().A(random_images(8, (1, 1, SIZE, SIZE)))
    one = LearnedPDHG(K=directions, K_adjoint=directions_adjoint).double()
    with pytest.raises(ValueError, match=r"value of K must be of shape \(B, 1, H, W\)"):
        one(y, scan())
    wrong = LearnedPDHG(
        data_channels=2, K=directions, K_adjoint=lambda u: -directions_adjoint(u)
    )
    with pytest.raises(AdjointMismatchError):
        wrong.double()(y, scan())
