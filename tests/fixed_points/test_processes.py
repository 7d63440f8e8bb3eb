"""One process that evaluates a step; several are in tests/optim/test_distributed.py."""

from __future__ import annotations

import torch

from deepinv_equilibrium.fixed_points import ALONE


def test_methods_return_their_arguments_for_one_process() -> None:
    tensor = torch.ones(2, requires_grad=True)
    assert not ALONE.cooperate
    assert ALONE.average(tensor) is tensor
    assert ALONE.agree(tensor) is tensor
    assert ALONE.any(True, tensor.device)
    assert not ALONE.any(False, tensor.device)
    (shared,) = ALONE.share([tensor])
    assert shared is tensor
    (value,) = ALONE.anchor([tensor], [shared])
    assert value is tensor
