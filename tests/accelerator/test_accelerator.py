"""Everything that has a name computes on an accelerator what it computes on the CPU.

``pytest tests/accelerator --accelerator cuda`` takes a real device in place of the
pretended one; the reads by the host are then not counted.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any
from unittest import mock

import deepinv as dinv
import pytest
import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium import plugins
from deepinv_equilibrium.fixed_points import failures, late_numbers
from deepinv_equilibrium.fixed_points.solvers.linear_solver import LinearMonitor
from deepinv_equilibrium.fixed_points.solvers.monitor import Monitor
from deepinv_equilibrium.fixed_points.step import PackedStep

from ..testing.named_components import (
    DOWNLOADED,
    SmoothDenoiser,
    blur,
    create,
    model_arguments,
)
from ..testing.test_physics_suite import ARGUMENTS as PHYSICS
from ..testing.test_physics_suite import SIZES
from ..testing.test_prior_suite import DECLARED as PRIORS
from ..testing.test_prior_suite import arguments as prior_arguments
from . import pretended

IMAGE = (3, 16, 16)
# Before a solve models look whether the measurement is finite and the operator is the
# one whose norm they know. Descents look at each step whether the objective falls, and
# the adaptation of a model makes a solve with each new operator.
FURTHER_READS = {"deq-md": 1000, "gradient-step-pgd": 1000, "reuse-and-regularise": 12}


class Accelerator:
    """A device, and what the host has read of it and asked of it since it was told to
    forget."""

    def __init__(self, device: torch.device, reads: Any):
        self.device = device
        self.reads = reads
        self.evaluations = self.solves = 0

    def moved(self, component: Any) -> Any:
        return copy.deepcopy(component).to(self.device)

    def forget(self) -> None:
        self.evaluations = self.solves = 0
        if self.reads is not None:
            self.reads.lines.clear()

    def require_few_reads(self, further: int = 0) -> None:
        """Raise unless the host has read as seldom as solves may."""
        if self.reads is not None:
            most = self.evaluations / 4 + 3 * self.solves + further
            assert self.reads.count <= most, self.reads.lines.most_common()

    def counting(self, kind: type, method: str, attribute: str) -> Any:
        """Return a patch that counts the calls of a method."""
        original = getattr(kind, method)

        def counted(*args: Any, **kwargs: Any) -> Any:
            setattr(self, attribute, getattr(self, attribute) + 1)
            return original(*args, **kwargs)

        return mock.patch.object(kind, method, counted)


@pytest.fixture
def accelerator(request: pytest.FixtureRequest) -> Iterator[Accelerator]:
    name = request.config.getoption("accelerator")
    there = nullcontext() if name else pretended.pretended_accelerator()
    with there as reads:
        found = Accelerator(torch.device(name or pretended.DEVICE), reads)
        with (
            found.counting(PackedStep, "_evaluate_packed", "evaluations"),
            found.counting(LinearMonitor, "count", "evaluations"),
            found.counting(Monitor, "__init__", "solves"),
            found.counting(LinearMonitor, "__init__", "solves"),
        ):
            yield found


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(
        found.detach().cpu(), expected.detach(), rtol=1e-3, atol=1e-4
    )


def gradients(module: nn.Module) -> list[Tensor]:
    return [p.grad for p in module.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", plugins.names("reconstructors"))
def test_named_model_gives_what_it_gives_on_the_cpu(
    name: str, accelerator: Accelerator
) -> None:
    with torch.device("cpu"):
        arguments = model_arguments(IMAGE)
        if name in ("deq-md", "gradient-step-pgd"):
            arguments[name] |= {"max_iter": 4, "adjoint": deq.Implicit()}
        if name == "wavelet":
            arguments[name] |= {"DEQ": deq.ReTune(2, 2)}
        model = create("reconstructors", name, arguments)
        noise = dinv.physics.PoissonNoise(0.05) if name == "deq-md" else None
        physics = blur(IMAGE, noise)
        torch.manual_seed(1)
        x = torch.rand(2, *IMAGE)
        y = physics(x)
    there, physics_there = accelerator.moved(model), accelerator.moved(physics)
    y_there = y.to(accelerator.device)
    expected = model(y, physics)
    there(y_there, physics_there)  # looks once whether the step is random
    accelerator.forget()
    found = there(y_there, physics_there)
    if expected.requires_grad:
        expected.square().sum().backward()
        found.square().sum().backward()
    accelerator.require_few_reads(FURTHER_READS.get(name, 3))
    close(found, expected)
    for here, other in zip(gradients(model), gradients(there), strict=True):
        close(other, here)


def retune(on_failure: str = "warn") -> Any:
    """A plug-and-play model without a tolerance."""
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(SmoothDenoiser(3)),
        stepsize=0.9,
        sigma_denoiser=0.1,
        trainable_params=["stepsize", "sigma_denoiser"],
        DEQ=deq.ReTune(layers=2, restarts=3, on_failure=on_failure),
    )


class Arrival:
    """An event that has not happened until it is told to."""

    happened = False

    def __init__(self, device: torch.device):
        pass

    def record(self) -> None:
        pass

    def query(self) -> bool:
        return Arrival.happened

    def synchronize(self) -> None:
        Arrival.happened = True


@pytest.fixture
def asynchronous(
    accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Copies to the host that arrive later, also from a pretended device."""
    late = {*late_numbers.ASYNCHRONOUS_DEVICES, accelerator.device.type}
    monkeypatch.setattr(late_numbers, "ASYNCHRONOUS_DEVICES", late)
    if accelerator.reads is not None:
        monkeypatch.setattr(torch, "Event", Arrival)
        monkeypatch.setattr(Arrival, "happened", False)
        empty_like = torch.empty_like

        def unpinned(*args: Any, pin_memory: bool = False, **kwargs: Any) -> Tensor:
            return empty_like(*args, **kwargs)

        monkeypatch.setattr(torch, "empty_like", unpinned)
    yield
    failures._LATE.clear()


@pytest.mark.usefixtures("asynchronous")
def test_the_host_never_waits_in_a_training_step_of_retune(
    accelerator: Accelerator,
) -> None:
    model, physics = accelerator.moved(retune()), accelerator.moved(blur(IMAGE))
    y = torch.rand(2, *IMAGE).to(accelerator.device)
    model(y, physics)
    accelerator.forget()
    model(y, physics).square().sum().backward()
    if accelerator.reads is not None:
        assert not accelerator.reads.lines
    assert model.solution.status == (deq.Status.COMPLETED,) * 2


@pytest.mark.usefixtures("asynchronous")
def test_a_warning_comes_when_the_statuses_have_arrived(
    accelerator: Accelerator,
) -> None:
    model, physics = accelerator.moved(retune()), accelerator.moved(blur(IMAGE))
    y = torch.rand(2, *IMAGE).to(accelerator.device)
    model(y, physics)
    bad = y.clone()
    bad[1, 0, 0, 0] = torch.nan
    Arrival.happened = False
    model(bad, physics)
    failing = model.solution
    if accelerator.reads is not None:
        model(y, physics)  # too early
    Arrival.happened = True
    with pytest.warns(deq.ConvergenceWarning, match="NONFINITE"):
        deq.fixed_point(lambda x: x / 2, torch.ones(1, 1))
    assert failing.status == (deq.Status.COMPLETED, deq.Status.NONFINITE)
    deq.fixed_point(lambda x: x / 2, torch.ones(1, 1))  # warns once


@pytest.mark.usefixtures("asynchronous")
def test_an_error_is_not_late(accelerator: Accelerator) -> None:
    model = accelerator.moved(retune("raise"))
    y = torch.full((1, *IMAGE), torch.nan).to(accelerator.device)
    with pytest.raises(deq.ConvergenceError, match="NONFINITE"):
        model(y, accelerator.moved(blur(IMAGE)))


@pytest.mark.usefixtures("asynchronous")
@pytest.mark.parametrize("poison", ["measurement", "step"])
def test_a_bad_sample_adds_nothing_to_the_gradients_of_retune(
    accelerator: Accelerator, poison: str
) -> None:
    class Root(dinv.models.Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor, sigma: Any, **_: Any) -> Tensor:
            # Not finite for the second sample in the step: a root of a negative number.
            return torch.tanh(self.network(x)) / 4 + (x + 0.5).sqrt() / 4

    torch.manual_seed(0)
    model = retune("ignore")
    model.prior[0].denoiser = Root()
    physics = blur(IMAGE)
    good = torch.rand(1, *IMAGE)
    bad = torch.full_like(good, torch.nan if poison == "measurement" else -30.0)
    model(good, physics).square().sum().backward()
    there = accelerator.moved(model)
    there.zero_grad()
    y = torch.cat([good, bad]).to(accelerator.device)
    found = there(y, accelerator.moved(physics))
    found.square().nan_to_num().sum().backward()
    assert there.solution.status[1] is deq.Status.NONFINITE
    for here, other in zip(gradients(model), gradients(there), strict=True):
        close(other, here)


@pytest.mark.filterwarnings("ignore::deepinv_equilibrium.ConvergenceWarning")
@pytest.mark.parametrize("solver", [deq.Anderson(max_iter=4), deq.Picard(max_iter=60)])
def test_a_sample_that_fails_is_skipped(solver: Any, accelerator: Accelerator) -> None:
    torch.manual_seed(0)
    matrix = torch.linalg.qr(torch.randn(6, 6))[0]
    gradients_of = []
    for samples, device in (([0], "cpu"), ([0, 1, 2], accelerator.device)):
        there = matrix.to(device).requires_grad_()
        rates = torch.tensor([[0.01], [0.999], [9.0]])[samples].to(device)

        def step(x: Tensor, there: Tensor = there, rates: Tensor = rates) -> Tensor:
            return rates * x @ there + 1

        x0 = torch.zeros(len(samples), 6).to(device)
        solution = deq.fixed_point(step, x0, solver, on_failure="skip")
        assert solution.converged.tolist() == [sample == 0 for sample in samples]
        gradients_of += torch.autograd.grad(solution.x.square().sum(), there)
    close(gradients_of[1], gradients_of[0])


@pytest.mark.parametrize(
    "solver",
    [deq.Anderson(), deq.Picard(), deq.Broyden()],
    ids=lambda s: type(s).__name__,
)
def test_reports_are_those_of_looking_after_each_evaluation(
    solver: Any, accelerator: Accelerator
) -> None:
    rates = torch.tensor([[0.1], [0.5], [0.9], [2.0]])

    def step(x: Tensor) -> Tensor:
        return rates.to(x.device) * x.cos()

    x0 = torch.zeros(4, 3)
    here = deq.fixed_point(step, x0, solver, on_failure="ignore")
    there = deq.fixed_point(
        step, x0.to(accelerator.device), solver, on_failure="ignore"
    )
    assert there.status == here.status
    assert there.iterations.tolist() == here.iterations.tolist()
    close(there.x, here.x)
    made = len(here.history)
    close(there.residual, here.residual)
    torch.testing.assert_close(
        there.history[:made].cpu(), here.history, equal_nan=True, rtol=1e-3, atol=1e-6
    )


SHIPPED = sorted({*plugins.names("denoisers")} - {*DOWNLOADED})


@pytest.mark.parametrize("name", SHIPPED)
def test_named_denoiser_computes_there(name: str, accelerator: Accelerator) -> None:
    given = {"weighted-tv": {"tol": 1e-2}, "bounded-dncnn": {}}
    arguments = given.get(name, {"in_channels": 3})
    denoiser = plugins.create("denoisers", name, **arguments)
    compare(denoiser, (torch.rand(2, *IMAGE), 0.1), accelerator)


NOT_SMOOTH = (
    "nonnegativity",
    "nonnegative-tikhonov",
    "weighted-wavelet",
    "weighted-tv",
)


@pytest.mark.parametrize("name", plugins.names("priors"))
def test_named_prior_computes_there(name: str, accelerator: Accelerator) -> None:
    prior = create("priors", name, prior_arguments(3))
    x = torch.rand(2, *IMAGE) + 0.1
    parameters = PRIORS.get(name, {}).get("parameters", ())
    if prior.explicit_prior:
        compare(prior, (x, *parameters), accelerator)
    if name not in NOT_SMOOTH:
        compare(prior, (x, *parameters), accelerator, "grad")


@pytest.mark.parametrize("name", plugins.names("physics"))
def test_named_physics_computes_there(name: str, accelerator: Accelerator) -> None:
    physics = create("physics", name, PHYSICS)
    x = torch.rand(2, *SIZES[name])
    compare(physics, (x,), accelerator, "A")
    compare(physics, (x,), accelerator, "A_adjoint_A")


@pytest.mark.parametrize("name", ["deq-pgd", "deq-gd", "deq-drs", "certified-deq-pgd"])
def test_certificates_are_those_of_the_cpu(name: str, accelerator: Accelerator) -> None:
    model, physics = create("reconstructors", name, model_arguments(IMAGE)), blur(IMAGE)
    here = deq.certify(model, physics, IMAGE)
    there = deq.certify(accelerator.moved(model), accelerator.moved(physics), IMAGE)
    assert there.rate.kind == here.rate.kind
    assert there.rate.value == pytest.approx(here.rate.value, rel=1e-6)


def compare(
    module: Any,
    arguments: tuple[Any, ...],
    accelerator: Accelerator,
    method: str = "__call__",
) -> None:
    """Raise unless a method gives the same, and the same gradient, on both devices."""
    found = []
    for component, device in (
        (module, torch.device("cpu")),
        (accelerator.moved(module), accelerator.device),
    ):
        x, *others = (a.to(device) if isinstance(a, Tensor) else a for a in arguments)
        x = x.requires_grad_()
        value = getattr(component, method)(x, *others)
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value.square().sum(), x)
        found.append((value, gradient))
    (here, slope_here), (there, slope_there) = found
    assert there.device == accelerator.device
    close(there, here)
    if slope_here is not None:
        close(slope_there, slope_here)
