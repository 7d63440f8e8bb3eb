"""Several processes make the training of one, also after they were killed."""

from __future__ import annotations

import pickle
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ..forked import exit_codes
from .training_process import example, work


def run(count: int, checkpoint: Path, kill: int = 0) -> dict[str, Any] | None:
    """Train with some processes, and return what the checkpoint holds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--checkpoint", str(checkpoint)]
    every = [(rank, count, port, arguments, kill) for rank in range(count)]
    assert exit_codes(work, every) == [3 if kill else 0] * count
    return torch.load(checkpoint, weights_only=True)


def weights(state: dict[str, Any]) -> dict[str, Tensor]:
    return {k: v for k, v in state["model"].items() if isinstance(v, Tensor)}


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Adam divides by the size of a gradient, so that rounding can move a weight whose
    gradient is near 0 by a part of the learning rate, 2e-5."""
    assert found["step"] == expected["step"]
    for name, value in weights(expected).items():
        torch.testing.assert_close(
            weights(found)[name], value, rtol=1e-5, atol=5e-6, msg=name
        )


# One test, because two could run in two workers, each of which would start a server.
def test_any_number_of_processes_makes_the_same_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(Path(__file__).parents[2])
    monkeypatch.setattr(sys, "path", [*sys.path, root])
    alone = run(1, tmp_path / "1.pt")
    same(run(2, tmp_path / "2.pt"), alone)
    # Two processes are killed after the first step, and four go on.
    run(2, tmp_path / "4.pt", kill=1)
    same(run(4, tmp_path / "4.pt"), alone)
    assert not [*tmp_path.glob("*.new")]


class Part:
    """Something with a state, which counts how often it was loaded."""

    loaded = 0

    def load_state_dict(self, state: Any) -> None:
        self.loaded += 1


class Payload:
    """A pickle that would run code."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize("content", ["truncated", "foreign", "payload", "tensor"])
def test_a_checkpoint_that_is_not_one_is_refused(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": torch.rand(100), "step": 3}, path)
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif content == "payload":
        torch.save({"model": Payload(), "step": 3}, path)
    elif content == "tensor":
        torch.save({"weights": torch.rand(3)}, path)
    part = Part()
    parts = {"model": part, "optimizer": part}
    with pytest.raises((ValueError, RuntimeError, pickle.UnpicklingError)):
        example().load(path, parts, torch.device("cpu"))
    assert part.loaded == 0
    assert not (tmp_path / "executed").exists()


def test_a_full_disk_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, path = example(), tmp_path / "checkpoint.pt"
    script.save(path, {"step": 1})

    def fail(state: Any, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    script.save(path, {"step": 2})
    assert "No space left on device" in capsys.readouterr().err
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [*tmp_path.iterdir()] == [path]
