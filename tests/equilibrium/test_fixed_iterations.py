"""A frozen model with a fixed number of iterations, and its export."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.equilibrium import FixedIterations

IMAGE = (1, 8, 8)


def build(kind: str = "PGD", layers: int = 2) -> Any:
    network = deq.models.SmallDRUNet(1)
    prior = deq.optim.RED(network) if kind == "GD" else dinv.optim.PnP(network)
    return getattr(deq.optim, kind)(
        data_fidelity=dinv.optim.L2(),
        prior=prior,
        stepsize=0.7,
        lambda_reg=0.5,
        sigma_denoiser=0.05,
        DEQ=deq.ReTune(layers, 3),
    ).eval()


def problem() -> tuple[Any, torch.Tensor]:
    physics = dinv.physics.BlurFFT(IMAGE, filter=torch.full((1, 1, 3, 3), 1 / 9))
    return physics, physics(torch.rand(2, *IMAGE))


@pytest.mark.parametrize("kind", ["PGD", "GD", "FISTA", "HQS", "DRS", "ADMM"])
def test_it_makes_the_iterations_of_the_model(kind: str) -> None:
    model, (physics, y) = build(kind), problem()
    frozen = FixedIterations(model, physics, 3)
    torch.testing.assert_close(frozen(y), model(y, physics).detach())
    assert not frozen(y).requires_grad
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("kind", ["PGD", "GD", "FISTA"])
def test_the_exported_program_computes_the_same(kind: str, tmp_path: Path) -> None:
    model, (physics, y) = build(kind, layers=1), problem()
    frozen = FixedIterations(model, physics, 2)
    with torch.no_grad():
        program = torch.export.export(frozen, (y,))
    torch.export.save(program, tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    for other in (y, torch.rand_like(y)):
        torch.testing.assert_close(loaded(other), frozen(other))


def test_the_exported_program_needs_torch_only(tmp_path: Path) -> None:
    model, (physics, y) = build(layers=1), problem()
    frozen = FixedIterations(model, physics, 2)
    with torch.no_grad():
        torch.export.save(torch.export.export(frozen, (y,)), tmp_path / "model.pt2")
    torch.save(y, tmp_path / "y.pt")
    program = (
        "import sys, torch\n"
        "module = torch.export.load('model.pt2').module()\n"
        "torch.save(module(torch.load('y.pt')), 'x.pt')\n"
        "print('deepinv' in sys.modules)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "False\n"
    torch.testing.assert_close(torch.load(tmp_path / "x.pt"), frozen(y))


def test_later_changes_of_the_model_change_nothing() -> None:
    model, (physics, y) = build(), problem()
    frozen = FixedIterations(model, physics, 3)
    before = frozen(y)
    for parameter in model.parameters():
        parameter.data.mul_(2.0)
    physics.update_parameters(filter=torch.full((1, 1, 3, 3), 0.2))
    assert torch.equal(frozen(y), before)


def test_wrong_arguments_are_refused() -> None:
    physics, _ = problem()
    with pytest.raises(TypeError, match="model"):
        FixedIterations(torch.nn.Identity(), physics, 3)
    with pytest.raises(ValueError, match="iterations"):
        FixedIterations(build(), physics, 0)
