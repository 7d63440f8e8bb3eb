"""The bound of the distance to a fixed point against fixed points that are known."""

from __future__ import annotations

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Kind

SIZE = (1, 8, 8)


def ridge(stepsize: float, weight: float, layers: int = 1) -> deq.optim.PGD:
    """The minimiser of 1/2 |x - y|^2 + weight/2 |x|^2, which is y / (1 + weight)."""
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.Tikhonov(),
        stepsize=stepsize,
        lambda_reg=weight,
        DEQ=deq.Equilibrium(deq.Picard(max_iter=3), layers=layers, on_failure="ignore"),
    )


def norms(x: Tensor) -> Tensor:
    return x.detach().double().flatten(1).norm(dim=1)


@settings(deadline=None, max_examples=15)
@given(
    stepsize=st.floats(0.05, 1.2),
    weight=st.floats(0.05, 5),
    layers=st.integers(1, 2),
    scale=st.floats(1e-6, 1e3),
    seed=st.integers(0, 100),
)
def test_distance_is_never_below_the_truth(
    stepsize: float, weight: float, layers: int, scale: float, seed: int
):
    generator = torch.Generator().manual_seed(seed)
    model, physics = ridge(stepsize, weight, layers), dinv.physics.Denoising()
    certificate = deq.certify(model, physics, SIZE)
    y = torch.rand(3, *SIZE, generator=generator)
    # The weight of a float32 model is a float32 number.
    truth = y.double() / (1 + model.params_algo["lambda"][0].double())
    x = truth + scale * torch.randn(3, *SIZE, generator=generator)
    x[1] = truth[1]
    bounds = certificate.distance(model, y, physics, x)
    assert [bound.kind for bound in bounds] == [Kind.CERTIFIED] * 3
    for bound, distance in zip(bounds, norms(x - truth).tolist(), strict=True):
        assert distance <= bound.value
    assert bounds[1].value < 1e-9  # the fixed point itself, in float64
    nearer = certificate.distance(model, y, physics, x, near=truth)
    for bound, distance in zip(nearer, norms(x - truth).tolist(), strict=True):
        assert distance <= bound.value <= distance * (1 + 1e-9) + 1e-9
    near = truth + 0.1 * scale * torch.rand(3, *SIZE, generator=generator)
    nearer = certificate.distance(model, y, physics, x, near)
    for bound, distance in zip(nearer, norms(x - truth).tolist(), strict=True):
        assert distance <= bound.value


@pytest.mark.parametrize("rtol", [1e-1, 1e-3])
def test_distance_of_a_trained_denoiser(rtol: float):
    torch.manual_seed(0)
    model = deq.plugins.create(
        "reconstructors",
        "certified-deq-pgd",
        contraction=0.8,
        solver=deq.Picard(rtol=rtol),
        on_failure="ignore",
    )
    noise = dinv.physics.GaussianNoise(0.1, rng=torch.Generator().manual_seed(0))
    kernel = torch.full((1, 1, 3, 3), 1 / 9)
    physics = dinv.physics.Blur(kernel, padding="circular", noise_model=noise)
    certificate = deq.certify(model, physics, (3, 12, 12))
    y = physics(torch.rand(2, 3, 12, 12))
    x = model(y, physics)  # with a graph, which the report of the model keeps
    model.DEQ = deq.Equilibrium(
        deq.Picard(max_iter=500, rtol=1e-12), on_failure="ignore"
    )
    bounds = certificate.distance(model, y, physics, x)
    truth = model.double()(y.double(), physics.to(torch.float64))
    for bound, distance in zip(bounds, norms(x.double() - truth).tolist(), strict=True):
        assert distance <= bound.value <= 10 * distance


@pytest.mark.parametrize("distance", [1e-1, 1e-4])
def test_a_solve_to_the_tolerance_is_as_near_as_asked(distance: float):
    model, physics = ridge(0.3, 0.5).double(), dinv.physics.Denoising()
    certificate = deq.certify(model, physics, SIZE)
    atol = certificate.tolerance(distance)
    assert atol <= (1 - certificate.rate.value) * distance
    y = torch.rand(3, *SIZE, dtype=torch.float64)
    model.DEQ = deq.Equilibrium(deq.Picard(max_iter=2000, rtol=0.0, atol=atol))
    x = model(y, physics)
    for bound in certificate.distance(model, y, physics, x):
        assert bound.value <= distance


def test_tolerance_needs_a_rate_and_a_distance():
    physics = dinv.physics.Denoising()
    certificate = deq.certify(ridge(1.0, 1.0), physics, SIZE)
    with pytest.raises(ValueError, match="distance must be positive and finite, got 0"):
        certificate.tolerance(0)
    denoiser = dinv.models.MedianFilter()
    unknown = deq.presets.deq_pgd(denoiser)
    with pytest.raises(ValueError, match="no tolerance: the rate is not below 1"):
        deq.certify(unknown, physics, SIZE).tolerance(1.0)


def test_a_rounded_file_is_an_image_like_another():
    model, physics = ridge(1.0, 1.0), dinv.physics.Denoising()
    y = torch.rand(1, *SIZE)
    truth = y.double() / 2
    saved = (truth * 255).round() / 255
    (bound,) = deq.certify(model, physics, SIZE).distance(model, y, physics, saved)
    assert float(norms(saved - truth)) <= bound.value <= 0.5 / 255 * 8 * 3


def test_bad_input_is_refused():
    model, physics = ridge(1.0, 1.0), dinv.physics.Denoising()
    certificate = deq.certify(model, physics, SIZE)
    y = torch.rand(2, *SIZE)
    for x, message in (
        (y[0], r"x must have the shape \(2, 1, 8, 8\).*got \(1, 8, 8\)"),
        (y * float("nan"), "x must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            certificate.distance(model, y, physics, x)
    with pytest.raises(TypeError, match="x must be a tensor of images, got list"):
        certificate.distance(model, y, physics, y.tolist())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"near must have the shape"):
        certificate.distance(model, y, physics, y, near=y[:1])
    with pytest.raises(ValueError, match=r"of size \(1, 8, 8\)"):
        certificate.distance(model, y[..., :6], physics, y[..., :6])
    with pytest.raises(ValueError, match="does not hold any more"):
        certificate.distance(ridge(0.9, 1.0), y, physics, y)
    expansive = ridge(2.5, 0.1)
    with pytest.raises(ValueError, match="no distance: the rate is not below 1"):
        deq.certify(expansive, physics, SIZE).distance(expansive, y, physics, y)
