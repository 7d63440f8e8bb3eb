"""The contracts that deepinv_equilibrium relies on, and the names."""

from __future__ import annotations

import deepinv as dinv
import pytest
from deq_plugin_example import BarzilaiBorwein, RateCorrected, WienerDenoiser

import deepinv_equilibrium as deq
from deepinv_equilibrium import testing

DENOISERS = [WienerDenoiser(), WienerDenoiser(contraction=0.9, correlation=3.0)]


@pytest.mark.parametrize("denoiser", DENOISERS, ids=["firm", "contraction"])
@pytest.mark.parametrize("contract", testing.denoiser_contracts().values())
def test_denoiser_keeps_to_its_declarations(contract, denoiser) -> None:
    contract(denoiser, img_size=(1, 5, 6), sigma=0.5)


@pytest.mark.parametrize("denoiser", DENOISERS, ids=["firm", "contraction"])
def test_declarations_are_found(denoiser) -> None:
    # A contract for a declaration that is not found, because of a misspelt name, say,
    # does not apply, and does not fail.
    held = testing.check_denoiser(denoiser, img_size=(1, 5, 6), sigma=0.5).held
    assert "respects_its_lipschitz_bound" in held
    assert "is_firmly_nonexpansive_as_declared" in held


@pytest.mark.parametrize("contract", testing.solver_contracts().values())
def test_solver(contract) -> None:
    contract(BarzilaiBorwein())


def test_adjoint_has_the_gradient_that_it_declares() -> None:
    testing.check_adjoint(RateCorrected(0.5), formula=lambda jacobian, c: 2 * c)


def test_names_make_a_model_that_is_proved_to_contract() -> None:
    model = deq.plugins.create(
        "reconstructors",
        "certified-deq-pgd",
        denoiser="wiener",
        contraction=0.9,
        solver="barzilai-borwein",
        adjoint=deq.plugins.create("adjoints", "rate-corrected", rate=0.5),
    )
    physics = dinv.physics.Denoising()
    assert deq.certify(model, physics, img_size=(1, 8, 8)).contracts
