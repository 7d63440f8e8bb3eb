from __future__ import annotations

import sys
from collections.abc import Iterator

import deepinv as dinv
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import deepinv_equilibrium as deq

IMAGE = (1, 4, 4)


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def solved(
    algorithm: str = "PGD", stepsize: float = 0.5
) -> tuple[deq.optim.PGD, object]:
    physics = dinv.physics.Inpainting(IMAGE, mask=0.5 + torch.rand(IMAGE) / 2)
    model = getattr(deq.optim, algorithm)(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.Tikhonov(),
        stepsize=stepsize,
        lambda_reg=0.1,
        DEQ=deq.Equilibrium(deq.Picard(max_iter=40), on_failure="ignore"),
    )
    model(physics.A(torch.rand(3, *IMAGE)), physics)
    return model, deq.certify(model, physics, IMAGE)


@pytest.mark.parametrize("algorithm", ["PGD", "ADMM"])
def test_plot_shows_residuals_below_the_envelope(algorithm: str) -> None:
    model, certificate = solved(algorithm)
    figure = certificate.plot(model.solution)
    (axes,) = figure.axes
    *residuals, envelope = [np.asarray(line.get_ydata()) for line in axes.lines]
    assert len(residuals) == 3
    factor = certificate.contraction.residual_factor.value
    expected = factor * max(r[0] for r in residuals)
    np.testing.assert_allclose(
        envelope, expected * certificate.rate.value ** np.arange(len(envelope))
    )
    for residual in residuals:
        assert not (residual > envelope * (1 + 1e-6)).any()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[0] == "observed residuals, 3 samples"
    assert labels[1].startswith("certified envelope")
    assert axes.get_yscale() == "log"


def test_plot_raises_without_a_contraction() -> None:
    model, certificate = solved(stepsize=5.0)
    with pytest.raises(
        ValueError, match="no envelope to plot: the rate is not below 1"
    ):
        certificate.plot(model.solution)


def test_plot_names_the_remedy_without_matplotlib(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, certificate = solved()
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install .*\[gallery\]"):
        certificate.plot(model.solution)
