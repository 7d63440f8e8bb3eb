from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.datasets import Photos
from deepinv_equilibrium.models import RidgeProxDenoiser, RidgeRegulariser

from ...dense_jacobian import dense_jacobian
from ..images import psnr, random_images, random_noise_map

DOUBLE = {"dtype": torch.float64}


SMALL: dict[str, Any] = {"hidden_channels": (), "generators": 2, "kernel_size": 3}


def random_denoiser(
    seed: int,
    channels: int = 1,
    contraction: float = 1.0,
    smoothness: float = 5.0,
    weak_convexity: float = 0.0,
) -> RidgeProxDenoiser:
    """Return a small denoiser in float64 with random weights and slopes."""
    torch.manual_seed(seed)
    denoiser = RidgeProxDenoiser(
        channels, contraction, None, weak_convexity, smoothness=smoothness, **SMALL
    ).double()
    for weight in denoiser.parameters():
        weight.data += torch.randn_like(weight)
    return denoiser


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    channels=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    contraction=st.sampled_from([1.0, 0.95, 0.5]),
    smoothness=st.sampled_from([0.1, 5.0, 60.0]),
    weak_convexity=st.sampled_from([0.0, 0.0, 0.5, 0.9]),
    distance=st.sampled_from([1e-3, 1.0, 1e2]),
    single=st.booleans(),
)
def test_bounds_hold_for_random_pairs(
    seed: int,
    channels: int,
    size: tuple[int, int],
    contraction: float,
    smoothness: float,
    weak_convexity: float,
    distance: float,
    single: bool,
):
    denoiser = random_denoiser(seed, channels, contraction, smoothness, weak_convexity)
    first = random_images(seed, (1, channels, *size))
    second = first + distance * (random_images(seed + 1, first.shape) - 0.5)
    if single:
        denoiser, first, second = denoiser.float(), first.float(), second.float()
    with torch.no_grad():
        images = [denoiser(x, 0.1) for x in (first, second)]
    errors = sum(
        denoiser.error_bound(d, x, 0.1).item()
        for d, x in zip(images, (first, second), strict=True)
    )
    moved = (images[0].double() - images[1].double()).flatten()
    apart = (first.double() - second.double()).flatten()
    bound = denoiser.lipschitz_bound()
    assert bound.is_certified
    assert moved.norm() <= bound.value * apart.norm() + errors
    if denoiser.is_firmly_nonexpansive:
        # <d, x> >= |d|^2, up to the errors.
        slack = errors * (2 * moved.norm() + apart.norm() + errors)
        assert moved @ apart >= moved @ moved - slack
    # The residual D - I has a bound too.
    residual = (moved - apart).norm()
    assert residual <= denoiser.residual_bound().value * apart.norm() + errors
    assert errors < 1e-2 * (1 + smoothness) * (1 + distance)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    channels=st.sampled_from([1, 3]),
    contraction=st.sampled_from([1.0, 0.9]),
    weak_convexity=st.sampled_from([0.0, 0.8]),
    mapped=st.booleans(),
)
def test_jacobian_is_symmetric_and_within_bounds(
    seed: int, channels: int, contraction: float, weak_convexity: float, mapped: bool
):
    kwargs = {"contraction": contraction, "weak_convexity": weak_convexity}
    denoiser = random_denoiser(seed, channels, **kwargs)
    x = random_images(seed, (1, channels, 3, 3))
    sigma = random_noise_map(seed, 3, 3) if mapped else 0.1
    dense = dense_jacobian(lambda v: denoiser(v, sigma), x)
    torch.testing.assert_close(dense, dense.mT, rtol=0, atol=1e-6)
    eigenvalues = torch.linalg.eigvalsh((dense + dense.mT) / 2)
    smoothness = denoiser.regulariser.gradient_bounds().upper.value
    assert eigenvalues[0] >= contraction / (1 + smoothness) - 1e-7
    assert eigenvalues[-1] <= denoiser.lipschitz_bound().value + 1e-6
    convexity = denoiser.convexity_bound().value
    assert eigenvalues[-1] * (1 + convexity) <= 1 + 1e-6
    assert convexity >= (1 - weak_convexity) / contraction - 1 - 1e-6


def test_gradients_agree_with_finite_differences():
    denoiser = random_denoiser(0)
    denoiser.regulariser.rtol = 1e-13
    x = random_images(0, (2, 1, 3, 2)).requires_grad_()
    sigma = (0.1 + 0.1 * random_images(1, (2, 1, 3, 2))).requires_grad_()
    names, weights = zip(*denoiser.named_parameters(), strict=True)

    def apply(x: Tensor, sigma: Tensor, *weights: Tensor) -> Tensor:
        parameters = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(denoiser, parameters, (x, sigma))

    assert torch.autograd.gradcheck(
        apply, (x, sigma, *weights), atol=1e-6, fast_mode=True
    )


def test_error_bound_holds_for_truncated_solves():
    denoiser = random_denoiser(1, contraction=0.9, smoothness=60.0)
    x = random_images(1, (2, 1, 6, 6))
    exact = denoiser(x, 0.1)
    for rtol in (1e-1, 1e-2, 1e-4):
        denoiser.regulariser.rtol = rtol
        rough = denoiser(x, 0.1)
        error = (rough - exact).flatten(1).norm(dim=1)
        bound = denoiser.error_bound(rough, x, 0.1)
        assert (error <= bound + 1e-8).all()
        assert (bound <= 2 * (1 + 60.0) * rtol * x.flatten(1).norm(dim=1)).all()


def test_bounds_are_certified_with_the_documented_values():
    denoiser = RidgeProxDenoiser(1, 0.9, None, **SMALL)
    assert deq.lipschitz(denoiser).value == pytest.approx(0.9)
    assert (
        "exact proximal operator of a convex function, times 0.9"
        in deq.lipschitz(denoiser).source
    )
    assert denoiser.is_firmly_nonexpansive
    smoothness = denoiser.regulariser.gradient_bounds().upper.value
    expected = pytest.approx(1 - 0.9 / (1 + smoothness), rel=1e-5)
    assert denoiser.residual_bound().value == expected
    assert RidgeProxDenoiser(pretrained=None, **SMALL).lipschitz_bound().value == 1


def test_nothing_is_proved_of_another_regulariser():
    class Tripled(RidgeRegulariser):
        def prox(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return 3 * x

    denoiser = random_denoiser(0)
    denoiser.regulariser = Tripled(1, None, **SMALL).double()
    assert not denoiser.is_firmly_nonexpansive
    for method in (denoiser.lipschitz_bound, denoiser.residual_bound):
        with pytest.raises(deq.certificates.UncertifiableModuleError, match="Tripled"):
            method()
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        sigma_denoiser=0.1,
        stepsize=0.5,
        DEQ=True,
    )
    certificate = deq.certify(model, dinv.physics.Denoising(), (1, 4, 4))
    assert certificate.rate.is_vacuous
    assert certificate.convergence is deq.certificates.Convergence.UNPROVED


def test_weakly_convex_denoiser_declares_how_much_it_can_expand():
    denoiser = random_denoiser(0, weak_convexity=0.5)
    denoiser.regulariser.spline.rising.data.fill_(-20.0)
    modulus = -denoiser.regulariser.gradient_bounds().lower.value
    assert 0 < modulus < 0.5
    assert not denoiser.is_firmly_nonexpansive
    assert denoiser.lipschitz_bound().value == pytest.approx(1 / (1 - modulus))
    assert denoiser.residual_bound().value == pytest.approx(1 / (1 - modulus) - 1)
    assert "of weak convexity" in deq.lipschitz(denoiser).source


@pytest.mark.parametrize("rtol", [1e-1, 1e-13])
def test_bounds_are_estimated_if_rtol_is_given(rtol: float):
    exact = random_denoiser(5, contraction=0.9)
    loose = random_denoiser(5, contraction=0.9)
    loose.regulariser.rtol = rtol
    assert not loose.is_firmly_nonexpansive
    for method in ("lipschitz_bound", "residual_bound"):
        proved, bound = getattr(exact, method)(), getattr(loose, method)()
        assert proved.is_certified
        assert bound.kind is deq.certificates.Kind.ESTIMATED
        assert bound.value == proved.value
        assert bound.source == f"{proved.source}; the computed one only has {rtol = :g}"


def test_denoiser_with_a_loose_tolerance_can_expand():
    # The number of iterations differs between the two images, so that the result jumps.
    denoiser = random_denoiser(1)
    denoiser.regulariser.rtol = 0.03
    first, last = random_images(1, (2, 1, 6, 6))
    x = first + torch.linspace(0, 1, 500, **DOUBLE)[:, None, None, None] * last
    with torch.no_grad():
        moved = denoiser(x, 0.1).diff(dim=0).flatten(1).norm(dim=1)
    gain = moved / x.diff(dim=0).flatten(1).norm(dim=1)
    assert gain.max() > 1.1 * denoiser.lipschitz_bound().value


@pytest.mark.parametrize("optimiser", [deq.optim.PGD, deq.optim.DRS, deq.optim.GD])
def test_rates_are_certified_for_the_default_tolerance_only(optimiser):
    denoiser = random_denoiser(6, contraction=0.9)
    prior = dinv.optim.RED if optimiser is deq.optim.GD else dinv.optim.PnP
    model = optimiser(
        data_fidelity=dinv.optim.L2(),
        prior=prior(denoiser),
        stepsize=0.5,
        sigma_denoiser=0.1,
        DEQ=deq.Equilibrium(deq.Picard()),
    ).double()
    physics = dinv.physics.Denoising()
    proved = deq.certify(model, physics, (1, 6, 6))
    assert proved.rate.is_certified
    assert proved.contracts
    denoiser.regulariser.rtol = 1e-3
    estimated = deq.certify(model, physics, (1, 6, 6))
    assert not estimated.rate.is_certified
    assert not estimated.rate.is_vacuous
    assert "<= " + f"{estimated.rate.value:.6g}" not in str(estimated)


def test_forward_contracts_towards_mid_grey():
    plain, contracted = random_denoiser(2), random_denoiser(2, contraction=0.8)
    x = random_images(2, (1, 1, 5, 5))
    expected = 0.5 + 0.8 * (plain(x, 0.1) - 0.5)
    torch.testing.assert_close(contracted(x, 0.1), expected)


def test_forward_denoises_samples_independently():
    denoiser, x = random_denoiser(3, 3), random_images(3, (3, 3, 5, 4))
    sigma = torch.tensor([0.01, 0.1, 0.5], **DOUBLE)
    together = denoiser(x, sigma)
    for i in range(3):
        alone = denoiser(x[i : i + 1], sigma[i])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-8, atol=1e-8)


def test_bounds_hold_after_every_training_step():
    torch.manual_seed(0)
    denoiser = RidgeProxDenoiser(1, 0.95, None, rtol=1e-3, **SMALL)
    optimizer = torch.optim.Adam(denoiser.parameters(), 0.5)
    x = torch.rand(2, 1, 8, 8)
    start = [p.detach().clone() for p in denoiser.parameters()]
    for _ in range(5):
        y = x + 0.1 * torch.randn_like(x)
        loss = (denoiser(y, 0.2) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bounds = denoiser.regulariser.gradient_bounds()
        assert bounds.lower.value == 0
        largest = denoiser.regulariser.spline.log_slope.exp()
        assert bounds.upper.value <= largest * (1 + 1e-9)
    for before, parameter in zip(start, denoiser.parameters(), strict=True):
        assert (parameter - before).abs().max() > 0.5


def test_equilibrium_model_is_certified_and_trains():
    torch.manual_seed(0)
    denoiser = random_denoiser(4, contraction=0.95)
    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=0.5,
        sigma_denoiser=0.1,
        trainable_params=["stepsize", "g_param"],
        DEQ=deq.Equilibrium(deq.Picard(rtol=1e-9, max_iter=200)),
    ).double()
    x = random_images(4, (1, 1, 6, 6))
    out = model(x, physics)
    fixed = denoiser(0.5 * out + 0.5 * x, 0.1)
    torch.testing.assert_close(out, fixed, rtol=0, atol=1e-7)
    (out - x).square().sum().backward()
    assert all(p.grad is not None for p in denoiser.parameters())
    assert denoiser.regulariser.scaling.exponents.grad.abs().max() > 0


BUNDLED = [(1, 0.0), (3, 0.0), (1, 1.0), (3, 1.0)]


@pytest.mark.parametrize(("channels", "weak_convexity"), BUNDLED)
def test_bundled_weights_are_small_plain_tensors(channels: int, weak_convexity: float):
    kind = "weakly_convex" if weak_convexity else "convex"
    name = f"weights/ridge_{kind}_{'grey' if channels == 1 else 'colour'}.pt"
    file = resources.files("deepinv_equilibrium.models.denoisers") / name
    with resources.as_file(file) as path:
        assert path.stat().st_size < 4e4
        weights = torch.load(path, weights_only=True)
    assert ("spline.falling" in weights) == (weak_convexity > 0)


@pytest.mark.parametrize(("channels", "weak_convexity"), BUNDLED)
def test_bundled_weights_denoise_every_held_out_photo(
    channels: int, weak_convexity: float
):
    denoiser = RidgeProxDenoiser(channels, weak_convexity=weak_convexity, rtol=2e-3)
    size, gain, sigma = (96, 4.0, 0.1) if channels == 1 else (32, 6.0, 0.1)
    photos = Photos("test", grey=channels == 1, img_size=size)
    x = torch.stack([sample["x"] for sample in photos])
    y = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        denoised = denoiser(y, sigma)
    for i in range(len(x)):
        assert psnr(denoised[i], x[i]) > psnr(y[i], x[i]) + gain


def test_create_by_name_returns_the_denoiser():
    denoiser = deq.plugins.create("denoisers", "ridge-prox", contraction=0.99)
    assert denoiser.contraction == 0.99
    prior = deq.plugins.create("priors", "ridge-regulariser")
    assert prior.gradient_bounds().lower.value == 0


def test_constructor_loads_weights_from_a_file(tmp_path: Path):
    source = RidgeProxDenoiser(2, pretrained=None)
    torch.save(source.regulariser.state_dict(), tmp_path / "weights.pt")
    copy = RidgeProxDenoiser(2, pretrained=tmp_path / "weights.pt")
    assert not copy.training
    x = torch.rand(1, 2, 8, 8)
    with torch.no_grad():
        assert torch.equal(source(x, 0.1), copy(x, 0.1))


def test_constructor_raises_for_bad_contraction():
    with pytest.raises(ValueError, match=r"contraction must be in \(0, 1\], got 1.5"):
        RidgeProxDenoiser(contraction=1.5, pretrained=None)
    with pytest.raises(TypeError, match="contraction must be a number, got 'a'"):
        RidgeProxDenoiser(contraction="a", pretrained=None)
