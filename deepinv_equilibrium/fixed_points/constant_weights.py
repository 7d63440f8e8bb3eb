"""Parts of a computation in which weights do not change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SCOPE: ContextVar[object | None] = ContextVar("constant_weights", default=None)


@contextmanager
def constant_weights() -> Iterator[None]:
    """
    Promise that no weight changes within the context, as during a solve.

    What depends on weights only then needs to be looked at once, see
    :func:`weights_scope`. A context within another one belongs to the outer one.
    """
    if _SCOPE.get() is not None:
        yield
        return
    token = _SCOPE.set(object())
    try:
        yield
    finally:
        _SCOPE.reset(token)


def weights_scope() -> object | None:
    """Return an object that is the same within one context of constant weights, and
    ``None`` outside of all."""
    return _SCOPE.get()
