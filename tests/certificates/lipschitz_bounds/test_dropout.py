from __future__ import annotations

import pytest
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModuleError


@pytest.mark.parametrize(
    "layer", [nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout(), nn.FeatureAlphaDropout()]
)
def test_dropout_is_the_identity_in_eval_and_refused_in_train(layer: nn.Module) -> None:
    with pytest.raises(UncertifiableModuleError, match="random"):
        deq.lipschitz(layer)
    assert deq.lipschitz(layer.eval()).value == 1


def test_nothing_is_dropped_with_probability_zero() -> None:
    assert deq.lipschitz(nn.Dropout(0.0)).value == 1
