"""What a random program may end with: a right answer, or an error of this package."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

import deepinv_equilibrium as deq

PACKAGE = str(Path(deq.__file__).parent)
NAMED = (TypeError, ValueError, NotImplementedError, RuntimeError, AttributeError)


class WrongAnswerError(AssertionError):
    """A program ended with a wrong answer."""


def require(condition: bool, text: str) -> None:
    if not condition:
        raise WrongAnswerError(text)


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Raise unless a result is right, relative to the largest entry of its sample."""
    require(found.shape == expected.shape, f"shape {found.shape}, not {expected.shape}")
    require(found.dtype == expected.dtype, f"dtype {found.dtype}, not {expected.dtype}")
    if not found.numel():
        return
    scale = float(expected.abs().max()) + 1e-3
    gap = float((found - expected).abs().max())
    require(gap <= tolerance * scale, f"off by {gap:.1e} of {scale:.1e}")


def run(program: Callable[[], str], outcomes: Counter[str]) -> None:
    """Run a program and count how it ends. An error is named if this package raises it,
    not torch or deepinv on its behalf."""
    try:
        outcomes[program()] += 1
    except WrongAnswerError:
        raise
    except NAMED as error:
        outcomes[f"{type(error).__name__} in {raised_in(error)}"] += 1


def raised_in(error: Exception) -> str:
    """Return the module of this package that raised an error; raise the error again if
    there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames[-1].filename.startswith(PACKAGE):
        raise error
    return Path(frames[-1].filename).name
