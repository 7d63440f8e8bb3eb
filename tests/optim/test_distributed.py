"""Several processes find the images and gradients of one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from deepinv.distributed import DistributedContext, distribute
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiablePhysicsError

from ..forked import exit_codes
from .distributed_cases import CASES, blurs, work


def run_processes(count: int, folder: Path) -> list[dict[str, dict[str, Tensor]]]:
    """Return what each of some processes finds, by case and name of a tensor."""
    every = [(rank, count, folder) for rank in range(count)]
    assert exit_codes(work, every) == [0] * count
    return [torch.load(folder / f"{rank}.pt") for rank in range(count)]


# Two columns of patches cannot be padded by reflection in deepinv.
@pytest.mark.filterwarnings("ignore:Padding with mode 'reflect' failed:UserWarning")
# One test, because two could run in two workers, each of which would start a server.
def test_several_processes_find_the_images_and_gradients_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The processes import the cases by their name. The path comes last, so that they
    # import the installed package.
    root = str(Path(__file__).parents[2])
    monkeypatch.setattr(sys, "path", [*sys.path, root])
    with DistributedContext(device_mode="cpu") as alone:
        for count, cases in CASES.items():
            folder = tmp_path / str(count)
            folder.mkdir()
            found = run_processes(count, folder)
            for name, case in cases.items():
                expected = case(alone)
                for rank, results in enumerate(found):
                    assert results[name].keys() == expected.keys()
                    for key, value in expected.items():
                        torch.testing.assert_close(
                            results[name][key],
                            value,
                            rtol=1e-5,
                            atol=1e-6,
                            msg=lambda text, where=(count, name, rank, key): (
                                f"{where}: {text}"
                            ),
                        )


def test_spectrum_refuses_a_distributed_physics() -> None:
    with DistributedContext(device_mode="cpu") as alone:
        physics = distribute(blurs(2), alone)
    with pytest.raises(UncertifiablePhysicsError, match=r"before .*distribute, which"):
        deq.spectrum(physics, (1, 8, 8))
