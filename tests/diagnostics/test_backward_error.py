"""The identity, the sizes and the printed report of a backward error."""

from __future__ import annotations

import math

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.diagnostics import backward_error

NOISE = dinv.physics.GaussianNoise(0.05)


def make_model(restarts: int, dtype: torch.dtype = torch.float64) -> deq.optim.PGD:
    torch.manual_seed(0)
    network = dinv.models.DRUNet(1, 1, nc=(2, 4, 4, 4), nb=1, pretrained=None).to(dtype)
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(network),
        stepsize=0.5,
        sigma_denoiser=0.05,
        trainable_params=[],
        DEQ=deq.ReTune(layers=1, restarts=restarts),
    )


@pytest.mark.parametrize("restarts", [1, 3])
def test_reconstruction_is_exact_fixed_point_of_shifted_step(
    restarts: int,
) -> None:
    model = make_model(restarts)
    physics = dinv.physics.Denoising(NOISE)
    y = torch.rand(2, 1, 8, 9, dtype=torch.float64)
    error = backward_error(model, y, physics)
    with torch.no_grad():
        x = model(y, physics)
        step, _ = model.fixed_point_problem(y, physics)
        e = x - step(x)
    norms = e.flatten(1).norm(dim=1)
    torch.testing.assert_close(error.absolute, norms)
    torch.testing.assert_close(error.relative, norms / x.flatten(1).norm(dim=1))
    torch.testing.assert_close(error.per_entry, norms / math.sqrt(72))
    torch.testing.assert_close(error.over_noise, norms / math.sqrt(72) / 0.05)
    # The step shifted by e maps x to x up to rounding.
    torch.testing.assert_close(step(x) + e, x, rtol=0, atol=1e-15)


def test_report_separates_proved_identity_from_observed_sizes() -> None:
    y = torch.rand(1, 1, 8, 8)
    model = make_model(2, torch.float32)
    printed = str(backward_error(model, y, dinv.physics.Denoising(NOISE)))
    assert "Proved: each x is an exact fixed point of T + e" in printed
    assert "Observed: the size of e." in printed
    assert "certified" not in printed
    assert "unknown" not in printed
    physics = dinv.physics.Denoising(dinv.physics.ZeroNoise())
    unknown = backward_error(model, y, physics)
    assert unknown.noise_level is None
    assert "unknown" in str(unknown)
    assert bool(unknown.over_noise.isnan().all())
    given = backward_error(model, y, physics, noise_level=0.1)
    torch.testing.assert_close(given.over_noise, given.per_entry / 0.1)


def test_backward_error_is_zero_at_fixed_point() -> None:
    model = make_model(1)
    torch.nn.init.zeros_(model.prior[0].denoiser.m_tail.weight)
    y = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    error = backward_error(model, y, dinv.physics.Denoising(NOISE))
    assert error.absolute.tolist() == error.relative.tolist() == [0.0]


@pytest.mark.parametrize("noise_level", [0.0, -1.0, math.nan, math.inf])
def test_noise_level_out_of_range_is_refused(noise_level: float) -> None:
    with pytest.raises(ValueError, match="noise_level must be in"):
        backward_error(
            make_model(1),
            torch.rand(1, 1, 8, 8, dtype=torch.float64),
            dinv.physics.Denoising(),
            noise_level,
        )
