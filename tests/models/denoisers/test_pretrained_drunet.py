from __future__ import annotations

import pytest
import torch
from deepinv.models import DRUNet, drunet

from deepinv_equilibrium.models import pretrained_drunet


@pytest.mark.parametrize(("in_channels", "file"), [(1, "gray"), (3, "color")])
def test_pretrained_drunet_loads_the_weights_for_its_channels(
    monkeypatch: pytest.MonkeyPatch, in_channels: int, file: str
):
    # Names and shapes only: the initial values of a network would take a second.
    with torch.device("meta"):
        network = DRUNet(in_channels, in_channels, pretrained=None)
    weights = {k: torch.rand(v.shape) for k, v in network.state_dict().items()}
    asked = []

    def load(url: str, file_name: str, **_: object) -> dict[str, torch.Tensor]:
        asked.append(file_name)
        return weights

    monkeypatch.setattr(drunet, "load_state_dict_from_url", load)
    denoiser = pretrained_drunet(in_channels)
    assert isinstance(denoiser, DRUNet)
    assert not denoiser.training
    assert len(asked) == 1
    assert file in asked[0]
    assert torch.equal(denoiser.m_tail.weight, weights["m_tail.weight"])


def test_pretrained_drunet_raises_for_other_channels():
    with pytest.raises(ValueError, match=r"in_channels must be 1 .* got 2"):
        pretrained_drunet(2)
