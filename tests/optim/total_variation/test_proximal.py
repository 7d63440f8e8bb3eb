from __future__ import annotations

import gc
import math
import warnings

import deepinv as dinv
import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.fixed_points import ConvergenceError, ConvergenceWarning
from deepinv_equilibrium.optim.total_variation import TVNorm, weighted_tv_prox

from ...one_test import in_one_test
from .weightings import NORMS, PLANE, VOLUME, random_images, random_weight


def test_prox_records_no_graph_without_gradients():
    v = random_images(0, PLANE)
    assert not weighted_tv_prox(v, 0.1).x.requires_grad
    with torch.no_grad():
        assert not weighted_tv_prox(v.requires_grad_(), 0.1).x.requires_grad
    found = weighted_tv_prox(v, 0.1)
    assert found.x.requires_grad
    assert not found.dual.requires_grad


def test_prox_is_equal_with_and_without_gradients():
    v, weight = random_images(0, VOLUME), random_weight(1, VOLUME)
    tracked = weighted_tv_prox(v.clone().requires_grad_(), weight).x
    assert torch.equal(tracked, weighted_tv_prox(v, weight).x)


def test_backward_releases_all_tensors():
    def live() -> int:
        return sum(isinstance(o, Tensor) for o in gc.get_objects())

    v, counts = random_images(0, PLANE).requires_grad_(), []
    gc.collect()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of objects that gc inspects
            for _ in range(6):
                v.grad = None
                weighted_tv_prox(v, 0.1).x.square().sum().backward()
                counts.append(live())
    finally:
        gc.enable()
    assert len(set(counts[1:])) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_prox_agrees_with_deepinv(channels: int):
    v = 0.3 * random_images(0, (1, channels, 8, 7))
    theirs = dinv.models.TVDenoiser(n_it_max=2000, crit=0.0)(v, 0.1)
    ours = weighted_tv_prox(v, 0.1, tol=1e-12).x
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_prox_warns_or_raises_after_too_few_iterations():
    v = random_images(0, PLANE)
    with pytest.warns(
        ConvergenceWarning, match=r"total variation.*0\.0001: all samples"
    ):
        weighted_tv_prox(v, 0.1, max_iter=1)
    with pytest.raises(ConvergenceError) as error:
        weighted_tv_prox(v, 0.1, max_iter=1, on_failure="raise")
    assert error.value.solution.iterations.tolist() == [1, 1]
    assert not weighted_tv_prox(v, 0.1, max_iter=1, on_failure="ignore").converged.any()


@in_one_test(
    ("options", "message"),
    [
        ({"norm": "l1"}, "norm must be one of"),
        ({"tol": 1.0}, r"tol must be in \[0, 1\), got 1.0"),
        ({"tol": -1e-3}, r"tol must be in \[0, 1\)"),
        ({"tol": math.nan}, r"tol must be in \[0, 1\)"),
        ({"max_iter": -1}, "max_iter must be an integer >= 0, got -1"),
        ({"max_iter": 1.5}, "max_iter must be an integer"),
        ({"on_failure": "stop"}, "on_failure must be one of"),
        ({"dual": torch.zeros(2, 2, 2, 2, 2)}, r"dual must be that of an earlier"),
        ({"dual": torch.zeros(2, 2, 2, 2, 3)}, r"got .* and torch.float32"),
        ({"weight": -0.1}, "weight must be nonnegative"),
        ({"v": torch.zeros(2, 2)}, r"v must have shape \(B, C, H, W\)"),
    ],
)
def test_prox_refuses_arguments_out_of_range(options: dict, message: str):
    given_input = {"v": random_images(0, PLANE), "weight": 0.1} | options
    with pytest.raises(ValueError, match=message):
        weighted_tv_prox(**given_input)


def test_prox_refuses_integer_images():
    with pytest.raises(TypeError, match="floating-point or complex dtype"):
        weighted_tv_prox(torch.zeros(1, 1, 2, 2, dtype=torch.long), 0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("norm", NORMS)
def test_prox_runs_on_a_gpu(norm: TVNorm):
    v, weight = random_images(0, VOLUME), random_weight(1, VOLUME)
    here = weighted_tv_prox(v, weight, norm, 1e-10)
    there = weighted_tv_prox(v.cuda(), weight, norm, 1e-10)
    assert there.x.is_cuda
    assert there.dual.is_cuda
    torch.testing.assert_close(there.x.cpu(), here.x)
    leaf = v.cuda().requires_grad_()
    weighted_tv_prox(leaf, weight.cuda(), norm, 1e-10).x.square().sum().backward()
    again = v.clone().requires_grad_()
    weighted_tv_prox(again, weight, norm, 1e-10).x.square().sum().backward()
    torch.testing.assert_close(leaf.grad.cpu(), again.grad, rtol=1e-5, atol=1e-5)
