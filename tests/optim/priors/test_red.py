from __future__ import annotations

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium import plugins
from deepinv_equilibrium.certificates import Kind

DOUBLE = {"dtype": torch.float64}
SHAPE = (2, 3, 4)


class Affine(dinv.models.Denoiser):
    """D(x) = W x + b on whole images."""

    def __init__(self, matrix: Tensor, bias: float = 0.0) -> None:
        super().__init__()
        self.matrix, self.bias = torch.nn.Parameter(matrix), bias

    def forward(self, x: Tensor, sigma) -> Tensor:
        return (x.flatten(1) @ self.matrix.T).reshape(x.shape) + self.bias


def matrices(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return a symmetric and an antisymmetric matrix."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(24, 24, generator=generator, **DOUBLE)
    return (matrix + matrix.T) / 2, (matrix - matrix.T) / 2


def images(batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, *SHAPE, generator=generator, **DOUBLE)


def test_symmetric_linear_denoiser_meets_all_conditions():
    symmetric, _ = matrices()
    prior = deq.optim.RED(Affine(symmetric))
    report = prior.check_gradient(images(), 0.1)
    for value in (report.homogeneity, report.asymmetry, report.energy):
        assert value.shape == (3,)
        assert value.max() < 1e-13
    x = images().requires_grad_()
    (gradient,) = torch.autograd.grad(prior.fn(x, 0.1).sum(), x)
    torch.testing.assert_close(gradient, prior.grad(x, 0.1), rtol=1e-12, atol=1e-12)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    antisymmetric=st.floats(0, 2),
    bias=st.floats(-2, 2),
)
def test_conditions_have_the_closed_form_for_affine_denoisers(
    seed: int, antisymmetric: float, bias: float
):
    symmetric, part = matrices(seed)
    matrix = symmetric + antisymmetric * part
    x = images()
    report = deq.optim.RED(Affine(matrix, bias)).check_gradient(x, 0.1)
    flat = x.flatten(1)
    denoised = flat @ matrix.T + bias
    expected = abs(bias) * 24**0.5 / denoised.norm(dim=1)
    torch.testing.assert_close(report.homogeneity, expected, rtol=1e-9, atol=1e-9)
    claimed = flat - (denoised + flat @ matrix) / 2
    error = (claimed - (flat - denoised)).norm(dim=1)
    torch.testing.assert_close(
        report.energy, error / (flat - denoised).norm(dim=1), rtol=1e-9, atol=1e-9
    )
    # Four random directions in 24 dimensions: half the ratio of norms as tolerance.
    ratio = 2 * antisymmetric * part.norm() / matrix.norm()
    assert (report.asymmetry - ratio).abs().max() <= 0.5 * ratio + 1e-12


def test_rotation_has_asymmetry_two():
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], **DOUBLE)
    prior = deq.optim.RED(Affine(torch.block_diag(*[turn] * 12)))
    asymmetry = prior.check_gradient(images(), 0.1).asymmetry
    torch.testing.assert_close(asymmetry, torch.full((3,), 2.0, **DOUBLE))


def test_sample_does_not_depend_on_the_rest_of_the_batch():
    prior = deq.optim.RED(dinv.models.DnCNN(2, 2, 3, nf=4, pretrained=None).double())
    together = prior.check_gradient(images(), 0.1)
    alone = prior.check_gradient(images()[:1], 0.1)
    for name in ("homogeneity", "energy"):
        torch.testing.assert_close(getattr(together, name)[:1], getattr(alone, name))
    assert together.asymmetry.min() > 0.1
    assert not prior.denoiser.out_conv.weight.grad


def test_bias_free_network_is_homogeneous_and_not_symmetric():
    denoiser = dinv.models.DnCNN(2, 2, 3, bias=False, nf=4, pretrained=None).double()
    report = deq.optim.RED(denoiser).check_gradient(images(), 0.1)
    assert report.homogeneity.max() < 1e-12
    assert report.asymmetry.min() > 0.1
    assert report.energy.min() > 0.01


@pytest.mark.parametrize("channels", [1, 3])
def test_check_gradient_passes_the_noise_level_to_the_denoiser(channels: int):
    class Shrink(dinv.models.Denoiser):
        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            return x / (1 + sigma.reshape(-1, 1, 1, 1))

    x = torch.rand(2, channels, 4, 5, **DOUBLE)
    sigma = torch.tensor([1.0, 3.0], **DOUBLE)
    prior = plugins.create("priors", "red", denoiser=Shrink())
    assert type(prior) is deq.optim.RED
    energy = prior.fn(x, sigma)
    expected = torch.tensor([0.25, 0.375], **DOUBLE) * x.square().flatten(1).sum(1)
    torch.testing.assert_close(energy, expected)
    assert prior.check_gradient(x, sigma).energy.max() < 1e-14


def test_identity_and_zero_have_no_error():
    report = deq.optim.RED(Affine(torch.eye(24, **DOUBLE))).check_gradient(images(), 0)
    assert report.energy.max() == report.homogeneity.max() == 0
    report = deq.optim.RED(Affine(torch.zeros(24, 24, **DOUBLE)))
    report = report.check_gradient(images(), 0)
    assert report.asymmetry.max() == report.homogeneity.max() == 0


def test_report_prints_the_conditions_as_observed():
    report = deq.optim.RED(Affine(matrices()[0], 1.0)).check_gradient(images(), 0.1)
    assert report.kind is Kind.OBSERVED
    text = str(report)
    assert text.startswith("largest of 3 samples (observed)")
    for words in ("locally homogeneous", "gradient of some function", "x^T (x - D(x))"):
        assert words in text
    assert f"{report.homogeneity.max():.1e}" in text


def test_rate_of_gradient_descent_is_certified():
    denoiser = deq.models.ConvexPotentialDenoiser(
        1, contraction=0.9, layers=2, pretrained=None
    )
    model = deq.optim.GD(
        data_fidelity=dinv.optim.L2(),
        prior=deq.optim.RED(denoiser),
        stepsize=0.5,
        sigma_denoiser=0.1,
        DEQ=deq.Equilibrium(),
    )
    rate = deq.certify(model, dinv.physics.Denoising(), (1, 8, 8)).rate
    assert rate.is_certified
    # tau = 1/2, lambda = 1, mu = L = 1: |1 - tau (1 + 1)| + tau L_D.
    assert rate.value == pytest.approx(0.45, rel=1e-6)


def test_constructor_refuses_an_unknown_argument():
    with pytest.raises(TypeError, match="unexpected keyword"):
        deq.optim.RED(Affine(matrices()[0]), lambd=1.0)
