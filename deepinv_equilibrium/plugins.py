r"""
Registry of reconstructors, denoisers, priors, data fidelities and physics.

A distribution offers a component by an entry point of the group
``deepinv_equilibrium.<kind>``, which names a class or a function that returns the
component:

.. code-block:: toml

    [project.entry-points."deepinv_equilibrium.denoisers"]
    my-denoiser = "my_package.my_module:MyDenoiser"

Listing the names reads metadata only; a component's module is imported when it is
loaded, and no other component's. This package offers its own in the same way.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

#: The class that a component of each kind is an instance of.
_BASE_CLASSES = {
    "reconstructors": ("deepinv.models", "Reconstructor"),
    "denoisers": ("deepinv.models", "Denoiser"),
    "priors": ("deepinv.optim", "Prior"),
    "data_fidelities": ("deepinv.optim", "DataFidelity"),
    "physics": ("deepinv.physics", "Physics"),
}

#: The kinds of components.
KINDS = tuple(_BASE_CLASSES)

_registered: dict[str, dict[str, Callable[..., Any]]] = {kind: {} for kind in KINDS}


class PluginError(RuntimeError):
    """A plugin cannot be imported, or does not give what its kind promises."""


def names(kind: str) -> list[str]:
    r"""
    Names of the components of a kind, installed or registered in this process.

    Nothing is imported. Each name can be given to :func:`load` and :func:`create`; one
    that several distributions offer is listed for each, as ``distribution:name``.

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
    Import one component, and nothing else.

    What is registered in this process goes before what is installed under its name.

    :param str kind: one of :data:`KINDS`.
    :param str name: name of the component, or ``distribution:name`` where several
        distributions offer the name.
    :return: (Callable) the class or function that returns the component.
    :raises ValueError: if the kind or the name is unknown, or if several distributions
        offer the name.
    :raises PluginError: if the component cannot be imported; the error is chained.
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
    Load a component and create it.

    :param str kind: one of :data:`KINDS`.
    :param str name: name of the component, see :func:`load`.
    :param kwargs: keyword arguments of the component, see its own documentation.
    :return: the component: a :class:`deepinv.models.Reconstructor`,
        :class:`deepinv.models.Denoiser`, :class:`deepinv.optim.Prior`,
        :class:`deepinv.optim.DataFidelity` or :class:`deepinv.physics.Physics`.
    :raises ValueError: as :func:`load`.
    :raises TypeError: if a keyword argument is unknown or a required one is missing.
    :raises PluginError: as :func:`load`, and if the component is not of its kind.

    :Example:

    >>> import deepinv_equilibrium as deq
    >>> model = deq.plugins.create(
    ...     "reconstructors", "retune-pgd", denoiser="small-drunet", restarts=20
    ... )

    """
    factory = load(kind, name)
    signature = inspect.signature(factory)
    try:
        signature.bind_partial(**kwargs)  # a misspelt argument before a missing one
        signature.bind(**kwargs)
    except TypeError as error:
        hints = [_hint(key, signature.parameters) for key in kwargs]
        raise TypeError(
            f"{name!r} ({kind}) {error}.{''.join(hints)} It takes {signature}."
        ) from None
    component = factory(**kwargs)
    module, base = _BASE_CLASSES[kind]
    if not isinstance(component, getattr(importlib.import_module(module), base)):
        raise PluginError(
            f"The plugin {name!r} ({kind}) must create a {module}.{base}, "
            f"got {type(component).__name__}."
        )
    return component


def register(
    kind: str, name: str, factory: Callable[..., Any], *, override: bool = False
) -> None:
    r"""
    Offer a component under a name in this process, for a notebook or a script.

    :param str kind: one of :data:`KINDS`.
    :param str name: the name, without a colon.
    :param Callable factory: class or function that returns the component.
    :param bool override: whether to go before what has this name already; what is
        installed can still be had as ``distribution:name``. Default: ``False``.
    :raises ValueError: if the kind is unknown, if the name is empty or has a colon, or
        if it is taken and ``override`` is ``False``.
    :raises TypeError: if the name is not a string or the factory is not callable.
    """
    _check_kind(kind)
    _check_string("name", name)
    if not name or ":" in name:
        raise ValueError(
            "name must not be empty nor have a colon, which stands between a "
            f"distribution and its name, got {name!r}."
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


def _installed(kind: str) -> dict[str, dict[str, metadata.EntryPoint]]:
    """The entry points of a kind by name, then by distribution."""
    installed: dict[str, dict[str, metadata.EntryPoint]] = {}
    for entry_point in metadata.entry_points(group=f"deepinv_equilibrium.{kind}"):
        if entry_point.dist is not None:
            providers = installed.setdefault(entry_point.name, {})
            providers[_normalized(entry_point.dist.name)] = entry_point
    return installed


def _find(kind: str, name: str) -> metadata.EntryPoint:
    """The one entry point that a plain or qualified name stands for."""
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
        raise ValueError(
            f"Unknown name {name!r} among the {kind}.{_hint(name, candidates)} "
            f"{_known(known)}"
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
    """Distribution names are equal up to case and runs of ``-_.``, see PEP 503."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _describe(entry_point: metadata.EntryPoint) -> str:
    assert entry_point.dist is not None  # _installed keeps no other
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
