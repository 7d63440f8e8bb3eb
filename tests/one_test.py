"""One test for many small cases: each test of its own would cost more than a case."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch

Test = Callable[..., None]


def in_one_test(
    names: str | tuple[str, ...],
    cases: Iterable[Any],
    ids: Callable[[Any], str] | Iterable[str] | None = None,
) -> Callable[[Test], Test]:
    """
    Run a test with the cases of ``pytest.mark.parametrize``, but as one test.

    All cases run, each with the random numbers of a test of its own. The error names
    every case that fails, and follows from the first of them. The cases share the
    fixtures of the test.

    :param names: the arguments of the test that a case gives, with commas or a tuple.
    :param cases: the value of the argument, or a tuple of values, of each case.
    :param ids: what the error calls the cases. Default: their values.
    """
    given = names.replace(" ", "").split(",") if isinstance(names, str) else [*names]
    values = [case if len(given) > 1 else (case,) for case in cases]
    listed = [dict(zip(given, case, strict=True)) for case in values]
    listed_ids = [] if ids is None or callable(ids) else [*ids]

    def label(index: int) -> str:
        case = listed[index]
        if callable(ids):
            return ", ".join(map(ids, case.values()))
        if ids is None:
            return ", ".join(f"{name}={value!r}" for name, value in case.items())
        return listed_ids[index]

    def decorate(function: Test) -> Test:
        @functools.wraps(function)
        def test(**fixtures: Any) -> None:
            failed: list[tuple[str, BaseException]] = []
            for index, case in enumerate(listed):
                torch.default_generator.manual_seed(0)
                try:
                    function(**fixtures, **case)
                # pytest.raises fails with an exception that is not an Exception.
                except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001
                    failed.append((label(index), error))
            if failed:
                text = "\n".join(f"{k}: {type(e).__name__}: {e}" for k, e in failed)
                raise AssertionError(text) from failed[0][1]

        signature = inspect.signature(function)
        rest = [p for name, p in signature.parameters.items() if name not in given]
        test.__signature__ = signature.replace(parameters=rest)
        return test

    return decorate
