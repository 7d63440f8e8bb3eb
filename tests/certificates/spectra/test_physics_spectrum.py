import threading

import pytest
import torch
from deepinv.physics import (
    Blur,
    DecomposablePhysics,
    Denoising,
    Haze,
    Inpainting,
    LinearPhysics,
    NoiseModel,
)

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import (
    Bound,
    Interval,
    Kind,
    UncertifiablePhysicsError,
    register_spectrum_rule,
    spectrum,
)
from deepinv_equilibrium.certificates.spectra import physics_spectrum as registry

from ...one_test import in_one_test
from ..dense_spectrum import check, dense_spectrum


def two(source="two"):
    return Interval(Bound(4, source=source, is_lower=True), Bound(4, source=source))


def twice():
    return LinearPhysics(A=lambda x, **_: 2 * x, A_adjoint=lambda y, **_: 2 * y)


def test_spectrum_of_closures_has_an_estimated_upper_and_a_certified_lower_bound():
    interval = deq.spectrum(twice(), (1, 6, 5))
    assert interval.lower.value == 0
    assert interval.lower.is_certified
    assert interval.upper.kind is Kind.ESTIMATED
    assert interval.upper.delta == 1e-3
    assert "30 unknowns" in interval.upper.source
    assert "certified" not in str(interval.upper)
    assert 4 <= interval.upper.value <= 4.05
    assert interval == deq.spectrum(twice(), (1, 6, 5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spectrum_of_closures_over_tensors_of_either_precision(dtype):
    weight = torch.randn(9, 20, dtype=dtype, generator=torch.Generator())
    physics = LinearPhysics(
        A=lambda x, **_: x.flatten(1) @ weight.T,
        A_adjoint=lambda y, **_: (y @ weight).reshape(-1, 1, 4, 5),
    )
    truth = float(torch.linalg.matrix_norm(weight.double(), 2)) ** 2
    assert truth <= spectrum(physics, (1, 4, 5)).upper.value <= 1.05 * truth


def test_spectrum_does_not_change_the_physics_or_use_its_noise():
    weight = torch.rand(1, 1, 3, 3, requires_grad=True)
    physics = Blur(weight, "circular")
    physics.set_noise_model(NoiseModel(lambda x: 1 / 0))
    interval = spectrum(physics, (1, 5, 5))
    assert physics.filter is weight
    double = Blur(weight.detach().double(), "circular")
    check(interval, dense_spectrum(double, (1, 1, 5, 5)), 1 + 1e-9)


@in_one_test(
    ("physics", "size", "error", "match"),
    [
        (Haze(), (1, 4, 4), TypeError, "LinearPhysics, got a Haze"),
        (Denoising(), (1, 0, 4), ValueError, "img_size must hold positive integers"),
        (Denoising(), (), ValueError, "img_size must hold positive integers"),
        (Denoising(), 32, TypeError, r"img_size must be a tuple \(C, H, W\).*got 32"),
        (Blur(), (1, 4, 4), UncertifiablePhysicsError, "self.filter is None"),
        (
            Inpainting(img_size=(1, 4, 4), mask=torch.ones(1, 4, 4)),
            (1, 5, 4),
            UncertifiablePhysicsError,
            r"fails on an image of shape \(1, 1, 5, 4\)",
        ),
    ],
)
def test_spectrum_raises_for_bad_input(physics, size, error, match):
    with pytest.raises(error, match=match):
        spectrum(physics, size)


class Twice(LinearPhysics):
    def A(self, x, **kwargs):
        return 2 * x

    def A_adjoint(self, y, **kwargs):
        return 2 * y


class DeclaredTwice(Twice):
    def spectrum(self, img_size):
        return two("declared")


class Thrice(DeclaredTwice):
    def A(self, x, **kwargs):
        return 3 * x

    def A_adjoint(self, y, **kwargs):
        return 3 * y


def test_subclass_that_overrides_the_operator_loses_the_declared_spectrum():
    assert spectrum(DeclaredTwice(), (1, 3, 3)) == two("declared")
    assert spectrum(Thrice(), (1, 3, 3)).upper.kind is Kind.ESTIMATED
    assert spectrum(Thrice(), (1, 3, 3)).upper.value >= 9


def test_subclass_inherits_the_rule_unless_it_changes_the_operator(monkeypatch):
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))

    @register_spectrum_rule(Twice)
    def rule(physics, img_size):
        return two("rule")

    class Harmless(Twice):
        def __init__(self):
            super().__init__()

        def prox_l2(self, z, y, gamma, **kwargs):
            raise NotImplementedError

    class Changed(Twice):
        def A_adjoint_A(self, x, **kwargs):
            return 5 * x

    assert spectrum(Twice(), (1, 3, 3)) == two("rule")
    assert spectrum(Harmless(), (1, 3, 3)) == two("rule")
    assert spectrum(Changed(), (1, 3, 3)).upper.kind is Kind.ESTIMATED
    replaced = Twice()
    replaced.A = lambda x, **_: 3 * x
    replaced.A_adjoint = lambda y, **_: 3 * y
    assert spectrum(replaced, (1, 3, 3)).upper.value >= 9
    register_spectrum_rule(Twice)(lambda physics, img_size: None)
    assert spectrum(Twice(), (1, 3, 3)).upper.kind is Kind.ESTIMATED
    register_spectrum_rule(Twice)(lambda physics, img_size: 4.0)
    with pytest.raises(TypeError, match="must be given as an Interval"):
        spectrum(Twice(), (1, 3, 3))


def test_register_spectrum_rule_raises_for_nonlinear_physics():
    with pytest.raises(TypeError, match="types of LinearPhysics"):
        register_spectrum_rule(Haze)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_spectrum_on_cuda_agrees_with_the_cpu():
    for padding in ("circular", "replicate"):
        k = torch.rand(1, 1, 3, 3)
        there = spectrum(Blur(k.cuda(), padding, device="cuda"), (1, 8, 8))
        here = spectrum(Blur(k, padding), (1, 8, 8))
        assert there.upper.value == pytest.approx(here.upper.value, rel=2e-3)


@pytest.mark.parametrize("error", [KeyError, ZeroDivisionError, AttributeError])
def test_spectrum_names_the_physics_whose_operator_raises(error):
    class Broken(LinearPhysics):
        def A(self, x, **kwargs):
            raise error("broken")

    with pytest.raises(UncertifiablePhysicsError, match=r"Broken.*broken"):
        deq.spectrum(Broken(), (1, 4, 4))


def test_spectrum_names_the_physics_that_cannot_be_copied():
    physics = Denoising()
    physics.lock = threading.Lock()
    with pytest.raises(
        UncertifiablePhysicsError, match=r"Denoising .* cannot be copied"
    ):
        deq.spectrum(physics, (1, 4, 4))


def test_spectrum_raises_for_a_complex_adjoint():
    physics = LinearPhysics(A=lambda x: 1j * x, A_adjoint=lambda y: -1j * y)
    with pytest.raises(UncertifiablePhysicsError, match="complex"):
        deq.spectrum(physics, (1, 4, 4))


def test_spectrum_is_estimated_after_a_method_is_replaced_on_the_instance():
    physics = DecomposablePhysics(mask=torch.ones(1, 4, 4))
    assert deq.spectrum(physics, (1, 4, 4)).kind is Kind.CERTIFIED
    physics.V = lambda x: 3 * x
    physics.V_adjoint = lambda x: 3 * x
    upper = deq.spectrum(physics, (1, 4, 4)).upper
    assert upper.kind is Kind.ESTIMATED
    assert upper.value >= 9


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_spectrum_raises_for_a_physics_that_contradicts_its_rule(factor):
    class WronglyDeclared(LinearPhysics):
        def A(self, x, **kwargs):
            return factor * x

        def A_adjoint(self, y, **kwargs):
            return factor * y

        def spectrum(self, img_size):
            one = Bound(1, source="one", is_lower=True)
            return Interval(one, Bound(1, source="one"))

    with pytest.raises(UncertifiablePhysicsError, match="rule for its spectrum says"):
        spectrum(WronglyDeclared(), (1, 3, 3))


def test_estimate_covers_a_gram_operator_that_differs_from_its_products():
    class Changed(Twice):
        def A_adjoint_A(self, x, **kwargs):
            return 9 * x

    assert spectrum(Changed(), (1, 3, 3)).upper.value >= 9
    physics = DecomposablePhysics(U=lambda x: 3 * x, U_adjoint=lambda y: 3 * y)
    assert spectrum(physics, (1, 3, 3)).upper.value >= 9
