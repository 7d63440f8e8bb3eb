"""The certified preset: its fixed point, its rate and the denoisers that it accepts."""

from __future__ import annotations

import deepinv as dinv
import pytest
import torch
from deepinv.physics import Denoising

import deepinv_equilibrium as deq
from deepinv_equilibrium import plugins
from deepinv_equilibrium.models import ConvexPotentialDenoiser
from deepinv_equilibrium.presets import certified_deq_pgd


def contractive(**arguments: float) -> ConvexPotentialDenoiser:
    torch.manual_seed(0)
    return ConvexPotentialDenoiser(pretrained=None, **arguments).double()


def test_model_solves_the_equation_of_forward_backward_splitting() -> None:
    y = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    denoiser = contractive(contraction=0.9)
    model = plugins.create(
        "reconstructors",
        "certified-deq-pgd",
        denoiser=denoiser,
        solver=deq.Anderson(rtol=1e-12, max_iter=300),
        on_failure="raise",
        stepsize=0.5,
    )
    assert type(model) is deq.optim.PGD
    x = model(y, Denoising())
    # The noise level is stored in float32.
    expected = denoiser((x + y) / 2, 0.03)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-7)
    x.square().sum().backward()
    learned = {key for key, p in model.named_parameters() if p.grad is not None}
    assert any(key.startswith("params_algo.g_param") for key in learned)
    assert not any("stepsize" in key for key in learned)
    assert all(p.grad is not None for p in denoiser.parameters())


def test_default_denoiser_has_the_given_contraction() -> None:
    for contraction in (0.99, 0.9):
        model = certified_deq_pgd(contraction=contraction)
        denoiser = model.prior[0].denoiser
        assert type(denoiser) is ConvexPotentialDenoiser
        bound = deq.lipschitz(denoiser)
        assert bound.is_certified
        assert bound.value == pytest.approx(contraction, rel=1e-11)


@pytest.mark.parametrize(
    ("denoiser", "message"),
    [
        (contractive(), "denoiser must be proved to be strictly contractive.*<= 1 "),
        (dinv.models.MedianFilter(), "MedianFilter cannot be certified"),
    ],
)
def test_constructor_raises_for_denoiser_without_proved_contraction(
    denoiser: dinv.models.Denoiser, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        certified_deq_pgd(denoiser)


def test_constructor_raises_for_other_denoiser_or_contraction() -> None:
    with pytest.raises(TypeError, match="denoiser must be an instance of"):
        certified_deq_pgd(torch.nn.Identity())
    with pytest.raises(ValueError, match=r"contraction must be in \(0, 1\], got 2"):
        certified_deq_pgd(contraction=2.0)


@pytest.mark.parametrize(
    "physics",
    [
        dinv.physics.Inpainting((3, 12, 12), mask=0.5),
        dinv.physics.BlurFFT((3, 12, 12), filter=torch.full((1, 1, 3, 3), 1 / 9)),
    ],
)
def test_certify_returns_the_contraction_of_the_denoiser(
    physics: dinv.physics.Physics,
) -> None:
    model = certified_deq_pgd(contractive(contraction=0.9))
    certificate = deq.certify(model, physics, (3, 12, 12))
    assert certificate.rate.is_certified
    assert certificate.rate.value == pytest.approx(0.9, rel=1e-6)


def test_certified_rate_is_close_to_the_norm_of_the_jacobian() -> None:
    img_size = (1, 16, 16)
    kernel = dinv.physics.functional.gaussian_blur(sigma=(1.0, 1.0)).double()
    physics = dinv.physics.BlurFFT(img_size, filter=kernel)
    model = certified_deq_pgd(
        ConvexPotentialDenoiser(1, contraction=0.9), sigma_denoiser=0.01
    ).double()
    rate = deq.certify(model, physics, img_size).rate
    assert rate.is_certified

    photo = deq.datasets.Photos("test", grey=True, img_size=16)[0]["x"][None].double()
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    y = physics.A(photo) + 0.05 * noise.double()
    step, _ = model.fixed_point_problem(y, physics)
    with torch.no_grad():
        solution = model(y, physics)
    jacobian = torch.autograd.functional.jacobian(step, solution)
    norm = torch.linalg.matrix_norm(jacobian.reshape(16**2, 16**2), 2).item()
    assert norm <= rate.value <= 1.1 * norm


def test_safeguarded_solver_converges_with_the_certified_rate() -> None:
    img_size = (1, 16, 16)
    kernel = dinv.physics.functional.gaussian_blur(sigma=(1.0, 1.0))
    physics = dinv.physics.BlurFFT(img_size, filter=kernel)
    denoiser = ConvexPotentialDenoiser(1, contraction=0.99)
    rate = deq.certify(certified_deq_pgd(denoiser), physics, img_size).rate
    solver = deq.Safeguarded(deq.Anderson(), rate, rtol=1e-5)
    model = certified_deq_pgd(denoiser, solver=solver)
    y = physics.A(torch.rand(2, *img_size, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        model(y, physics)
    assert model.solution.converged.all()
    assert (model.solution.evaluations < solver.evaluations_to(1e-5)).all()
