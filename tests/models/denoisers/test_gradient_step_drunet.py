from __future__ import annotations

import importlib

import pytest
import torch
from deepinv.models import GSDRUNet
from deepinv.models.GSPnP import GSPnP

from deepinv_equilibrium.models import gradient_step_drunet


@pytest.mark.parametrize(("in_channels", "grey"), [(1, True), (3, False)])
def test_gradient_step_drunet_loads_the_weights_for_its_channels(
    monkeypatch: pytest.MonkeyPatch, in_channels: int, grey: bool
) -> None:
    # Names and shapes only: the initial values of a network would take a second.
    with torch.device("meta"):
        network = GSDRUNet(
            in_channels=in_channels, out_channels=in_channels, device=None
        )
    weights = {k: torch.rand(v.shape) for k, v in network.state_dict().items()}
    asked = []

    def load(url: str, file_name: str, **_: object) -> dict[str, object]:
        asked.append(file_name)
        return {"state_dict": weights}

    module = importlib.import_module("deepinv.models.GSPnP")
    monkeypatch.setattr(module, "load_state_dict_from_url", load)
    denoiser = gradient_step_drunet(in_channels)
    assert isinstance(denoiser, GSPnP)
    assert not denoiser.training
    assert not denoiser.detach
    assert len(asked) == 1
    assert ("grayscale" in asked[0]) == grey
    for name, value in denoiser.state_dict().items():
        assert torch.equal(value, weights[name])


def test_gradient_step_drunet_raises_for_other_channels() -> None:
    with pytest.raises(ValueError, match=r"in_channels must be 1 .* got 2"):
        gradient_step_drunet(2)
