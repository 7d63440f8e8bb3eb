from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.diagnostics import Stretch, stretch

from ..one_test import in_one_test

F64 = torch.float64
CHEAP: dict[str, Any] = {"starts": 1, "steps": 4}


def linear(matrix: Tensor) -> Any:
    return lambda x: x.flatten(1) @ matrix.T


def exact_quotients(found: Stretch) -> Tensor:
    """The quotients of the pairs, by exact sums of the squares."""
    squares = [
        [math.fsum(d * d for d in row) for row in (a - b).flatten(1).tolist()]
        for a, b in (found.values, found.pair)
    ]
    moved, apart = torch.tensor(squares, dtype=F64)
    return (moved / apart).sqrt()


@settings(max_examples=10)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_stretch_of_a_matrix_is_its_norm_within_one_percent(
    rows: int, columns: int, seed: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = scale * torch.randn(rows, columns, generator=generator, dtype=F64)
    x = torch.randn(2, columns, generator=generator, dtype=F64)
    found = stretch(linear(matrix), x, starts=1, steps=12)
    norm = float(torch.linalg.matrix_norm(matrix, 2))
    assert found.quotient.max() <= norm * (1 + 1e-15)
    assert found.quotient.min() >= 0.99 * norm
    assert found.lower.is_lower
    assert found.lower.is_certified


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), activation=st.sampled_from([nn.ReLU, nn.Tanh]))
def test_stretch_of_a_network_is_below_the_largest_norm_of_its_jacobians(
    seed: int, activation: type[nn.Module]
) -> None:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 5), activation(), nn.Linear(5, 3))
    found = stretch(network, torch.randn(2, 3), **CHEAP)
    # The slopes of the hidden units are between 0 and 1, and the norm of the Jacobian
    # is convex in them: its maximum is at a corner.
    first, second = (w.detach().double() for w in network.parameters() if w.ndim > 1)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=F64)] * 5)
    norms = torch.linalg.matrix_norm(second * corners[:, None, :] @ first, 2)
    assert found.quotient.max() <= norms.max()
    assert found.lower.value <= found.upper.value
    assert found.quotient.min() > 0


def test_quotients_are_rounded_down_and_the_values_are_those_of_the_pair() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    found = stretch(network, torch.rand(2, 2, 5, 6), **CHEAP)
    double = copy.deepcopy(network).double()
    with torch.no_grad():
        for x, value in zip(found.pair, found.values, strict=True):
            assert torch.equal(double(x), value)
    exact = exact_quotients(found)
    assert (found.quotient < exact).all()
    torch.testing.assert_close(found.quotient, exact, rtol=1e-6, atol=0)
    assert (found.error > 0).all()


def test_convolution_is_stretched_by_its_norm_within_one_percent() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular", bias=False)
    found = stretch(layer, torch.rand(1, 2, 12, 12), starts=1)
    spectrum = torch.fft.fft2(layer.weight.detach().double(), s=(12, 12))
    norm = torch.linalg.matrix_norm(spectrum.permute(2, 3, 0, 1), 2).max()
    assert 0.99 * norm <= found.lower.value <= norm
    assert 1 <= found.ratio <= 1.01


def test_search_finds_a_steep_region_that_starts_do_not_see() -> None:
    # Slope 1 below 3 and slope 2 above; the images are about 1.
    def bend(x: Tensor) -> Tensor:
        return x + (x - 3).clamp_min(0)

    found = stretch(bend, torch.ones(1, 1, 3, 3), starts=1)
    assert found.lower.value == pytest.approx(2, rel=1e-6)


def test_claim_below_the_lower_bound_is_refuted() -> None:
    x = torch.rand(2, 1, 4, 4)
    found = stretch(nn.Conv2d(1, 1, 1), x, claimed=1e-3, **CHEAP)
    assert found.refuted
    assert "the claim 0.001 is REFUTED" in str(found)
    upper = found.upper
    true = stretch(nn.Identity(), x, claimed=deq.certificates.Bound(1.0), **CHEAP)
    assert not true.refuted
    assert "not refuted by this search" in repr(true)
    assert upper.is_certified
    assert not stretch(nn.Identity(), x, **CHEAP).refuted


def test_result_prints_the_bounds_and_a_row_for_each_image() -> None:
    found = stretch(linear(torch.eye(4, dtype=F64)), torch.rand(2, 4), **CHEAP)
    lines = str(found).splitlines()
    assert lines[0].startswith("Lipschitz constant >= ")
    assert lines[1] == "upper bound no bound (lipschitz takes modules only)"
    assert [line.split()[0] for line in lines[-2:]] == ["0", "1"]
    assert lines[-1].endswith("given 1")
    assert found.ratio == math.inf


def test_complex_images_are_searched_as_real_pairs() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(4, 5, dtype=torch.complex128)
    found = stretch(linear(matrix), torch.randn(2, 5, dtype=torch.complex64), starts=1)
    norm = torch.linalg.matrix_norm(matrix, 2)
    assert found.pair[0].dtype == torch.complex128
    assert (found.quotient <= norm).all()
    assert (found.quotient >= 0.99 * norm).all()
    # Real-linear, and not complex-linear.
    found = stretch(lambda x: x + 0.5 * x.conj(), torch.ones(1, 3) + 0j, starts=1)
    assert found.lower.value == pytest.approx(1.5, rel=1e-6)


@pytest.mark.parametrize("inplace", [False, True])
def test_module_mode_gradients_and_generators_are_unchanged(inplace: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 2, 3)
    module = nn.Sequential(nn.ReLU(inplace), layer, nn.BatchNorm2d(2)).eval()
    assert layer.bias is not None
    layer.bias.requires_grad_(False)
    layer.weight.grad = torch.ones_like(layer.weight)
    x = torch.rand(2, 1, 5, 5, requires_grad=True)
    before, state = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    kept = x.detach().clone()
    with torch.no_grad():
        first = stretch(module, x, **CHEAP)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert layer.weight.dtype == torch.float32
    assert torch.equal(layer.weight.grad, torch.ones_like(layer.weight))
    assert [w.requires_grad for w in module.parameters()] == [True, False, True, True]
    assert not module.training
    assert x.grad is None
    assert torch.equal(x, kept)
    with torch.inference_mode():
        again = stretch(module, x, **CHEAP)
    assert torch.equal(first.pair[0], again.pair[0])
    other = stretch(module, x, generator=torch.Generator().manual_seed(1), **CHEAP)
    assert not torch.equal(first.pair[0], other.pair[0])


def test_each_noise_level_of_a_batch_belongs_to_its_image() -> None:
    class Scale(dinv.models.Denoiser):
        def forward(self, x: Tensor, sigma: Any) -> Tensor:
            return x * sigma.reshape(-1, 1, 1, 1)

    levels = torch.tensor([0.5, 2.0])
    found = stretch(Scale(), torch.rand(2, 1, 3, 3), levels, **CHEAP)
    torch.testing.assert_close(found.quotient, levels.double(), rtol=1e-6, atol=0)


def test_methods_and_partials_of_modules_are_evaluated_by_copies_in_float64() -> None:
    class Quadratic(dinv.optim.Prior):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1.0, 3.0]))

        def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return self.weight * x

        def prox(self, x: Tensor, *args: Any, gamma: Any = 1.0, **kw: Any) -> Tensor:
            return x / (1 + gamma * self.weight)

    prior, x = Quadratic(), torch.rand(1, 2)
    assert stretch(prior.grad, x, **CHEAP).lower.value == pytest.approx(3, rel=1e-6)
    prox = partial(prior.prox, gamma=torch.tensor(2.0))
    assert stretch(prox, x, **CHEAP).lower.value == pytest.approx(1 / 3, rel=1e-6)
    assert prior.weight.dtype == torch.float32


def test_proved_error_of_an_iteration_reduces_the_quotient() -> None:
    class Truncated(dinv.models.Denoiser):
        error = 0.0

        def forward(self, x: Tensor, sigma: float) -> Tensor:
            return x

        def error_bound(self, denoised: Tensor, x: Tensor, sigma: float) -> Tensor:
            assert torch.equal(denoised, x)
            return torch.full((len(x),), self.error)

    denoiser, x = Truncated(), torch.rand(1, 1, 4, 4)
    exact = stretch(denoiser, x, 0.1, **CHEAP)
    denoiser.error = 1e-2
    found = stretch(denoiser, x, 0.1, **CHEAP)
    assert found.error.item() == pytest.approx(2e-2, rel=1e-3)
    assert found.lower.value < 0.999 < exact.lower.value <= 1


def test_rounding_errors_within_the_module_reduce_the_quotient() -> None:
    def cancels(x: Tensor) -> Tensor:
        return (x + 1e8) - 1e8

    def rounds(x: Tensor) -> Tensor:
        return x.float().double()

    x = torch.rand(2, 1, 5, 5, dtype=F64)
    for function in (cancels, rounds):
        found = stretch(function, x, claimed=1, steps=3)
        assert not found.refuted
        assert found.lower.value > 0.99


def test_map_without_derivative_is_searched_at_random() -> None:
    found = stretch(lambda x: 2 * x.detach(), torch.rand(1, 1, 3, 3), **CHEAP)
    assert found.lower.value == pytest.approx(2, rel=1e-6)


def test_constant_map_has_the_bound_zero_and_nan_values_are_left_out() -> None:
    x = torch.rand(2, 1, 3, 3)
    found = stretch(lambda x: 0 * x + 1, x, **CHEAP)
    assert found.lower.value == 0
    assert found.ratio == math.inf
    found = stretch(lambda x: x / 0 - x / 0, x, **CHEAP)
    assert torch.equal(found.quotients, torch.zeros(1, 2, dtype=F64))
    steep = stretch(lambda x: torch.where(x > 0, x.log(), math.nan), x + 1, **CHEAP)
    assert 0 < steep.lower.value < math.inf


def test_progress_bar_reaches_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.rand(1, 1, 3, 3)
    stretch(nn.Conv2d(1, 1, 3), x, show_progress_bar=True, starts=2, steps=2)
    assert "stretch Conv2d: 100%" in capsys.readouterr().err
    stretch(nn.Conv2d(1, 1, 3), x, **CHEAP)
    assert capsys.readouterr().err == ""


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.calls * x


@in_one_test(
    ("module", "error", "message"),
    [
        ("name", TypeError, "module must be callable, got 'name'"),
        (nn.Dropout(), ValueError, "two calls with one input differ. Call eval"),
        (Counter(), ValueError, "two calls with one input differ"),
        (nn.BatchNorm2d(1), ValueError, "must treat each image alone"),
        (lambda x: x.float(), TypeError, "returns torch.float32 for images in"),
        (lambda x: x[0], TypeError, "with the batch axis of x, of size 2"),
        (lambda x: (x, x), TypeError, "must return one tensor"),
        (lambda x: x @ torch.ones(4, 4), TypeError, "cannot be evaluated at images"),
    ],
)
def test_stretch_raises_for_a_module_that_is_no_map_in_float64(
    module: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        stretch(module, torch.rand(2, 1, 4, 4))


def test_stretch_raises_for_a_module_that_cannot_be_copied() -> None:
    module = nn.Conv2d(1, 1, 1)
    module.weight_squared = module.weight**2  # has a graph
    with pytest.raises(TypeError, match="Conv2d cannot be copied"):
        stretch(module, torch.rand(1, 1, 4, 4))


def test_stretch_raises_for_arguments_out_of_range() -> None:
    x = torch.rand(1, 4)
    for name, value in (("starts", 0), ("steps", 0), ("rtol", -1.0), ("claimed", -1.0)):
        arguments: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=f"{name} must be"):
            stretch(nn.Identity(), x, **arguments)
    with pytest.raises(ValueError, match="x must be finite"):
        stretch(nn.Identity(), x / 0)
    with pytest.raises(TypeError, match="x must be of a floating-point dtype"):
        stretch(nn.Identity(), torch.ones(1, 4, dtype=torch.int64))


def test_bundled_contraction_survives_and_is_attained() -> None:
    denoiser = deq.models.ConvexPotentialDenoiser(
        1, contraction=0.9, pretrained=None, layers=2, generators=1, kernel_size=3
    )
    found = stretch(denoiser, torch.rand(1, 1, 5, 5), 0.1, claimed=0.9, **CHEAP)
    assert not found.refuted
    assert 1 <= found.ratio < 1.01
