"""Gradient descent with a ridge and a regulariser, by name."""

from __future__ import annotations

from typing import Any

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.presets import certified_ridge_gd

SIZE = (12, 10)


def scan(channels: int) -> Any:
    """A physics that measures every third column."""
    mask = torch.zeros(1, 1, *SIZE)
    mask[..., ::3] = 1
    if channels == 2:
        return dinv.physics.MRI(mask=mask, img_size=SIZE)
    return dinv.physics.Inpainting((channels, *SIZE), mask=mask[0])


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_model_contracts_and_minimises_its_energy(channels: int) -> None:
    torch.manual_seed(0)
    physics = scan(channels)
    model = certified_ridge_gd(
        0.02,
        in_channels=channels,
        kappa=0.05,
        stepsize=1.0,
        solver=deq.Anderson(rtol=1e-9, max_iter=400),
        on_failure="raise",
    ).double()
    if channels == 2:
        physics.mask = physics.mask.double()
    else:
        physics = physics.to(torch.float64)
    truth = torch.rand(2, channels, *SIZE, dtype=torch.float64)
    y = physics.A(truth)
    size = (channels, *SIZE)
    certificate = deq.certify(model, physics, size)
    assert certificate.contracts
    assert certificate.rate.value < 1
    for_any = deq.certify(model, deq.physics.any_mask(physics), size)
    assert certificate.rate.value <= for_any.rate.value < 1
    x = model(y, physics).detach().requires_grad_()
    prior, sigma = model.prior[0], value(model, "g_param")
    weight = value(model, "lambda")
    energy = model.data_fidelity[0].fn(x, y, physics) + weight * prior.fn(x, sigma)
    (gradient,) = torch.autograd.grad(energy.sum(), x)
    assert gradient.norm() < 1e-6 * x.detach().norm()


def value(model: Any, name: str) -> float:
    return float(model.params_algo[name][0].detach())


def test_levels_follow_the_noise_and_can_be_given() -> None:
    model = certified_ridge_gd(0.01)
    assert value(model, "g_param") == pytest.approx(0.08)
    assert value(model, "lambda") == pytest.approx(1 / 64)
    noisy = certified_ridge_gd(0.05)
    assert value(noisy, "g_param") == pytest.approx(0.15)
    own = certified_ridge_gd(0.05, lambda_reg=0.5, sigma_denoiser=0.1)
    assert value(own, "g_param") == pytest.approx(0.1)
    assert value(own, "lambda") == pytest.approx(0.5)


def test_training_keeps_the_proof() -> None:
    torch.manual_seed(0)
    physics, model = scan(1), certified_ridge_gd(0.1, kappa=0.05)
    truth = torch.rand(2, 1, *SIZE)
    optimizer = torch.optim.Adam(model.parameters(), 0.3)
    for _ in range(3):
        optimizer.zero_grad()
        (model(physics(truth), physics) - truth).square().mean().backward()
        optimizer.step()
        assert deq.certify(model, physics, (1, *SIZE)).contracts


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"noise_level": 0}, ValueError, "noise_level must be"),
        ({"kappa": 0}, ValueError, "kappa must be positive"),
        ({"tau": 1}, TypeError, "takes no argument 'tau'"),
        (
            {"prior": dinv.optim.Tikhonov(), "in_channels": 3},
            ValueError,
            "leave in_channels out",
        ),
        ({"prior": "unknown"}, ValueError, "Unknown name 'unknown'"),
    ],
)
def test_wrong_arguments_raise(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        certified_ridge_gd(**arguments)


@pytest.mark.parametrize("seed", range(5))
def test_rate_bounds_the_dense_jacobian_of_the_step(seed: int) -> None:
    torch.manual_seed(seed)
    physics = dinv.physics.MRI(
        mask=(torch.rand(1, 1, 4, 3) < 0.5).double(), img_size=(4, 3)
    )
    kappa, noise_level = float(torch.rand(()) * 0.3 + 1e-3), 0.05
    model = certified_ridge_gd(noise_level, in_channels=2, kappa=kappa).double()
    with torch.no_grad():
        for parameter in model.prior.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    rate = deq.certify(model, physics, (2, 4, 3)).rate
    assert rate.is_certified
    y = physics.A(torch.rand(1, 2, 4, 3, dtype=torch.float64))
    step, start = model.fixed_point_problem(y, physics)
    x = start + 0.2 * torch.randn_like(start)
    jacobian = torch.autograd.functional.jacobian(step, x).reshape(24, 24)
    assert float(torch.linalg.matrix_norm(jacobian, 2)) <= rate.value < 1
