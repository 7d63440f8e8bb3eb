"""Certificates of models whose state is not the image."""

from __future__ import annotations

import deepinv as dinv
import matplotlib.pyplot as plt
import pytest
import torch

import deepinv_equilibrium as deq


def test_certificate_of_a_model_whose_state_is_not_the_image() -> None:
    torch.manual_seed(0)
    size, physics = (1, 16, 16), dinv.physics.Denoising()
    model = deq.plugins.create(
        "reconstructors", "wavelet", channels=1, levels=2, DEQ=deq.ReTune(2, 4)
    )
    certificate = deq.certify(model, physics, size)
    y = torch.rand(2, *size)
    model(y, physics)
    figure = certificate.plot(model.solution)
    assert len(figure.axes[0].lines) == 3
    plt.close(figure)
    loss = deq.certificates.SquaredError(y)
    for ask in (
        lambda: certificate.gradient_error(model, y, physics, loss),
        lambda: certificate.plan(model, y, physics, loss, tol=0.1),
    ):
        with pytest.raises(ValueError, match="the image is an output of its step"):
            ask()
    model(y[..., :12], physics)
    with pytest.raises(ValueError, match=r"of size \(1, 16, 16\), got \(1, 16, 12\)"):
        certificate.plot(model.solution)


def test_check_raises_after_the_number_of_layers_changed() -> None:
    physics = dinv.physics.Denoising()
    model = deq.plugins.create(
        "reconstructors", "wavelet", channels=1, levels=2, DEQ=deq.ReTune(2, 4)
    )
    certificate = deq.certify(model, physics, (1, 8, 8))
    model.DEQ = deq.ReTune(3, 4)
    with pytest.raises(ValueError, match=r"model\.DEQ\.layers changed"):
        certificate.check(model, physics)
