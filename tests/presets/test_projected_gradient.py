"""Projected gradient descent with Tikhonov regularisation."""

from __future__ import annotations

import warnings
from pathlib import Path

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates.spectra.double_precision import double_copy
from deepinv_equilibrium.optim import NonNegativity, RidgeL2
from deepinv_equilibrium.presets import projected_gradient

from ..optim.priors.test_nonnegativity import MATRIX, physics
from ..quiet_trainer import train_for_an_epoch

WEIGHT = 0.1
EXACT = deq.Equilibrium(
    deq.Picard(max_iter=5000, rtol=1e-13), deq.Implicit(deq.GMRES(rtol=1e-12))
)


def measurements() -> Tensor:
    return torch.randn(3, 5, dtype=torch.float64)


def test_minimiser_agrees_with_the_regulariser_in_the_gradient_step() -> None:
    y = measurements()
    other = deq.optim.PGD(
        data_fidelity=RidgeL2(kappa=WEIGHT),
        prior=NonNegativity(),
        stepsize=1.5,
        DEQ=EXACT,
    )
    with torch.no_grad():
        x = projected_gradient(EXACT, WEIGHT, stepsize=1.5)(y, physics())
        expected = other(y, physics())
    assert x.amax() > 0.1
    # The weight of RidgeL2 is exact, the trained weight is rounded to float32.
    torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-7)


def test_image_and_gradients_have_closed_forms_on_the_active_set() -> None:
    y = measurements().requires_grad_()
    model = projected_gradient(EXACT, WEIGHT, stepsize=1.5).double()
    (raw,) = model.parameters()
    x = model(y, physics())
    c = torch.linspace(-1, 2, 6, dtype=torch.float64)
    (x.flatten(1) @ c).sum().backward()

    weight = torch.tensor(WEIGHT).double()  # rounded to float32, as in the model
    of_weight = torch.zeros((), dtype=torch.float64)
    assert y.grad is not None
    for sample in range(3):
        free = x[sample].flatten() > 0
        assert 0 < free.sum() < 6
        A = MATRIX[:, free]
        inverse = torch.linalg.inv(A.T @ A + weight * torch.eye(A.shape[1]))
        solved = inverse @ A.T @ y[sample]
        torch.testing.assert_close(x[sample].flatten()[free], solved)
        of_weight -= c[free] @ inverse @ solved.detach()
        torch.testing.assert_close(y.grad[sample], A @ inverse @ c[free])
    # The weight is trained as a logarithm.
    assert raw.grad is not None
    torch.testing.assert_close(raw.grad, weight * of_weight, rtol=1e-6, atol=1e-9)


def test_minimiser_does_not_depend_on_the_step_size() -> None:
    y = measurements()
    with torch.no_grad():
        x, other = (
            projected_gradient(EXACT, WEIGHT, stepsize=tau).double()(y, physics())
            for tau in (1.5, 0.4)
        )
    torch.testing.assert_close(x, other, rtol=1e-10, atol=1e-10)


def iterations(y: Tensor, steps: Tensor, weights: Tensor) -> Tensor:
    """Return the result of the iterations from the adjoint of the measurement."""
    x = y @ MATRIX
    for tau, weight in zip(steps, weights, strict=True):
        x = (x - tau * (x @ MATRIX.T - y) @ MATRIX).clamp(min=0) / (1 + tau * weight)
    return x


def test_unrolled_layers_have_their_own_step_sizes_and_weights() -> None:
    y, K = measurements(), 4
    steps, weights = [0.5, 1.5, 0.25, 1.75], [0.5, 0.25, 0.125, 1.0]
    model = projected_gradient(
        deq.ReTune(layers=K, restarts=1),
        weights,
        stepsize=steps,
        trainable_params=["stepsize", "lambda_reg"],
    ).double()
    x = model(y, physics())
    x.square().sum().backward()
    gradients = [p.grad for p in model.parameters()]
    assert len(gradients) == 2 * K

    tau = torch.tensor(steps, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    expected = iterations(y, tau, weight)
    torch.testing.assert_close(x.flatten(1), expected)
    expected.square().sum().backward()
    assert tau.grad is not None
    assert weight.grad is not None
    scaled = torch.cat((weight.grad * weight.detach(), tau.grad * tau.detach()))
    torch.testing.assert_close(torch.stack(gradients), scaled)


def test_model_without_DEQ_makes_max_iter_iterations() -> None:
    y, K = measurements(), 7
    model = projected_gradient(None, WEIGHT, stepsize=1.5, max_iter=K)
    full = torch.full((K,), 1.5), torch.full((K,), WEIGHT, dtype=torch.float64)
    torch.testing.assert_close(model(y, physics()).flatten(1), iterations(y, *full))


def test_saved_model_can_be_loaded(tmp_path: Path) -> None:
    y = measurements()
    model = projected_gradient(EXACT, 0.7, stepsize=1.5)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other = projected_gradient(EXACT, 0.1, stepsize=1.5)
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    with torch.no_grad():
        torch.testing.assert_close(other(y, physics()), model(y, physics()))


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_are_independent_for_grey_and_colour_images(channels: int) -> None:
    model = projected_gradient(EXACT, 0.1)
    scan = dinv.physics.Tomography(6, 8, circle=True, normalize=True)
    scan = double_copy(scan)
    y = scan.A(torch.rand(2, channels, 8, 8, dtype=torch.float64)) - 0.05
    with torch.no_grad():
        x = model(y, scan)
        alone = torch.cat([model(sample[None], scan) for sample in y])
    assert x.shape == (2, channels, 8, 8)
    assert x.min() == 0
    torch.testing.assert_close(x, alone, rtol=0, atol=1e-10)


def test_training_increases_a_weight_that_is_too_small() -> None:
    scan = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.5))
    x = torch.rand(8, 1, 6, 6)
    pairs = [{"x": image, "y": scan(image[None])[0]} for image in x]
    model = deq.plugins.create("reconstructors", "projected-gradient", lambda_reg=0.01)
    (raw,) = model.parameters()
    before = raw.item()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train_for_an_epoch(model, scan, torch.optim.Adam([raw], 0.1), pairs, 4)
    assert raw.item() > before + 0.1


def test_preset_raises_for_unknown_argument() -> None:
    with pytest.raises(TypeError, match=r"'step'.*did you mean 'stepsize'"):
        projected_gradient(step=1.5)
    with pytest.raises(TypeError, match="'prior'"):
        projected_gradient(prior=NonNegativity())
