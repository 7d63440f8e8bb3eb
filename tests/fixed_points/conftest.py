"""Problems with known solutions, steps that log their calls, and memory counters."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.fixed_points import (
    SHINE,
    Adjoint,
    Anderson,
    Broyden,
    FixedPointSolver,
    Picard,
    State,
    Step,
    Unrolled,
)


@dataclass(frozen=True)
class Problem:
    """A function that makes a step from parameters, with parameters and a start."""

    step: Callable[..., Step]
    parameters: tuple[Tensor, ...]
    x0: State


def contraction(n: int, rate: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return a random matrix of spectral norm ``rate``."""
    matrix = torch.randn(n, n, dtype=torch.float64)
    return (rate * matrix / torch.linalg.matrix_norm(matrix, 2)).to(dtype)


def _leaf(value: Tensor | float) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64).clone().requires_grad_()


def _linear() -> Problem:
    parameters = (contraction(4, 0.7), 0.9, torch.randn(3, 4, dtype=torch.float64))
    return Problem(
        lambda weight, scale, y: lambda x: scale * x @ weight.mT + y,
        tuple(map(_leaf, parameters)),
        torch.zeros(3, 4, dtype=torch.float64),
    )


def _convolution() -> Problem:
    kernel = 0.15 * torch.randn(2, 2, 3, 3, dtype=torch.float64)
    y = torch.randn(2, 2, 3, 4, dtype=torch.float64)
    return Problem(
        lambda weight, scale, y: (
            lambda x: scale * torch.tanh(torch.conv2d(x, weight, padding=1)) + y
        ),
        tuple(map(_leaf, (kernel, 0.7, y))),
        torch.ones_like(y),
    )


def _complex_pair() -> Problem:
    """A state of three real and two complex numbers, which are coupled."""

    def build(weight: Tensor, scale: Tensor, y: Tensor) -> Step:
        def step(state: State) -> State:
            u, z = state
            return (
                scale * torch.tanh(u @ weight.mT) + 0.2 * torch.cat([z.real, y], 1),
                0.3j * z.conj() + torch.complex(y.expand(-1, 2), 0.2 * u[:, :2]),
            )

        return step

    y = torch.randn(2, 1, dtype=torch.float64)
    x0 = torch.zeros(2, 3, dtype=torch.float64)
    return Problem(
        build,
        tuple(map(_leaf, (contraction(3, 0.8), 0.6, y))),
        (x0, torch.ones(2, 2, dtype=torch.complex128)),
    )


def _potential() -> Problem:
    """Gradient steps on a convex function: the Jacobian is symmetric."""

    def build(weight: Tensor, stepsize: Tensor, y: Tensor) -> Step:
        def gradient(x: Tensor) -> Tensor:
            return x @ weight @ weight.mT + 0.5 * x + torch.tanh(x) - y

        return lambda x: x - stepsize * gradient(x)

    y = torch.randn(3, 4, dtype=torch.float64)
    return Problem(
        build, tuple(map(_leaf, (contraction(4, 1.0), 0.7, y))), torch.zeros_like(y)
    )


_PROBLEMS = {
    "linear": _linear,
    "convolution": _convolution,
    "complex-pair": _complex_pair,
    "potential": _potential,
}


@pytest.fixture(params=list(_PROBLEMS))
def problem(request: pytest.FixtureRequest) -> Problem:
    """Each problem in turn, or the named one with indirect parametrisation."""
    return _PROBLEMS[request.param]()


@pytest.fixture
def random_contraction() -> Callable[..., Tensor]:
    """A function of a size and a rate that returns a matrix of that spectral norm."""
    return contraction


@pytest.fixture
def solver_for() -> Callable[..., FixedPointSolver]:
    """A function of an adjoint and tolerances that returns a solver it accepts."""

    def choose(adjoint: Adjoint, **tolerances: Any) -> FixedPointSolver:
        if isinstance(adjoint, SHINE):
            return Broyden(**tolerances)
        if isinstance(adjoint, Unrolled):
            return Picard(**tolerances)
        return Anderson(**tolerances)

    return choose


@dataclass
class LoggedStep:
    """A step that logs its evaluations, and whether autograd was recording."""

    step: Step
    recorded: list[bool] = field(default_factory=list)

    def __call__(self, state: State) -> State:
        self.recorded.append(torch.is_grad_enabled())
        return self.step(state)

    @property
    def evaluations(self) -> int:
        return len(self.recorded)


@pytest.fixture
def logged() -> type[LoggedStep]:
    return LoggedStep


class OutputStep:
    r"""
    :math:`f(x) = c \tanh(x W^\top) + y` with the output :math:`\sin(x V^\top) + y`.
    """

    def __init__(self, weight: Tensor, scale: Tensor, y: Tensor, readout: Tensor):
        self.weight, self.scale, self.y, self.readout = weight, scale, y, readout

    def __call__(self, state: State) -> State:
        return self.step_and_output(state)[0]

    def step_and_output(self, state: State) -> tuple[State, Tensor]:
        assert isinstance(state, Tensor)
        value = self.scale * torch.tanh(state @ self.weight.mT) + self.y
        return value, torch.sin(state @ self.readout.mT) + self.y[:, :2]


@pytest.fixture
def output_problem() -> Problem:
    """A problem whose step has an output of another shape than its state."""
    y = torch.randn(3, 4, dtype=torch.float64)
    readout = torch.randn(2, 4, dtype=torch.float64)
    return Problem(
        OutputStep,
        tuple(map(_leaf, (contraction(4, 0.8), 0.9, y, readout))),
        torch.zeros_like(y),
    )


class LiveBytes:
    """Count the bytes of live tensors, in Python and saved by autograd."""

    def __init__(self) -> None:
        self._saved: weakref.WeakSet[_Saved] = weakref.WeakSet()

    def hold(self, tensor: Tensor) -> _Saved:
        saved = _Saved(tensor.detach())
        self._saved.add(saved)
        return saved

    @property
    def saved(self) -> int:
        """Bytes of the tensors that graphs hold."""
        return sum(saved.tensor.nbytes for saved in self._saved)

    @property
    def total(self) -> int:
        """Bytes of the storages of all live tensors."""
        storages = {}
        for thing in gc.get_objects():
            # Compilers leave tensors of other types behind, which hold no data.
            if type(thing) in (Tensor, torch.nn.Parameter):
                try:
                    storage = thing.untyped_storage()
                except NotImplementedError:
                    continue  # a wrapper of torch.func, left behind by another test
                storages[storage.data_ptr()] = storage.nbytes()
        return sum(storages.values())


class _Saved:
    def __init__(self, tensor: Tensor):
        self.tensor = tensor


@pytest.fixture
def live_bytes() -> Callable[[], object]:
    """A context that turns the cyclic collector off and counts live bytes."""

    @contextmanager
    def counting() -> Iterator[LiveBytes]:
        live = LiveBytes()
        gc.collect()
        gc.disable()
        try:
            with torch.autograd.graph.saved_tensors_hooks(
                live.hold, lambda saved: saved.tensor
            ):
                yield live
        finally:
            gc.enable()

    return counting
