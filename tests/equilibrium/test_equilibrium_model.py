"""Behaviour that every named model inherits from EquilibriumModel."""

from __future__ import annotations

import ast
import gc
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.equilibrium import EquilibriumModel

from ..one_test import in_one_test
from .named_models import ARGUMENTS, IMAGE, OTHERS, build, physics

NAMES = sorted(ARGUMENTS)


def picard(iterations: int) -> deq.Equilibrium:
    solver = deq.Picard(max_iter=iterations, rtol=0)
    return deq.Equilibrium(solver, deq.JacobianFree(), on_failure="ignore")


def measurement(batch: int = 2) -> Tensor:
    return physics().A(torch.rand(batch, *IMAGE))


def test_list_of_named_models_is_complete() -> None:
    assert set(deq.plugins.names("reconstructors")) == {*NAMES} | OTHERS


def is_call(node: ast.AST, function: str, names: set[str]) -> bool:
    """Return whether a node calls a function by its imported names or of a module.
    ``self.fixed_point`` is an attribute of deepinv's optimisers."""
    called = getattr(node, "func", None)
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
        return called.attr == function and called.value.id != "self"
    return isinstance(called, ast.Name) and called.id in names


def classes_that_call(function: str) -> Iterator[type]:
    """Yield the classes, of models and of what models use, that call a function."""
    package = Path(deq.__file__).parent
    for folder in ("equilibrium", "optim", "models", "presets"):
        for path in (package / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
            aliases = [alias for node in imports for alias in node.names]
            names = {a.asname or a.name for a in aliases if a.name == function}
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and any(
                    is_call(inner, function, names) for inner in ast.walk(node)
                ):
                    parts = path.relative_to(package.parent).with_suffix("").parts
                    module = importlib.import_module(".".join(parts))
                    yield getattr(module, node.name)


def test_only_EquilibriumModel_among_the_reconstructors_calls_fixed_point() -> None:
    callers = classes_that_call("fixed_point")
    models = [c for c in callers if issubclass(c, dinv.models.Reconstructor)]
    assert models == [EquilibriumModel]


@in_one_test("name", NAMES)
def test_named_model_is_an_equilibrium_model(name: str) -> None:
    assert isinstance(build(name), EquilibriumModel)


@in_one_test("name", NAMES)
def test_setting_DEQ_changes_the_next_call(name: str) -> None:
    model, y = build(name), measurement()
    for iterations in (2, 5, 1):
        config = picard(iterations)
        model.DEQ = config
        assert model.DEQ is config
        model(y, physics())
        assert model.solution.iterations.tolist() == [iterations] * 2


@in_one_test("name", NAMES)
@in_one_test("wrong", ["Picard", 3, deq.Picard()])
def test_setting_DEQ_to_another_type_raises(name: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"DEQ must be Equilibrium\("):
        build(name).DEQ = wrong


@in_one_test("name", NAMES)
def test_setting_max_iter_changes_the_next_call(name: str) -> None:
    model, y = build(name), measurement()
    model.DEQ = picard(7)
    model.max_iter = 4
    assert model.max_iter == 4
    model(y, physics())
    assert model.solution.iterations.tolist() == [4, 4]
    with pytest.raises(ValueError, match="max_iter must be an integer >= 1, got 0"):
        model.max_iter = 0


@in_one_test("name", sorted({*NAMES} - {"ista", "tv-map"}))
def test_setting_max_iter_raises_with_restarts(name: str) -> None:
    model = build(name)
    model.DEQ = deq.ReTune(layers=1, restarts=3)
    with pytest.raises(ValueError, match="max_iter=5 has no meaning with ReTune"):
        model.max_iter = 5


@in_one_test("name", NAMES)
def test_backward_uses_the_inverse_of_broyden_which_solution_drops(name: str) -> None:
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
def test_progress_bar_is_shown_with_show_progress_bar(
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


@in_one_test("name", NAMES)
def test_observer_is_called_for_every_evaluation(name: str) -> None:
    model, seen = build(name), []
    model.DEQ = picard(3)
    model(measurement(), physics(), observer=lambda state, value: seen.append(state))
    assert len(seen) == 3


@in_one_test("name", NAMES)
def test_call_raises_for_modules_that_couple_samples_or_are_random(name: str) -> None:
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


@in_one_test("name", NAMES)
def test_call_raises_for_unknown_argument_and_suggests_the_closest(name: str) -> None:
    with pytest.raises(TypeError, match=r"takes no argument 'obsrver'.*'observer'"):
        build(name)(measurement(), physics(), obsrver=None)


@in_one_test("name", NAMES)
def test_solution_is_None_before_the_first_call_and_detached_after_it(
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
def test_samples_are_independent(name: str) -> None:
    model, y = build(name).double(), measurement(3).double()
    operator = physics().to(torch.float64)
    model.DEQ = picard(4)
    together = model(y, operator)
    alone = torch.cat([model(sample[None], operator) for sample in y])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


class Landweber(EquilibriumModel):
    """A user-defined model with one method."""

    def fixed_point_problem(
        self, y: Tensor, physics: Any
    ) -> tuple[Callable[[Any], Any], Tensor]:
        def step(x: Tensor) -> Tensor:
            return x - 0.5 * physics.A_adjoint(physics.A(x) - y) - 0.1 * x

        return step, physics.A_adjoint(y)


def test_subclass_with_one_method_solves_and_reports() -> None:
    model = Landweber()
    y = torch.full((2, 1, 4, 4), 0.6)
    x = model(y, dinv.physics.Denoising())
    torch.testing.assert_close(x, torch.full_like(y, 0.5), rtol=0, atol=1e-4)
    assert model.solution is not None
    assert model.solution.converged.tolist() == [True, True]


def test_base_class_cannot_be_instantiated() -> None:
    with pytest.raises(TypeError, match="abstract"):
        EquilibriumModel()  # type: ignore[abstract]


def test_constructor_of_subclass_raises_for_misspelt_arguments() -> None:
    with pytest.raises(TypeError, match=r"Landweber takes no .* did you mean 'DEQ'"):
        Landweber(DEq=deq.Equilibrium())
    with pytest.raises(TypeError, match="'show_progress_bar'"):
        Landweber(show_progress=True)


def test_check_input_evaluates_the_operator_once_for_each_shape() -> None:
    calls = []

    class Counted(dinv.physics.Denoising):
        def A(self, x: Tensor, **kwargs: Any) -> Tensor:
            calls.append(x.shape)
            return x

    model, operator = Landweber(DEQ=picard(2)), Counted()
    y = torch.rand(2, 1, 4, 4)
    model.check_input(y, operator)
    model.check_input(y, operator)
    assert len(calls) == 1
    model.check_input(y[:1], operator)
    model.check_input(torch.rand(1, 1, 4, 5), operator)
    assert len(calls) == 3


def test_call_raises_for_a_batch_of_another_size_than_that_of_the_physics() -> None:
    operator = dinv.physics.Inpainting((1, 4, 4), mask=torch.ones(1, 4, 4))
    operator.update(mask=torch.ones(3, 1, 4, 4))
    model, y = Landweber(DEQ=picard(2)), torch.rand(3, 1, 4, 4)
    model.check_input(y, operator)
    with pytest.raises(ValueError, match=r"y of shape \(1, 1, 4, 4\) is not"):
        model.check_input(y[:1], operator)


def test_check_input_distinguishes_a_new_physics_from_a_released_one() -> None:
    model, y = Landweber(DEQ=picard(2)), torch.rand(1, 1, 4, 4)
    seen: list[Any] = []
    for _ in range(12):  # Python gives most of them the same id
        model.check_input(y, dinv.physics.Denoising())
        assert model._checked not in seen
        seen.append(model._checked)
        gc.collect(0)


@pytest.mark.parametrize(
    "ask",
    [deq.check_well_posed, deq.estimate_rate, deq.diagnostics.backward_error],
    ids=lambda ask: ask.__name__,
)
def test_diagnostics_refuse_wrong_input_as_the_call_does(
    ask: Callable[..., Any],
) -> None:
    model, operator = build("deq-pgd"), physics()
    with pytest.raises(ValueError, match="is not a measurement of this Inpainting"):
        ask(model, torch.rand(2, 1, 5, 7), operator)
    model.norm = torch.nn.BatchNorm2d(1)
    with pytest.raises(ValueError, match="uses batch statistics"):
        ask(model, measurement(), operator)


@in_one_test("dtype", [torch.bfloat16, torch.float16])
@in_one_test("name", NAMES)
def test_model_under_autocast_returns_the_image_in_single_precision(
    name: str, dtype: torch.dtype
) -> None:
    model = build(name)
    model.DEQ = deq.Equilibrium(deq.Anderson(rtol=1e-2))
    y = measurement()
    with torch.no_grad():
        expected = model(y, physics())
        with torch.autocast("cpu", dtype):
            x = model(y, physics())
    assert x.dtype == torch.float32
    assert model.solution.converged.all()
    torch.testing.assert_close(x, expected, rtol=0, atol=0.05)
