from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import pytest

from deepinv_equilibrium.fixed_points.argument_checks import (
    describe_subclasses,
    require_count,
    require_in_range,
    require_instance,
    require_number,
    subclass_names,
)

from ..one_test import in_one_test


class Animal(ABC):
    @abstractmethod
    def speak(self) -> str: ...


class Bird(Animal):
    """Abstract as well."""


class Owl(Bird):
    def speak(self) -> str:
        return "hoo"


class Cat(Animal):
    def speak(self) -> str:
        return "meow"


class _Hidden(Cat):
    pass


class Lynx(_Hidden):
    pass


def test_subclass_names_lists_concrete_public_subclasses_of_any_depth() -> None:
    assert subclass_names(Animal) == ["Cat", "Lynx", "Owl"]
    assert subclass_names(Owl) == []


def test_subclass_names_lists_a_class_that_is_defined_later() -> None:
    class Eagle(Bird):
        def speak(self) -> str:
            return "screech"

    assert subclass_names(Bird) == ["Eagle", "Owl"]


def test_require_instance_lists_the_subclasses_of_each_base() -> None:
    require_instance("pet", Cat(), Animal)
    require_instance("pet", 3, Animal, int)
    assert describe_subclasses(Animal).startswith("an Animal (Cat, ")
    with pytest.raises(
        TypeError, match=r"^pet must be a Cat \(Lynx\) or a Bird \(.*Owl"
    ):
        require_instance("pet", "dog", Cat, Bird)
    with pytest.raises(TypeError, match=r"got <class .*Cat'>\.$"):
        require_instance("pet", Cat, Animal)


@in_one_test("value", ["1", None, True, 1j])
def test_require_number_raises_for_other_types(value: Any) -> None:
    require_number("size", 1.5)
    with pytest.raises(TypeError, match=f"size must be a number, got {value!r}"):
        require_number("size", value)


@in_one_test("value", [1, 2.0, False, "3"])
def test_require_count_raises_for_other_values(value: Any) -> None:
    require_count("steps", 2, 2)
    with pytest.raises(
        ValueError, match=f"steps must be an integer >= 2, got {value!r}"
    ):
        require_count("steps", value, 2)


@in_one_test("value", [-1.0, 0.0, 2.0, math.inf, math.nan])
def test_require_in_range_raises_outside_the_open_interval(value: float) -> None:
    require_in_range("gamma", 1.9, upper=2.0)
    require_in_range("gamma", 0, zero=True)
    with pytest.raises(ValueError, match=rf"gamma must be in \(0, 2\), got {value!r}"):
        require_in_range("gamma", value, upper=2.0)
