"""What every equilibrium model that has a name inherits from EquilibriumModel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.equilibrium import EquilibriumModel

from .named_models import ARGUMENTS, IMAGE, OTHERS, build, physics

NAMES = sorted(ARGUMENTS)


def picard(iterations: int) -> deq.Equilibrium:
    solver = deq.Picard(max_iter=iterations, rtol=0)
    return deq.Equilibrium(solver, deq.JacobianFree(), on_failure="ignore")


def measurement(batch: int = 2) -> Tensor:
    return physics().A(torch.rand(batch, *IMAGE))


def test_every_named_reconstructor_is_tested_or_listed_as_another_kind() -> None:
    assert set(deq.plugins.names("reconstructors")) == {*NAMES} | OTHERS


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_an_equilibrium_model(name: str) -> None:
    assert isinstance(build(name), EquilibriumModel)


@pytest.mark.parametrize("name", NAMES)
def test_setting_DEQ_changes_the_next_call(name: str) -> None:
    model, y = build(name), measurement()
    for iterations in (2, 5, 1):
        model.DEQ = picard(iterations)
        assert model.DEQ == picard(iterations)
        model(y, physics())
        assert model.solution.iterations.tolist() == [iterations] * 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", ["Picard", 3, deq.Picard()])
def test_setting_DEQ_to_another_type_raises(name: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"DEQ must be Equilibrium\("):
        build(name).DEQ = wrong


@pytest.mark.parametrize("name", NAMES)
def test_setting_max_iter_changes_the_next_call(name: str) -> None:
    model, y = build(name), measurement()
    model.DEQ = picard(7)
    model.max_iter = 4
    assert model.max_iter == 4
    model(y, physics())
    assert model.solution.iterations.tolist() == [4, 4]
    with pytest.raises(ValueError, match="max_iter must be an integer >= 1, got 0"):
        model.max_iter = 0


@pytest.mark.parametrize("name", sorted({*NAMES} - {"ista", "tv-map"}))
def test_setting_max_iter_raises_with_restarts(name: str) -> None:
    model = build(name)
    model.DEQ = deq.ReTune(layers=1, restarts=3)
    with pytest.raises(ValueError, match="max_iter=5 has no meaning with ReTune"):
        model.max_iter = 5


@pytest.mark.parametrize("name", NAMES)
def test_the_memory_of_broyden_serves_the_backward_and_is_dropped(name: str) -> None:
    model, y = build(name), measurement()
    solver = deq.Broyden(max_iter=5, rtol=0)
    model.DEQ = deq.Equilibrium(solver, deq.SHINE(), on_failure="ignore")
    x = model(y, physics())
    assert model.solution.inverse_jacobian is None
    x.sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", NAMES)
def test_the_progress_bar_is_shown_where_it_is_asked_for(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, y = build(name), measurement()
    model.DEQ = picard(3)
    model(y, physics())
    assert capsys.readouterr().err == ""
    model.show_progress_bar = True
    model(y, physics())
    shown = capsys.readouterr().err
    assert type(model).__name__ in shown
    assert "3/3" in shown


@pytest.mark.parametrize("name", NAMES)
def test_the_observer_sees_every_evaluation(name: str) -> None:
    model, seen = build(name), []
    model.DEQ = picard(3)
    model(measurement(), physics(), observer=lambda state, value: seen.append(state))
    assert len(seen) == 3


@pytest.mark.parametrize("name", NAMES)
def test_modules_that_couple_samples_are_refused(name: str) -> None:
    model = build(name)
    model.norm = torch.nn.BatchNorm2d(1)
    with pytest.raises(ValueError, match=r"norm \(BatchNorm2d\) uses batch statistics"):
        model(measurement(), physics())
    model.norm.eval()
    model.DEQ = picard(2)
    model(measurement(), physics())
    model.norm = torch.nn.Dropout(0.5)
    with pytest.raises(ValueError, match=r"norm \(Dropout\) is random in train mode"):
        model(measurement(), physics())


@pytest.mark.parametrize("name", NAMES)
def test_unknown_arguments_of_a_call_are_refused_with_a_hint(name: str) -> None:
    with pytest.raises(TypeError, match=r"takes no argument 'obsrver'.*'observer'"):
        build(name)(measurement(), physics(), obsrver=None)


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_is_none_before_the_first_call_and_detached_after(
    name: str,
) -> None:
    model = build(name)
    assert model.solution is None
    model.DEQ = picard(2)
    model(measurement(), physics())
    state = model.solution.x
    parts = [state] if isinstance(state, Tensor) else state
    assert not any(part.requires_grad for part in parts)
    assert len(model.solution.status) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_does_not_depend_on_its_batch_mates(name: str) -> None:
    model, y = build(name).double(), measurement(3).double()
    operator = physics().to(torch.float64)
    model.DEQ = picard(4)
    together = model(y, operator)
    alone = torch.cat([model(sample[None], operator) for sample in y])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


class Landweber(EquilibriumModel):
    """A user's model: one method."""

    def fixed_point_problem(
        self, y: Tensor, physics: Any
    ) -> tuple[Callable[[Any], Any], Tensor]:
        def step(x: Tensor) -> Tensor:
            return x - 0.5 * physics.A_adjoint(physics.A(x) - y) - 0.1 * x

        return step, physics.A_adjoint(y)


def test_a_subclass_with_one_method_solves_and_reports() -> None:
    model = Landweber()
    y = torch.full((2, 1, 4, 4), 0.6)
    x = model(y, dinv.physics.Denoising())
    torch.testing.assert_close(x, torch.full_like(y, 0.5), rtol=0, atol=1e-4)
    assert model.solution is not None
    assert model.solution.converged.tolist() == [True, True]


def test_the_base_class_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        EquilibriumModel()  # type: ignore[abstract]


def test_misspelt_arguments_of_a_subclass_are_refused_with_a_hint() -> None:
    with pytest.raises(TypeError, match=r"Landweber takes no .* did you mean 'DEQ'"):
        Landweber(DEq=deq.Equilibrium())
    with pytest.raises(TypeError, match="'show_progress_bar'"):
        Landweber(show_progress=True)


def test_the_shapes_of_measurement_and_physics_are_compared_once() -> None:
    calls = []

    class Counted(dinv.physics.Denoising):
        def A(self, x: Tensor, **kwargs: Any) -> Tensor:
            calls.append(x.shape)
            return x

    model, operator = Landweber(DEQ=picard(2)), Counted()
    y = torch.rand(2, 1, 4, 4)
    model.check_input(y, operator)
    model.check_input(y, operator)
    model.check_input(y[:1], operator)
    assert len(calls) == 1
    model.check_input(torch.rand(1, 1, 4, 5), operator)
    assert len(calls) == 2
