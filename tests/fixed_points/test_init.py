from __future__ import annotations

import inspect

import pytest

from deepinv_equilibrium import fixed_points
from deepinv_equilibrium.fixed_points import Adjoint, FixedPointSolver, LinearSolver


def test_all_names_exist_once() -> None:
    assert len(set(fixed_points.__all__)) == len(fixed_points.__all__)
    for name in fixed_points.__all__:
        assert getattr(fixed_points, name) is not None


def subclasses(base: type) -> set[type]:
    direct = set(base.__subclasses__())
    return direct.union(*map(subclasses, direct))


@pytest.mark.parametrize("base", [FixedPointSolver, LinearSolver, Adjoint])
def test_every_solver_and_adjoint_of_the_package_is_exported(base: type) -> None:
    own = {
        cls
        for cls in subclasses(base)
        if cls.__module__.startswith(fixed_points.__name__)
        and not inspect.isabstract(cls)
    }
    assert len(own) >= 3
    for cls in own:
        assert getattr(fixed_points, cls.__name__) is cls
        assert cls.__name__ in fixed_points.__all__
