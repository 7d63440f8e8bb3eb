"""A model in one file: how it was made, its settings and its weights."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import plugins
from ..certificates import Bound
from ..certificates.fingerprints import changed_names, fingerprint
from ..equilibrium import Equilibrium, ReTune
from ..fixed_points import Adjoint, FixedPointSolver, LinearSolver, Restarts

FORMAT = 1
_SETTINGS = {
    "solvers": FixedPointSolver,
    "linear_solvers": LinearSolver,
    "adjoints": Adjoint,
}
_PLAIN = (bool, int, float, str, Tensor, type(None))
# Each dictionary that stands for an object has exactly one of these keys.
_TAGS = frozenset({"component", "configuration", "tuple", "dictionary", "bound"})


class SavedModelError(RuntimeError):
    """A file is not a saved model, or the model that it describes cannot be made."""


def save(model: nn.Module, path: str | Path) -> None:
    r"""
    Write a model to one file, from which :func:`load` makes it again: the name and the
    arguments with which :func:`deepinv_equilibrium.plugins.create` made it, its
    ``DEQ``, and its weights. The file has no pickled code.

    The model is made again from what is written, and compared with the model, before
    the file is written. The file is complete at any time: a failure leaves an older
    file as it was.

    :Example:

    >>> import tempfile, deepinv_equilibrium as deq
    >>> model = deq.plugins.create(
    ...     "reconstructors", "certified-deq-pgd", contraction=0.9
    ... )
    >>> path = tempfile.mkdtemp() + "/model.pt"
    >>> deq.save(model, path)
    >>> deq.load(path).DEQ == model.DEQ
    True

    :param torch.nn.Module model: a model that ``plugins.create`` made, such as a
        reconstructor or a denoiser. Its arguments are numbers, strings, tensors,
        bounds, solvers, adjoints, lists and dictionaries of these, and components
        that ``plugins.create`` made.
    :param str, pathlib.Path path: the file.
    :raises TypeError: if ``model`` is not a module, or one of its arguments cannot be
        written.
    :raises ValueError: if ``plugins.create`` did not make the model, or the model was
        changed in a way that neither its weights nor its ``DEQ`` have.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch module, got {type(model).__name__}.")
    writer = _Writer()
    recipe = writer.component("model", model)
    weights = {
        name: value.detach().cpu() if isinstance(value, Tensor) else value
        for name, value in model.state_dict().items()
    }
    content = {
        "format": FORMAT,
        "recipe": recipe,
        "DEQ": writer.value("model.DEQ", getattr(model, "DEQ", None)),
        "in_training": [name for name, m in model.named_modules() if m.training],
        "weights": weights,
        # Step sizes are trained as logarithms and written as natural values, from which
        # the logarithms follow up to rounding only.
        "exact": {
            name: parameter.detach().cpu()
            for name, parameter in model.named_parameters()
            if not torch.equal(parameter, weights[name].to(parameter))
        },
        "versions": {
            name: metadata.version(name)
            for name in ("deepinv_equilibrium", "deepinv", "torch", *writer.plugins)
        },
    }
    changed = changed_names(fingerprint(model), fingerprint(_made(content)))
    if changed:
        raise ValueError(
            f"the model differs from what {recipe['component'][1]!r} makes with the "
            f"same arguments, weights and DEQ, in {', '.join(changed[:5])}: build the "
            "change into the arguments, or into a function of your own that you "
            "register by plugins.register."
        )
    path = Path(path)
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        torch.save(content, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: str | Path, device: torch.device | str = "cpu") -> Any:
    r"""
    Make the model that :func:`save` has written.

    The file is read with ``weights_only=True``: it cannot run code of its own. The
    component is looked up by its name, so a plugin that offers it must be installed, or
    its function registered by :func:`deepinv_equilibrium.plugins.register`. The file
    has the names and versions of the plugins that it was written with.

    :param str, pathlib.Path path: the file.
    :param torch.device, str device: where the model is put. Default: ``"cpu"``.
    :return: (torch.nn.Module) the model, each module in the mode (train or eval) in
        which it was saved.
    :raises FileNotFoundError: if there is no such file.
    :raises SavedModelError: if the file is damaged or is not a saved model, no
        component has the name, or the installed versions make another model from it.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError, KeyError) as error:
        raise SavedModelError(
            f"{path} cannot be read as a saved model: {type(error).__name__}. It is "
            "damaged, or another program wrote it; deq.save writes such files."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SavedModelError(
            f"{path} is not a model that deq.save has written. Load a checkpoint of "
            "the Trainer with model.load_state_dict."
        )
    try:
        return _made(content).to(device)
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        versions = content.get("versions", {})
        written = ", ".join(f"{name} {version}" for name, version in versions.items())
        registered = ""
        if isinstance(error, ValueError):  # as of an unknown name
            registered = (
                " If a script gave the component its name by plugins.register, import "
                "that script first."
            )
        raise SavedModelError(
            f"the model in {path} cannot be made: {error} It was written with "
            f"{written}.{_to_install(versions)}{registered}"
        ) from error


def _to_install(versions: Mapping[str, str]) -> str:
    """Name what is missing or has another version than a file was written with."""
    missing, others = [], []
    for name, version in versions.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
        else:
            if installed != version:
                others.append(f"{name} {installed}")
    text = f" Install {', '.join(missing)}." if missing else ""
    return text + (f" Installed are {', '.join(others)}." if others else "")


def _made(content: Mapping[str, Any]) -> Any:
    """Return the model of a file's content."""
    model = _read(content["recipe"])
    weights = content["weights"]
    tensors = [value for value in weights.values() if isinstance(value, Tensor)]
    if any(value.dtype is torch.float64 for value in tensors):
        model.double()  # unlike .to(torch.float64), it keeps complex buffers
    model.load_state_dict(weights)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in content["exact"].items():
            parameters[name].copy_(value)
    configuration = _read(content["DEQ"])
    if configuration is not None:
        model.DEQ = configuration
    for name, module in model.named_modules():
        module.training = name in content["in_training"]
    return model


class _Writer:
    """Turns arguments into numbers, strings, tensors, lists and dictionaries."""

    def __init__(self) -> None:
        #: The distributions that offer the components.
        self.plugins: set[str] = set()

    def component(self, argument: str, component: Any) -> dict[str, Any]:
        """Return the recipe of a component."""
        origin = plugins.origin(component)
        if origin is None:
            raise ValueError(
                f"{argument} is a {type(component).__name__} that plugins.create did "
                f"not make, so its arguments are not known. {_remedy(component)} "
                "Weights that are trained already move by load_state_dict."
            )
        arguments = {
            name: self.value(f"{argument}.{name}", value)
            for name, value in origin.arguments.items()
        }
        if arguments.get("pretrained") == "download":
            arguments["pretrained"] = None  # the file has the weights
        return self._named(origin.kind, origin.name, arguments)

    def _named(self, kind: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        distribution = plugins.distribution_of(kind, name)
        if distribution is not None:
            self.plugins.add(distribution)
        return {"component": [kind, name], "arguments": arguments}

    def value(self, argument: str, value: Any) -> Any:
        """Return an argument as plain data."""
        if isinstance(value, Tensor):
            return value.detach().cpu()
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, list):
            return [self.value(argument, item) for item in value]
        if isinstance(value, tuple):
            return {"tuple": [self.value(argument, item) for item in value]}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            items = {k: self.value(f"{argument}[{k!r}]", v) for k, v in value.items()}
            return {"dictionary": items}
        if isinstance(value, Bound):
            # The rate of Safeguarded, with what is known of it.
            return {"bound": dataclasses.asdict(value) | {"kind": str(value.kind)}}
        if isinstance(value, ReTune):
            names: tuple[str, ...] = ("layers", "restarts", "rtol", "on_failure")
            return self._configuration(argument, value, names)
        if isinstance(value, Equilibrium):
            names = ("solver", "adjoint", "layers", "on_failure")
            return self._configuration(argument, value, names)
        for kind, base in _SETTINGS.items():
            if isinstance(value, base):
                return self._setting(argument, kind, value)
        return self.component(argument, value)

    def _configuration(
        self, argument: str, value: Any, names: tuple[str, ...]
    ) -> dict[str, Any]:
        arguments = {n: self.value(f"{argument}.{n}", getattr(value, n)) for n in names}
        return {"configuration": type(value).__name__, "arguments": arguments}

    def _setting(self, argument: str, kind: str, value: Any) -> dict[str, Any]:
        """Return the name and the fields of a solver or an adjoint."""
        restarts = type(value) is Restarts  # of ReTune, which the registry lacks
        name = "" if restarts else plugins.name_of(kind, type(value)) or ""
        if not (name or restarts) or not dataclasses.is_dataclass(value):
            raise TypeError(
                f"{argument} is a {type(value).__name__}, which has no name among the "
                f"{kind}: register it by plugins.register({kind!r}, NAME, "
                f"{type(value).__name__})."
            )
        arguments = {
            field.name: self.value(
                f"{argument}.{field.name}", getattr(value, field.name)
            )
            for field in dataclasses.fields(value)
            if field.init
        }
        if restarts:
            return {"component": ["restarts", "restarts"], "arguments": arguments}
        return self._named(kind, name, arguments)


def _remedy(component: Any) -> str:
    """Return how to make a component whose arguments are known."""
    for kind in plugins.KINDS:
        name = plugins.name_of(kind, type(component))
        if name is not None:
            return f"Create it by plugins.create({kind!r}, {name!r}, ...)."
    return (
        "Create it by its name; for a component of your own, register a function that "
        "builds it: plugins.register(KIND, NAME, build)."
    )


def _read(value: Any) -> Any:
    """Return what plain data stand for."""
    if isinstance(value, list):
        return [_read(item) for item in value]
    if not isinstance(value, dict):
        return value
    (tag,) = _TAGS & value.keys()
    if tag == "tuple":
        return tuple(_read(item) for item in value["tuple"])
    if tag == "bound":
        return Bound(**value["bound"])
    if tag == "dictionary":
        return {key: _read(item) for key, item in value["dictionary"].items()}
    arguments = {key: _read(item) for key, item in value["arguments"].items()}
    if tag == "configuration":
        kind = {"ReTune": ReTune, "Equilibrium": Equilibrium}[value["configuration"]]
        return kind(**arguments)
    kind_of_component, name = value["component"]
    if kind_of_component == "restarts":
        return Restarts(**arguments)
    return plugins.create(kind_of_component, name, **arguments)
