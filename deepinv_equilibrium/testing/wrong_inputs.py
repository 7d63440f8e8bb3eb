"""Wrong inputs of a model."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import torch
from deepinv.models import Reconstructor
from deepinv.physics import LinearPhysics
from torch import Tensor

from .contracts import require


def require_refusals(model: Reconstructor, y: Tensor, physics: LinearPhysics) -> None:
    r"""
    Raise an error unless a model refuses wrong inputs with an error that names them.

    :param deepinv.models.Reconstructor model: the model.
    :param torch.Tensor y: a valid measurement, from which wrong ones are made.
    :param deepinv.physics.LinearPhysics physics: its physics.
    :raises AssertionError: if an input is accepted, or the error is not a TypeError or
        a ValueError, or does not name the argument.
    """
    wrong: dict[str, tuple[str, Callable[[], Any]]] = {
        "y = None": ("y", lambda: model(None, physics)),
        "y as an array of numpy": ("y", lambda: model(y.cpu().numpy(), physics)),
        "y in uint8": ("y", lambda: model(y.to(torch.uint8), physics)),
        "y without a batch axis": ("y", lambda: model(y[0], physics)),
        "y and physics exchanged": ("physics|y", lambda: model(physics, y)),
        "an unknown argument": ("max_itr", lambda: model(y, physics, max_itr=3)),
    }
    known = inspect.signature(type(model).forward).parameters
    if "physics" in known and known["physics"].default is inspect.Parameter.empty:
        wrong["physics = None"] = ("physics", lambda: model(y, None))
    if not _measures(physics, y[..., :-1]):
        wrong["y without a column"] = ("y", lambda: model(y[..., :-1], physics))
    for what, (argument, call) in wrong.items():
        try:
            with torch.no_grad():
                call()
        except (TypeError, ValueError) as error:
            require(
                re.search(rf"\b({argument})\b", str(error)),
                f"{what} raises an error that does not name {argument}: {error}",
            )
        except Exception as error:
            raise AssertionError(
                f"{what} raises {type(error).__name__} ({error}), not a TypeError or a "
                "ValueError"
            ) from error
        else:
            raise AssertionError(f"{what} is accepted")


def _measures(physics: LinearPhysics, y: Tensor) -> bool:
    """Whether a physics takes images of any size, e.g. for denoising."""
    try:
        with torch.no_grad():
            return physics.A(physics.A_adjoint(y)).shape == y.shape
    except Exception:  # noqa: BLE001, a physics may raise anything
        return False
