import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepinv_equilibrium.certificates import Kind, largest_eigenvalue
from deepinv_equilibrium.certificates.spectra.lanczos import lanczos_factor

from ...one_test import in_one_test


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def diagonal(eigenvalues):
    return lambda x: eigenvalues * x


def test_largest_eigenvalue_is_within_two_per_cent_above_the_truth():
    matrix = torch.randn(300, 200, dtype=torch.float64, generator=rng(1))
    truth = float(torch.linalg.matrix_norm(matrix, 2) ** 2)
    bound = largest_eigenvalue(
        lambda x: matrix.T @ (matrix @ x), (200,), generator=rng(2)
    )
    assert truth <= bound.value <= 1.02 * truth
    assert bound.kind is Kind.ESTIMATED
    assert bound.delta == 1e-3
    assert "60 Lanczos steps" in bound.source


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 30),
    st.integers(1, 40),
    st.floats(-30, 30),
    st.integers(0, 8),
)
def test_largest_eigenvalue_bounds_random_spectra(seed, n, steps, exponent, decay):
    generator = rng(seed)
    matrix = torch.randn(n, n, dtype=torch.float64, generator=generator)
    basis = torch.linalg.qr(matrix)[0]
    eigenvalues = torch.rand(n, dtype=torch.float64, generator=generator) ** decay
    eigenvalues = eigenvalues * 10.0**exponent
    bound = largest_eigenvalue(
        lambda x: basis @ (eigenvalues * (basis.T @ x)),
        (n,),
        steps=steps,
        delta=1e-6,
        generator=generator,
    )
    truth = float(eigenvalues.max())
    assert truth <= bound.value * (1 + 1e-11)
    if steps >= n:  # the Krylov space is the whole space: only the factor remains
        factor = lanczos_factor(n, steps, 1e-6)
        assert bound.value <= truth * factor * (1 + 1e-9)


@pytest.mark.parametrize("steps", [1, 2, 5, 12])
def test_largest_eigenvalue_fails_with_about_the_stated_probability(steps):
    # The worst case for Lanczos' method: an isolated largest eigenvalue above the
    # extremal points of the polynomial in the proof.
    n, delta, trials = 40, 0.2, 600
    epsilon = 1 - 1 / lanczos_factor(n, steps, delta)
    angles = math.pi * torch.arange(steps, dtype=torch.float64) / (2 * steps - 1)
    low = (1 - epsilon) * (1 - torch.cos(angles) ** 2)
    eigenvalues = low.repeat(n // steps + 1)[:n].clone()
    eigenvalues[-1] = 1.0
    generator = rng(steps)
    failures = sum(
        largest_eigenvalue(
            diagonal(eigenvalues),
            (n,),
            steps=steps,
            delta=delta,
            generator=generator,
        ).value
        < 1
        for _ in range(trials)
    )
    spread = math.sqrt(delta * (1 - delta) / trials)
    assert failures / trials <= delta + 3 * spread
    if steps == 1:
        # With one step, xi < 1 - epsilon iff c^2 < 1/cosh^2: probability about delta.
        assert failures / trials >= delta - 4 * spread


def test_lanczos_factor_is_at_most_the_published_one():
    for n in (10, 1000, 10**6):
        for steps in (20, 60, 200):
            for delta in (1e-1, 1e-3, 1e-9):
                published = math.log(1.648 * math.sqrt(n) / delta) / (2 * steps - 1)
                if published < 1:
                    factor = lanczos_factor(n, steps, delta)
                    assert 1 <= factor <= 1 / (1 - published**2)


def test_largest_eigenvalue_on_images_in_float32_and_on_exhausted_krylov_spaces():
    identity = largest_eigenvalue(lambda x: x, (2, 3, 4), generator=rng())
    assert identity.source.startswith("1 Lanczos step")
    assert 1 <= identity.value <= 1.01
    assert largest_eigenvalue(lambda x: 0 * x, (3,), generator=rng()).value == 0
    weights = torch.rand(3, 9, 9, generator=rng(3))

    def single(x):
        assert x.dtype == torch.float64
        return (weights * x.float()).contiguous()

    bound = largest_eigenvalue(single, (3, 9, 9), generator=rng(4))
    assert float(weights.max()) <= bound.value <= 1.01 * float(weights.max())


def test_largest_eigenvalue_is_reproducible_and_apply_may_overwrite_its_argument():
    matrix = torch.randn(20, 20, dtype=torch.float64, generator=rng(5))
    gram = matrix @ matrix.T

    def greedy(x):
        image = gram @ x
        return x.copy_(image)

    first = largest_eigenvalue(lambda x: gram @ x, (20,), generator=rng(6))
    assert largest_eigenvalue(greedy, (20,), generator=rng(6)) == first
    torch.manual_seed(6)
    torch_own = largest_eigenvalue(lambda x: gram @ x, (20,))
    assert torch_own.value == pytest.approx(first.value, rel=1e-12)


@in_one_test(
    ("apply", "kwargs", "match"),
    [
        (lambda x: x, {"steps": 0}, "steps must be at least 1, got 0"),
        (lambda x: x, {"delta": 0.0}, r"delta must be in \(0, 1\), got 0.0"),
        (lambda x: x[:2], {}, r"of shape \(5,\), got \(2,\)"),
        (lambda x: x / 0, {}, "NaN or infinity"),
        (lambda x: -x, {}, "symmetric positive semidefinite"),
        (lambda x: x.roll(1), {}, r"pass J\^T J"),
    ],
)
def test_largest_eigenvalue_raises_for_bad_input(apply, kwargs, match):
    with pytest.raises(ValueError, match=match):
        largest_eigenvalue(apply, (5,), generator=rng(), **kwargs)


def test_largest_eigenvalue_raises_for_an_empty_shape():
    with pytest.raises(ValueError, match="shape must have positive sizes"):
        largest_eigenvalue(lambda x: x, (3, 0))
