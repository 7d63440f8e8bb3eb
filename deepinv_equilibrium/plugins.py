r"""
Registry of the components that have a name, such as reconstructors and solvers.

A distribution offers a component by an entry point in the group
``deepinv_equilibrium.<kind>``. The entry point names a class, or a function that
returns the component:

.. code-block:: toml

    [project.entry-points."deepinv_equilibrium.denoisers"]
    my-denoiser = "my_package.my_module:MyDenoiser"

This package offers its own components in the same way. To list the names, only the
metadata of distributions is read; a module is imported when its component is loaded.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import re
import sys
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from deepinv.loss import Loss
from deepinv.models import Denoiser, Reconstructor
from deepinv.optim import DataFidelity, Prior
from deepinv.physics import Physics

from .fixed_points import Adjoint, FixedPointSolver, LinearSolver

_BASE_CLASSES: dict[str, type] = {
    "reconstructors": Reconstructor,
    "denoisers": Denoiser,
    "priors": Prior,
    "data_fidelities": DataFidelity,
    "physics": Physics,
    "losses": Loss,
    "solvers": FixedPointSolver,
    "linear_solvers": LinearSolver,
    "adjoints": Adjoint,
}

#: The kinds of components. A component is an instance of the base class of its kind.
KINDS = tuple(_BASE_CLASSES)

_registered: dict[str, dict[str, Callable[..., Any]]] = {kind: {} for kind in KINDS}


class PluginError(RuntimeError):
    """A plugin cannot be imported, or its component is not of its kind."""


@dataclass(frozen=True)
class Origin:
    r"""
    How a component was made.

    :param str kind: one of :data:`KINDS`.
    :param str name: its name.
    :param dict arguments: the keyword arguments of :func:`create`.
    """

    kind: str
    name: str
    arguments: dict[str, Any]


# By the identifier of the component, which need not be hashable; an entry goes with its
# component.
_origins: dict[int, tuple[weakref.ref[Any], Origin]] = {}


def names(kind: str) -> list[str]:
    r"""
    List the names of the components of a kind, without importing them.

    The list has the components of installed distributions and those that
    :func:`register` has added in this process. Each name can be passed to :func:`load`
    and :func:`create`. If several distributions offer a name, it is listed once for
    each of them, as ``distribution:name``.

    :param str kind: one of :data:`KINDS`.
    :return: (list) the names, sorted.
    :raises ValueError: if the kind is unknown.
    """
    _check_kind(kind)
    known = set(_registered[kind])
    for name, providers in _installed(kind).items():
        known.update([name] if len(providers) == 1 else _qualified(name, providers))
    return sorted(known)


def load(kind: str, name: str) -> Callable[..., Any]:
    r"""
    Import the class or function that returns a component, and no other component.

    A component that :func:`register` has added in this process takes precedence over
    an installed one of the same name.

    :param str kind: one of :data:`KINDS`.
    :param str name: name of the component, or ``distribution:name`` if several
        distributions offer the name.
    :return: (Callable) the class or function that returns the component.
    :raises ValueError: if the kind or the name is unknown, or if several distributions
        offer the name.
    :raises PluginError: if the import fails, with the error as its cause.
    """
    _check_kind(kind)
    _check_string("name", name)
    if name in _registered[kind]:
        return _registered[kind][name]
    entry_point = _find(kind, name)
    origin = (
        f"plugin {entry_point.name!r} ({kind}, {entry_point.value}) of "
        f"{_describe(entry_point)}"
    )
    try:
        factory = entry_point.load()
    except Exception as error:
        raise PluginError(
            f"The {origin} cannot be imported: {type(error).__name__}: {error}. "
            "Repair, upgrade or uninstall that distribution."
        ) from error
    if not callable(factory):
        raise PluginError(
            f"The {origin} must be a class or a function that returns the component, "
            f"got {factory!r}."
        )
    return factory


def create(kind: str, name: str, **kwargs: Any) -> Any:
    r"""
    Load and create a component.

    :param str kind: one of :data:`KINDS`.
    :param str name: name of the component, see :func:`load`.
    :param kwargs: keyword arguments of the component, see its own documentation.
    :return: the component, an instance of the base class of its kind, see
        :doc:`/user_guide/plugins`.
    :raises ValueError: if the kind or the name is unknown, or if several distributions
        offer the name.
    :raises TypeError: if a keyword argument is unknown or a required one is missing.
    :raises PluginError: if the import fails, or the component is not of its kind.

    :Example:

    >>> import deepinv_equilibrium as deq
    >>> model = deq.plugins.create(
    ...     "reconstructors", "retune-pgd", denoiser="small-drunet", restarts=20
    ... )

    """
    factory = load(kind, name)
    signature = inspect.signature(factory)
    try:
        signature.bind_partial(**kwargs)  # reports a misspelt argument first
        signature.bind(**kwargs)
    except TypeError as error:
        hints = [_hint(key, signature.parameters) for key in kwargs]
        raise TypeError(
            f"{name!r} ({kind}) {error}.{''.join(hints)} It takes {signature}."
        ) from None
    component = factory(**kwargs)
    base = _BASE_CLASSES[kind]
    if not isinstance(component, base):
        raise PluginError(
            f"The plugin {name!r} ({kind}) must create an instance of "
            f"{base.__module__}.{base.__name__}, got {type(component).__name__}."
        )
    _remember(component, Origin(kind, name, _copied(kwargs)))
    return component


def describe(kind: str) -> dict[str, str]:
    r"""
    Describe the components of a kind in a line each, by the first sentence of their
    documentation. All components of the kind are imported for it.

    :param str kind: one of :data:`KINDS`.
    :return: (dict) the descriptions by the names that :func:`names` lists. A component
        that cannot be imported is described by its error.
    :raises ValueError: if the kind is unknown.

    :Example:

    >>> import deepinv_equilibrium as deq
    >>> print(deq.plugins.describe("linear_solvers")["cg"])
    Conjugate gradients for symmetric positive definite A.

    """
    return {name: _description(kind, name) for name in names(kind)}


def origin(component: Any) -> Origin | None:
    r"""
    Return how :func:`create` made a component.

    :param component: a component.
    :return: (Origin) kind, name and arguments; ``None`` if :func:`create` did not make
        this object.
    """
    reference, found = _origins.get(id(component), (None, None))
    return found if reference is not None and reference() is component else None


def name_of(kind: str, factory: Callable[..., Any]) -> str | None:
    r"""
    Return the name of a class or a function.

    :param str kind: one of :data:`KINDS`.
    :param Callable factory: the class or the function.
    :return: (str) the name by which :func:`load` returns it; ``None`` if it has none.
    :raises ValueError: if the kind is unknown.
    """
    for name in names(kind):
        if name in _registered[kind]:
            if _registered[kind][name] is factory:
                return name
        # Only entry points that name this class are imported.
        elif _find(kind, name).attr == factory.__qualname__ and (
            load(kind, name) is factory
        ):
            return name
    return None


def distribution_of(kind: str, name: str) -> str | None:
    r"""
    Return the distribution that offers a component, without importing it.

    :param str kind: one of :data:`KINDS`.
    :param str name: name of the component, see :func:`load`.
    :return: (str) the name of the distribution; ``None`` if :func:`register` has added
        the component.
    :raises ValueError: if the kind or the name is unknown, or if several distributions
        offer the name.
    """
    _check_kind(kind)
    if name in _registered[kind]:
        return None
    distribution = _find(kind, name).dist
    assert distribution is not None  # see _installed
    return distribution.name


def register(
    kind: str, name: str, factory: Callable[..., Any], *, override: bool = False
) -> None:
    r"""
    Give a component a name in this process, for a notebook or a script.

    :param str kind: one of :data:`KINDS`.
    :param str name: the name, without a colon.
    :param Callable factory: class or function that returns the component.
    :param bool override: whether the component may replace one that has the name
        already. An installed component is then still available as
        ``distribution:name``. Default: ``False``.
    :raises ValueError: if the kind is unknown, if the name is empty or has a colon, or
        if the name is taken and ``override`` is ``False``.
    :raises TypeError: if the name is not a string or the factory is not callable.
    """
    _check_kind(kind)
    _check_string("name", name)
    if not name or ":" in name:
        raise ValueError(
            "name must not be empty nor have a colon, which separates a "
            f"distribution from its name, got {name!r}."
        )
    if not callable(factory):
        raise TypeError(
            "factory must be a class or a function that returns the component, "
            f"got {factory!r}."
        )
    owners = [_describe(entry) for entry in _installed(kind).get(name, {}).values()]
    if name in _registered[kind]:
        owners.append("this process")
    if owners and not override:
        raise ValueError(
            f"name {name!r} ({kind}) is taken by {' and '.join(owners)}. Choose "
            "another name, or pass override=True to use this factory in its place."
        )
    _registered[kind][name] = factory


def _remember(component: Any, how: Origin) -> None:
    key = id(component)

    def forget(reference: weakref.ref[Any]) -> None:
        if _origins.get(key, (None,))[0] is reference:
            del _origins[key]

    _origins[key] = weakref.ref(component, forget), how


def _copied(value: Any) -> Any:
    """Return an argument whose lists and dictionaries the caller can go on to edit."""
    if type(value) in (list, tuple):
        return type(value)(_copied(item) for item in value)
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return value


def _description(kind: str, name: str) -> str:
    """Return the first sentence of a component's documentation as plain text."""
    try:
        documentation = inspect.getdoc(load(kind, name)) or "No description."
    except PluginError as error:
        return str(error)
    paragraph = " ".join(documentation.split("\n\n")[0].split())
    paragraph = re.sub(
        r"[\s,]*(equations? \S+( to \S+)? )?(of )?:footcite:\w+:`[^`]*`", "", paragraph
    )
    paragraph = re.sub(r":math:`([^`]*)`", r"\1", paragraph)
    paragraph = re.sub(
        r":[\w:]+:`~?(?:[\w.]+\.)?([^`<]+?)(?: <[^`]*>)?`", r"\1", paragraph
    )
    sentence = re.split(r"(?<=\.) ", paragraph.replace("`", ""))[0]
    return sentence.rstrip(" .,:") + "."


def _installed(kind: str) -> dict[str, dict[str, metadata.EntryPoint]]:
    """Return the entry points of a kind, by name and then by distribution."""
    return _entry_points(f"deepinv_equilibrium.{kind}", _search_path())


# The metadata of every distribution take 30 ms to read, longer than it takes to create
# most components, and those of the distribution of an entry point 1 ms. A distribution
# that is installed meanwhile changes the time of its folder, and is found.
@functools.lru_cache(maxsize=16)
def _entry_points(
    group: str, search_path: tuple[tuple[str, int], ...]
) -> dict[str, dict[str, metadata.EntryPoint]]:
    installed: dict[str, dict[str, metadata.EntryPoint]] = {}
    for entry_point in metadata.entry_points(group=group):
        if entry_point.dist is not None:
            providers = installed.setdefault(entry_point.name, {})
            providers[_normalized(entry_point.dist.name)] = entry_point
    return installed


def _search_path() -> tuple[tuple[str, int], ...]:
    """Return the folders that Python imports from, each with its time of change."""
    return tuple(
        (folder, os.stat(folder or ".").st_mtime_ns)
        for folder in sys.path
        if os.path.exists(folder or ".")
    )


def _find(kind: str, name: str) -> metadata.EntryPoint:
    """Return the entry point of a plain or qualified name."""
    installed = _installed(kind)
    distribution, _, plain = name.rpartition(":")
    providers = installed.get(plain, {})
    if distribution:
        key = _normalized(distribution)
        providers = {key: providers[key]} if key in providers else {}
    if not providers:
        known = candidates = names(kind)
        if distribution:
            candidates = [q for n, p in installed.items() for q in _qualified(n, p)]
        others = [other for other in KINDS if other != kind and name in names(other)]
        elsewhere = f" It is one of the {' and the '.join(others)}." if others else ""
        raise ValueError(
            f"Unknown name {name!r} among the {kind}."
            f"{elsewhere or _hint(name, candidates)} {_known(known)}"
        )
    if len(providers) > 1:
        owners = " and ".join(_describe(entry) for entry in providers.values())
        choices = " or ".join(repr(choice) for choice in _qualified(plain, providers))
        raise ValueError(
            f"name {name!r} ({kind}) is offered by {owners}. Say which: {choices}."
        )
    return next(iter(providers.values()))


def _qualified(name: str, distributions: Iterable[str]) -> list[str]:
    return sorted(f"{distribution}:{name}" for distribution in distributions)


def _normalized(distribution: str) -> str:
    """Return the normal form of the name of a distribution, see PEP 503."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _describe(entry_point: metadata.EntryPoint) -> str:
    assert entry_point.dist is not None  # see _installed
    return f"{entry_point.dist.name} {entry_point.dist.version}"


def _check_kind(kind: str) -> None:
    _check_string("kind", kind)
    if kind not in KINDS:
        raise ValueError(f"Unknown kind {kind!r}.{_hint(kind, KINDS)} {_known(KINDS)}")


def _check_string(argument: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a string, got {value!r}.")


def _hint(word: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {matches[0]!r}?" if matches and matches[0] != word else ""


def _known(known: Iterable[str]) -> str:
    return f"Known: {', '.join(repr(name) for name in known) or 'none'}."
