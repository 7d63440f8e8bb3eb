from __future__ import annotations

from typing import Any

import pytest
import torch

from deepinv_equilibrium import Status

from .gallery_page import run_page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page with a small photo."""
    folder = tmp_path_factory.mktemp("fixed_points")
    return run_page("ideas/fixed_points", folder, SIZE=24)


@pytest.mark.parametrize("solver", ["Picard", "relaxed"])
def test_solver_converges_where_the_eigenvalues_say_so(
    page: dict[str, Any], solver: str
) -> None:
    weight = 1.0 if solver == "Picard" else 0.5
    for k, (name, jacobian) in enumerate(page["steps"].items()):
        eigenvalues = 1 - weight + weight * torch.linalg.eigvals(jacobian)
        radius = float(eigenvalues.abs().max())
        status = page["reports"][solver].status[k]
        if name == "rotation" and solver == "Picard":
            assert radius == pytest.approx(1)
            assert status is Status.MAX_ITER
        else:
            assert status is (Status.CONVERGED if radius < 1 else Status.DIVERGED)


def test_anderson_finds_every_fixed_point_of_a_linear_step(
    page: dict[str, Any],
) -> None:
    report = page["reports"]["Anderson"]
    assert bool(report.converged.all())
    assert report.iterations.tolist() == [4] * 4
    assert float(report.x.abs().max()) < 1e-10


def test_page_prints_the_status_of_each_step_and_solver(page: dict[str, Any]) -> None:
    lines = page["printed"].splitlines()
    for k, name in enumerate(page["steps"]):
        line = next(line for line in lines if line.startswith(name))
        words = [report.status[k].name for report in page["reports"].values()]
        assert [word for word in line.split() if word in Status.__members__] == words


def test_only_the_corners_attract_the_plain_iteration(page: dict[str, Any]) -> None:
    grid = torch.cartesian_prod(*[torch.tensor([-0.8584, 0.0, 0.8584])] * 2).double()
    torch.testing.assert_close(page["tanh_step"](grid), grid, atol=3e-4, rtol=0)
    assert bool((page["limits"]["Picard"].abs().sum(dim=1) == 2).all())
    reached = page["limits"]["Anderson"].abs().sum(dim=1)
    assert not bool((reached == 2).all())


def test_long_step_diverges_and_both_remedies_help(page: dict[str, Any]) -> None:
    status = {key: report.status[0] for key, report in page["histories"].items()}
    failed = [key for key, value in status.items() if value is not Status.CONVERGED]
    assert failed == [(3.0, "Picard")]
    assert status[3.0, "Picard"] is Status.DIVERGED
    for tau in (1.0, 3.0):
        iterations = {
            name: int(page["histories"][tau, name].iterations[0])
            for name in ("relaxed", "Anderson")
        }
        assert iterations["Anderson"] < iterations["relaxed"]
