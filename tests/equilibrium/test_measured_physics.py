"""MeasuredPhysics: cached adjoint image and implicit proximal operator."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import deepinv as dinv
import pytest
import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.equilibrium.measured_physics import (
    MeasuredPhysics,
    adjoint_image,
)

from ..one_test import in_one_test


@contextmanager
def counted(physics: LinearPhysics) -> Iterator[list[bool]]:
    log: list[bool] = []
    adjoint = physics.A_adjoint

    def logged(v: Tensor, **kwargs: Any) -> Tensor:
        log.append(torch.is_grad_enabled())
        return adjoint(v, **kwargs)

    physics.A_adjoint = logged
    yield log
    del physics.A_adjoint


def dense_prox(physics: Any, z: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
    """Return the proximal operator by a dense solve, with one gamma per sample."""
    n = z[0].numel()
    eye = torch.eye(n, dtype=z.dtype)
    A = physics.A(eye.view(n, *z.shape[1:])).flatten(1).mT
    gamma = gamma.reshape(-1, 1, 1)
    right = z.flatten(1)[..., None] + gamma * (A.mT @ y.flatten(1)[..., None])
    return torch.linalg.solve(eye + gamma * A.mT @ A, right).view_as(z)


def test_A_adjoint_of_the_measurement_is_evaluated_once(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("PGD")
    physics = problem.physics()
    with counted(physics) as log, torch.no_grad():
        measured = MeasuredPhysics(physics, problem.y).physics
        first, second = measured.A_adjoint(problem.y), measured.A_adjoint(problem.y)
        other = measured.A_adjoint(2 * problem.y)
    assert first is second
    assert len(log) == 2
    torch.testing.assert_close(other, 2 * first, rtol=1e-14, atol=1e-14)


def test_recorded_A_adjoint_is_not_shared_by_graphs(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("PGD")
    problem.y.requires_grad_()
    measured = MeasuredPhysics(problem.physics(), problem.y)
    with torch.no_grad():
        assert not measured.physics.A_adjoint(problem.y).requires_grad
    for _ in range(2):  # the second backward would fail on a shared graph
        measured.start_recording()
        value = measured.physics.A_adjoint(problem.y)
        assert value.requires_grad
        assert value is measured.physics.A_adjoint(problem.y)
        value.sum().backward()


def test_call_of_a_model_does_not_change_the_physics(
    make_problem: Callable[..., Any],
) -> None:
    physics = make_problem("PGD", closed_form=False).physics()
    before = dict(vars(physics))
    state = {key: value.clone() for key, value in physics.state_dict().items()}
    problem = make_problem("HQS", closed_form=False)
    problem.model(DEQ=deq.Equilibrium())(problem.y, physics).sum().backward()
    assert vars(physics).keys() == before.keys()
    assert all(vars(physics)[key] is value for key, value in before.items())
    for key, value in physics.state_dict().items():
        assert torch.equal(value, state[key])


def test_prox_l2_uses_the_closed_form_of_the_physics(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("PGD", closed_form=True)
    physics = problem.physics()
    measured = MeasuredPhysics(physics, problem.y)
    z = torch.randn_like(problem.y)
    found = measured.physics.prox_l2(z, problem.y, 0.5)
    torch.testing.assert_close(
        found, physics.prox_l2(z, problem.y, 0.5), rtol=1e-13, atol=1e-13
    )
    assert not measured.unfinished


@in_one_test("gamma", ["number", "scalar", "per sample", "image"])
def test_prox_l2_without_closed_form_agrees_with_a_dense_solve(
    gamma: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem("PGD", closed_form=False)
    physics = problem.physics()
    z = torch.randn_like(problem.y)
    value: Any = {
        "number": 0.7,
        "scalar": torch.tensor(0.7, dtype=torch.float64),
        "per sample": torch.tensor([0.7, 30.0], dtype=torch.float64),
        "image": torch.tensor([0.7, 30.0], dtype=torch.float64).view(2, 1, 1, 1),
    }[gamma]
    measured = MeasuredPhysics(physics, problem.y)
    found = measured.physics.prox_l2(z, problem.y, value)
    each = torch.as_tensor(value, dtype=torch.float64).reshape(-1).expand(2)
    expected = dense_prox(physics, z, problem.y, each)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_prox_l2_without_closed_form_has_all_derivatives(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("PGD", closed_form=False)
    z = torch.randn_like(problem.y)
    gamma = torch.tensor([0.7, 3.0], dtype=torch.float64)

    def prox(z: Tensor, y: Tensor, gamma: Tensor, filter_: Tensor) -> Tensor:
        physics = dinv.physics.Blur(filter=filter_, padding="circular", tol=1e-14)
        physics.update_parameters(filter=filter_)
        return MeasuredPhysics(physics, y).physics.prox_l2(z, y, gamma)

    inputs = [z, problem.y, gamma, problem.filter]
    inputs = [value.detach().requires_grad_() for value in inputs]
    torch.autograd.gradcheck(prox, inputs, fast_mode=True, atol=1e-7, rtol=1e-6)

    def exact(z: Tensor, y: Tensor, gamma: Tensor, filter_: Tensor) -> Tensor:
        physics = dinv.physics.Blur(filter=filter_, padding="circular")
        physics.update_parameters(filter=filter_)
        return dense_prox(physics, z, y, gamma)

    for f in (prox, exact):
        f.gradients = torch.autograd.grad(f(*inputs).square().sum(), inputs)
    for found, expected in zip(prox.gradients, exact.gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_prox_l2_without_closed_form_treats_samples_separately(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("PGD", closed_form=False)
    problem.y[0] *= 1e-6
    z = torch.randn_like(problem.y)
    z[0] *= 1e-6
    physics = problem.physics()
    physics.tol = 1e-3  # the first sample stops earlier
    together = MeasuredPhysics(physics, problem.y).physics.prox_l2(z, problem.y, 0.5)
    for i in range(2):
        y = problem.y[i : i + 1]
        alone = MeasuredPhysics(physics, y).physics.prox_l2(z[i : i + 1], y, 0.5)
        scale = float(alone.abs().max())
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-12 * scale)


def test_model_warns_or_raises_if_prox_l2_does_not_converge(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("HQS", closed_form=False)
    physics = problem.physics()
    physics.max_iter, physics.tol = 1, 1e-12
    model = problem.model(DEQ=deq.Equilibrium(deq.Picard(max_iter=3, rtol=0.0)))
    with pytest.warns(deq.ConvergenceWarning, match="proximal operator of the data"):
        model(problem.y, physics)
    with pytest.raises(deq.ConvergenceError, match="tol and max_iter of the physics"):
        problem.model(
            DEQ=deq.Equilibrium(deq.Picard(max_iter=3, rtol=0.0), on_failure="raise")
        )(problem.y, physics)
    quiet = deq.ReTune(1, 3, on_failure="ignore")
    problem.model(DEQ=quiet)(problem.y, physics)


def test_prox_l2_accepts_a_list_of_measurements() -> None:
    x = torch.rand(2, 1, 4, 5, dtype=torch.float64)
    mask = (torch.rand(1, 1, 4, 5) > 0.5).double()
    filter_ = torch.rand(1, 1, 3, 3, dtype=torch.float64) / 9
    physics = dinv.physics.StackedLinearPhysics(
        [
            dinv.physics.Inpainting((1, 4, 5), mask=mask),
            dinv.physics.Blur(filter=filter_, padding="circular"),
        ]
    )
    physics.max_iter, physics.tol = 100, 1e-13
    y = physics.A(x)
    measured = MeasuredPhysics(physics, y)
    z = torch.randn_like(x)
    found = measured.physics.prox_l2(z, y, 0.7)
    right = z + 0.7 * physics.A_adjoint(y)
    torch.testing.assert_close(
        found + 0.7 * physics.A_adjoint(physics.A(found)), right, rtol=1e-11, atol=1e-11
    )


def test_adjoint_image_raises_without_A_adjoint(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("PGD")
    physics = problem.physics()
    assert torch.equal(adjoint_image(physics, problem.y), physics.A_adjoint(problem.y))
    with pytest.raises(ValueError, match="Physics has no A_adjoint"):
        adjoint_image(dinv.physics.Physics(A=torch.sin), problem.y)


def test_model_gives_the_same_image_for_a_copy_of_the_physics(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("HQS", closed_form=False)
    physics = problem.physics()
    model = problem.model(DEQ=deq.Equilibrium())
    x = model(problem.y, physics)
    assert torch.equal(model(problem.y, copy.deepcopy(physics)), x)


def _prox_that_fails_in_the_backward(on_failure: str) -> Tensor:
    """Return the proximal operator at its fixed point, with one inner iteration. This
    is enough in the forward pass, and too few in the backward pass."""
    physics = dinv.physics.Blur(
        filter=torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64),
        padding="reflect",
    )
    physics.max_iter, physics.tol = 1, 1e-10
    y = torch.zeros(1, 1, 4, 6, dtype=torch.float64, requires_grad=True)
    measured = MeasuredPhysics(physics, y, on_failure)
    return measured.physics.prox_l2(torch.zeros_like(y), y, 5.0)


def test_prox_l2_warns_or_raises_if_the_backward_does_not_converge() -> None:
    weights = torch.arange(24.0, dtype=torch.float64).reshape(1, 1, 4, 6)
    image = _prox_that_fails_in_the_backward("warn")
    with pytest.warns(deq.ConvergenceWarning, match="max_iter of the physics"):
        (image * weights).sum().backward()
    image = _prox_that_fails_in_the_backward("raise")
    with pytest.raises(deq.ConvergenceError, match="proximal operator"):
        (image * weights).sum().backward()
    (_prox_that_fails_in_the_backward("ignore") * weights).sum().backward()


def test_prox_l2_warns_of_an_adjoint_that_is_not_the_transpose() -> None:
    # The adjoint of deepinv's Blur is wrong for replicate padding and one row.
    physics = dinv.physics.Blur(filter=torch.ones(1, 1, 1, 3) / 3, padding="replicate")
    y = torch.rand(1, 1, 5, 5)
    with pytest.warns(UserWarning, match="pad the kernel with zeros"):
        MeasuredPhysics(physics, y).physics.prox_l2(y, y, 0.01)
    with pytest.raises(ValueError, match="A_adjoint of Blur is not the transpose"):
        MeasuredPhysics(physics, y, "raise").physics.prox_l2(y, y, 0.01)
    physics.update(filter=torch.nn.functional.pad(physics.filter, (0, 0, 1, 1)))
    MeasuredPhysics(physics, y, "raise").physics.prox_l2(y, y, 0.01)


PADDED: dict[str, Callable[[Tensor], LinearPhysics]] = {
    "Blur": lambda k: dinv.physics.Blur(filter=k, padding="replicate"),
    "ChannelwiseBlur": lambda k: deq.physics.ChannelwiseBlur(k, "replicate"),
    "ChannelwiseBlur, circular": lambda k: deq.physics.ChannelwiseBlur(k),
    "Downsampling": lambda k: dinv.physics.Downsampling(
        (1, 4, 6), filter=k, padding="replicate"
    ),
    "Downsampling, circular": lambda k: dinv.physics.Downsampling(
        (1, 4, 6), filter=k, padding="circular"
    ),
    "BlurFFT": lambda k: dinv.physics.BlurFFT((1, 4, 6), filter=k),
    "composition": lambda k: dinv.physics.ComposedLinearPhysics(
        deq.physics.ChannelwiseBlur(k, "constant"), dinv.physics.Denoising()
    ),
}


@pytest.mark.parametrize("name", PADDED)
def test_prox_l2_has_the_gradients_in_the_filter_and_the_measurement(name: str) -> None:
    kernel = torch.rand(1, 1, 3, 3, dtype=torch.float64) / 4
    y = torch.rand_like(PADDED[name](kernel).A(torch.zeros(2, 1, 4, 6).double()))
    z = torch.randn(2, 1, 4, 6, dtype=torch.float64)

    def prox(kernel: Tensor, y: Tensor) -> Tensor:
        physics = PADDED[name](kernel.detach())
        physics.update_parameters(filter=kernel)
        physics.tol, physics.max_iter = 1e-13, 200
        measured = MeasuredPhysics(physics, y, "raise")
        with torch.no_grad():
            measured.physics.prox_l2(z, y, 3.0)
        measured.start_recording()
        return measured.physics.prox_l2(z, y, 3.0)

    inputs = (kernel.requires_grad_(), y.requires_grad_())
    torch.autograd.gradcheck(prox, inputs, fast_mode=True, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("name", PADDED)
def test_gradient_is_that_of_the_parameters_before_an_update(name: str) -> None:
    kernel = torch.rand(1, 1, 3, 3, dtype=torch.float64) / 4
    gradients = []
    for updated in (False, True):
        physics = PADDED[name](kernel)
        physics.tol, physics.max_iter = 1e-13, 200
        y = physics.A(torch.ones(2, 1, 4, 6, dtype=torch.float64)).requires_grad_()
        measured = MeasuredPhysics(physics, y)
        image = measured.physics.prox_l2(torch.zeros(2, 1, 4, 6).double(), y, 3.0)
        if updated:
            physics.update(filter=kernel.flip(-1) / 3)
        gradients.append(torch.autograd.grad(image.square().sum(), y)[0])
    assert torch.equal(*gradients)


def test_backward_raises_if_parameters_were_written_in_place() -> None:
    kernel = torch.rand(1, 1, 3, 3, dtype=torch.float64) / 4
    physics = dinv.physics.Blur(filter=kernel, padding="replicate")
    y = torch.ones(1, 1, 4, 6, dtype=torch.float64, requires_grad=True)
    image = MeasuredPhysics(physics, y).physics.prox_l2(0 * y, y, 3.0)
    kernel.data[..., 0, 0] += 0.1
    with pytest.raises(RuntimeError, match="Blur were written in place"):
        image.sum().backward()


def test_prox_l2_solves_its_equation_if_the_closed_form_is_wrong() -> None:
    z = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    physics = dinv.physics.Decolorize().double()
    physics.tol = 1e-13
    y = physics.A(torch.randn_like(z))
    found = MeasuredPhysics(physics, y).physics.prox_l2(z, y, torch.tensor(2.0))
    torch.testing.assert_close(
        found + 2 * physics.A_adjoint_A(found), z + 2 * physics.A_adjoint(y)
    )


def test_prox_l2_works_without_the_filter_that_its_closed_form_needs() -> None:
    physics = dinv.physics.Downsampling((1, 4, 4), filter=None)
    y = torch.ones(1, 1, 2, 2)
    x = MeasuredPhysics(physics, y).physics.prox_l2(torch.zeros(1, 1, 4, 4), y, 1.0)
    torch.testing.assert_close(x, physics.A_adjoint(y) / 2)


@pytest.mark.parametrize("name", PADDED)
def test_prox_l2_has_the_precision_of_the_measurement_under_autocast(name: str) -> None:
    physics = PADDED[name](torch.rand(1, 1, 3, 3) / 4)
    y = physics.A(torch.rand(2, 1, 4, 6))
    z = torch.randn(2, 1, 4, 6).bfloat16()
    expected = MeasuredPhysics(physics, y).physics.prox_l2(z.float(), y, 3.0)
    with torch.autocast("cpu", torch.bfloat16):
        measured = MeasuredPhysics(physics, y).physics
        measured.A_adjoint(y)
        found = measured.prox_l2(z, y, 3.0)
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, expected)
