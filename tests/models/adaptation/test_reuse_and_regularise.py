"""ReuseAndRegularise: fixed point, gradient and checks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.models import Reconstructor
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import ReuseAndRegularise

from ...certificates.dense_operator import matrix
from ...one_test import in_one_test
from ...quiet_trainer import train_for_an_epoch
from ..operators import DOUBLE, Gain, gaussian_blur

EXACT = deq.Equilibrium(deq.Anderson(rtol=1e-12), deq.Implicit(deq.GMRES(rtol=1e-12)))
CONFIGURATIONS = {
    "implicit": EXACT,
    "ReTune": deq.ReTune(layers=3, restarts=8),
    "Jacobian-free": deq.Equilibrium(
        deq.Picard(max_iter=500, rtol=1e-12), deq.JacobianFree()
    ),
}


def masked(img_size: tuple[int, int, int]) -> dinv.physics.LinearPhysics:
    """Return a blur followed by a mask, without a closed form of the prox."""
    mask = (torch.arange(img_size[-1]) % 3 > 0).to(DOUBLE).expand(img_size)
    inpainting = dinv.physics.Inpainting(img_size, mask=mask).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deepinv warns that prox has no closed form
        physics = inpainting * gaussian_blur(img_size, 0.6)
    physics.tol, physics.max_iter = 1e-13, 200
    return physics


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_fixed_point_of_a_linear_model_solves_the_linear_system(
    name: str, channels: int
) -> None:
    """(A1' A1 + weight (I - c A0' A0)) x = A1' y, with dense matrices."""
    size = (channels, 4, 5)
    nominal, physics, weight = gaussian_blur(size, 1.0), masked(size), 0.3
    reused = ReuseAndRegularise(Gain(0.3), nominal, weight, CONFIGURATIONS[name])
    y = physics.A(torch.rand(2, *size, dtype=DOUBLE))
    with torch.no_grad():
        x = reused(y, physics)
    A0, A1 = (matrix(p.A, size).detach() for p in (nominal, physics))
    identity = torch.eye(len(A0.T), dtype=DOUBLE)
    system = A1.T @ A1 + weight * (identity - 0.3 * A0.T @ A0)
    expected = torch.linalg.solve(system, A1.T @ y.flatten(1).T).T
    torch.testing.assert_close(x.flatten(1), expected, rtol=0, atol=1e-9)
    assert reused.solution is not None
    assert reused.solution.failed_count == 0


class Cubic(Gain):
    """A nonlinear model: a gain minus a cubic term."""

    def forward(self, y: Tensor, physics: Any, **kwargs: Any) -> Tensor:
        x = super().forward(y, physics)
        return x - 0.1 * x**3


@pytest.mark.parametrize("closed_form", [True, False])
def test_gradient_agrees_with_finite_differences(closed_form: bool) -> None:
    size = (2, 4, 5)
    model = Cubic(0.8, 0.6)
    physics = gaussian_blur(size, 0.7) if closed_form else masked(size)
    reused = ReuseAndRegularise(model, gaussian_blur(size, 1.0), 0.3, EXACT)
    y = torch.rand(2, *size, dtype=DOUBLE, requires_grad=True)
    weight = torch.linspace(-1, 2, y.numel(), dtype=DOUBLE)

    def loss() -> Tensor:
        return weight @ reused(y, physics).flatten().square()

    gradients = torch.autograd.grad(loss(), [y, model.gain])
    for tensor, gradient in zip((y, model.gain), gradients, strict=True):
        direction, values = torch.randn_like(tensor), []
        for sign in (1, -1):
            with torch.no_grad():
                tensor += sign * 1e-5 * direction
                values.append(loss().item())
                tensor -= sign * 1e-5 * direction
        slope = (values[0] - values[1]) / 2e-5
        assert slope == pytest.approx((gradient * direction).sum().item(), rel=1e-6)


def test_gradient_passes_through_an_inner_equilibrium_model() -> None:
    """The outer adjoint evaluates many products with the inner Jacobian."""
    denoiser = deq.models.ConvexPotentialDenoiser(
        1, contraction=0.9, pretrained=None, layers=1, generators=1, kernel_size=3
    )
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=1.0,
        sigma_denoiser=0.2,
        trainable_params=["stepsize"],
        DEQ=EXACT,
    ).double()
    size = (1, 5, 5)
    physics = gaussian_blur(size, 0.7)
    reused = ReuseAndRegularise(model, gaussian_blur(size, 1.0), 0.3, EXACT)
    y = torch.rand(2, *size, dtype=DOUBLE)
    stepsize = model.params_algo["stepsize"].get_parameter("0")
    (gradient,) = torch.autograd.grad(reused(y, physics).square().sum(), stepsize)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            stepsize += sign * 1e-4
            values.append(reused(y, physics).square().sum().item())
            stepsize -= sign * 1e-4
    assert (values[0] - values[1]) / 2e-4 == pytest.approx(gradient.item(), rel=1e-4)


@settings(max_examples=10)
@given(st.floats(0.0, 0.95), st.floats(0.01, 10.0))
def test_image_is_bounded_by_the_measurement(gain: float, weight: float) -> None:
    """As I - c A0' A0 >= 1 - c, weight (1 - c) ‖x‖ <= ‖A1' y‖."""
    size = (1, 4, 4)
    physics = gaussian_blur(size, 0.7)
    reused = ReuseAndRegularise(Gain(gain), gaussian_blur(size, 1.0), weight, EXACT)
    y = torch.randn(2, *size, dtype=DOUBLE)
    with torch.no_grad():
        x, limit = reused(y, physics), physics.A_adjoint(y)
    norm = weight * (1 - gain) * x.flatten(1).norm(dim=1)
    assert bool((norm <= (1 + 1e-9) * limit.flatten(1).norm(dim=1)).all())


def network() -> Reconstructor:
    return dinv.models.ArtifactRemoval(
        dinv.models.DnCNN(1, 1, depth=2, nf=2, pretrained=None)
    )


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_samples_are_independent(name: str) -> None:
    size = (1, 6, 5)
    physics = masked(size)
    reused = ReuseAndRegularise(
        Cubic(0.7), gaussian_blur(size, 1.0), 0.3, CONFIGURATIONS[name]
    )
    y = torch.rand(3, *size, dtype=DOUBLE)
    y[1] *= 3
    with torch.no_grad():
        x = reused(y, physics)
        alone = torch.cat([reused(y[k : k + 1], physics) for k in range(3)])
    torch.testing.assert_close(x, alone, rtol=0, atol=1e-9)


def test_retune_makes_a_fixed_number_of_iterations_in_single_precision() -> None:
    size = (1, 6, 5)
    single = torch.float32
    nominal = gaussian_blur(size, 1.0, dtype=single)
    physics = gaussian_blur(size, 0.7, dtype=single)
    config = deq.ReTune(layers=2, restarts=3)
    reused = ReuseAndRegularise(network(), nominal, 0.3, config)
    y = torch.rand(2, *size)
    x = reused(y, physics)
    assert x.dtype == torch.float32
    with torch.no_grad():
        expected = physics.A_adjoint(y)
        for _ in range(6):
            z = reused.model(nominal.A(expected), nominal)
            expected = physics.prox_l2(z, y, gamma=1 / 0.3)
    torch.testing.assert_close(x.detach(), expected, rtol=0, atol=1e-5)


def test_saved_model_can_be_loaded(tmp_path: Path) -> None:
    size = (1, 6, 5)
    physics = gaussian_blur(size, 0.7, dtype=torch.float32)
    first, other = (
        deq.plugins.create(
            "reconstructors",
            "reuse-and-regularise",
            model=network(),
            nominal_physics=gaussian_blur(size, 1.0, dtype=torch.float32),
            DEQ=deq.ReTune(layers=1, restarts=3),
        )
        for _ in range(2)
    )
    assert isinstance(first, ReuseAndRegularise)
    y = torch.rand(1, *size)
    with torch.no_grad():
        assert not torch.equal(first(y, physics), other(y, physics))
        torch.save(first.state_dict(), tmp_path / "model.pt")
        other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
        assert torch.equal(first(y, physics), other(y, physics))


def test_trainer_updates_all_parameters() -> None:
    size = (1, 6, 5)
    physics = gaussian_blur(size, 0.7, dtype=torch.float32)
    reused = ReuseAndRegularise(
        network(), gaussian_blur(size, 1.0, dtype=torch.float32), 0.3, deq.ReTune(1, 3)
    )
    before = [p.detach().clone() for p in reused.parameters()]
    optimizer = torch.optim.Adam(reused.parameters(), 1e-2)
    pairs = [{"x": x, "y": physics.A(x[None])[0]} for x in torch.rand(4, *size)]
    train_for_an_epoch(reused, physics, optimizer, pairs, batch_size=2)
    assert before
    for was, now in zip(before, reused.parameters(), strict=True):
        assert not torch.equal(was, now)


@in_one_test(
    ("changed", "error", "match"),
    [
        ({"model": nn.Identity()}, TypeError, "model must be .* got Identity"),
        ({"nominal_physics": None}, TypeError, "nominal_physics must be .*NoneType"),
        ({"weight": 0.0}, ValueError, "weight must be positive and finite, got 0.0"),
        ({"weight": "1"}, TypeError, "weight must be a number"),
        ({"DEQ": 10}, TypeError, "DEQ must be Equilibrium.*got 10"),
        ({"iterations": 3}, TypeError, "iterations"),
    ],
)
def test_constructor_raises_for_wrong_arguments(
    changed: dict[str, Any], error: type[Exception], match: str
) -> None:
    arguments = {"model": Gain(0.5), "nominal_physics": dinv.physics.Denoising()}
    with pytest.raises(error, match=match):
        ReuseAndRegularise(**{**arguments, **changed})


def test_call_raises_for_wrong_input() -> None:
    reused = ReuseAndRegularise(Gain(0.5), dinv.physics.Denoising())
    y = torch.ones(1, 1, 4, 4)
    with pytest.raises(TypeError, match="must be a deepinv LinearPhysics"):
        reused(y, dinv.physics.Physics())
    with pytest.raises(TypeError, match="takes no argument 'init'"):
        reused(y, dinv.physics.Denoising(), init=y)
    coupled = dinv.models.ArtifactRemoval(dinv.models.UNet(1, 1, scales=2)).train()
    with pytest.raises(ValueError, match="couple the samples"):
        ReuseAndRegularise(coupled, dinv.physics.Denoising())(
            y, dinv.physics.Denoising()
        )
    downsampling = dinv.physics.Downsampling((1, 8, 8), filter=None, factor=2)
    with pytest.raises(ValueError, match=r"shape \(1, 1, 4, 4\).*Downsampling.*8, 8"):
        ReuseAndRegularise(Average(), dinv.physics.Denoising())(y, downsampling)


class Average(Reconstructor):
    """A reconstructor of images of half the size."""

    def forward(self, y: Tensor, physics: Any, **kwargs: Any) -> Tensor:
        return nn.functional.avg_pool2d(y, 2)


def test_call_warns_if_the_solver_does_not_converge() -> None:
    nominal = dinv.physics.Denoising()
    config = deq.Equilibrium(deq.Picard(max_iter=3))
    reused = ReuseAndRegularise(Gain(0.9), nominal, weight=10.0, DEQ=config)
    with pytest.warns(deq.ConvergenceWarning, match="MAX_ITER"):
        reused(torch.ones(1, 1, 4, 4), nominal)
    assert "ReuseAndRegularise" in repr(reused)
    assert "weight=10" in repr(reused)
