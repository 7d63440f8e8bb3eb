"""Changes of a model or its physics, before or after it is certified."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq

from .draws import Generator
from .outcomes import VoidError
from .random_models import ModelCase, matrix_denoiser

Mutation = Callable[[ModelCase, Generator], None]
MUTATIONS: dict[str, Mutation] = {}


def mutation(function: Mutation) -> Mutation:
    """Register a mutation under the name of its function."""
    MUTATIONS[function.__name__.replace("_", " ")] = function
    return function


def tripled(value: Any) -> Any:
    """Return three times the output of a part."""
    if isinstance(value, Tensor):
        return 3 * value
    if isinstance(value, dict):
        return {**value, "est": tuple(3 * part for part in value["est"])}
    if isinstance(value, tuple | list):
        return type(value)(tripled(part) for part in value)
    return value


def modules_of(case: ModelCase) -> list[nn.Module]:
    """Return all modules that a step may call."""
    found = list(case.model.modules())
    if isinstance(case.physics, nn.Module):
        found += list(case.physics.modules())
    for prior in case.model.prior:
        found += [m for m in prior.modules() if m not in found]
    return found


def parts_of(case: ModelCase) -> list[Any]:
    """Return the parts of a model that the step surely calls."""
    iterator = case.model.fixed_point.iterator
    prior = case.model.prior[0]
    parts = [iterator, iterator.f_step, iterator.g_step, prior, case.physics]
    parts.append(case.model.data_fidelity[0])
    parts += [p for p in (getattr(prior, "denoiser", None),) if p is not None]
    return parts


@mutation
def hook(case: ModelCase, rng: Generator) -> None:
    """Register a forward hook on a module."""
    part = rng.choice(modules_of(case))
    part.register_forward_hook(lambda module, args, out: tripled(out))


@mutation
def hook_on_a_part(case: ModelCase, rng: Generator) -> None:
    """Register a forward hook on a part that the step calls."""
    part = rng.choice(parts_of(case))
    if isinstance(part, nn.Module):
        part.register_forward_hook(lambda module, args, out: tripled(out))


@mutation
def pre_hook(case: ModelCase, rng: Generator) -> None:
    """Register a forward pre-hook on a part."""
    part = rng.choice(parts_of(case))
    if isinstance(part, nn.Module):
        part.register_forward_pre_hook(lambda module, args: tripled(args))


METHODS = (
    *("forward", "prox", "grad", "grad_f", "A", "A_adjoint", "A_adjoint_A", "prox_l2"),
    *("U", "V", "U_adjoint", "V_adjoint", "fn", "relaxation_step", "prox_d", "d"),
)


@mutation
def replaced_method(case: ModelCase, rng: Generator) -> None:
    """Replace a method on an instance."""
    part = rng.choice(parts_of(case))
    names = [name for name in METHODS if callable(getattr(part, name, None))]
    if not names:
        raise VoidError("no method to replace")
    name = rng.choice(names)
    before = getattr(part, name)
    setattr(part, name, lambda *args, **kwargs: tripled(before(*args, **kwargs)))


@mutation
def replaced_method_of_the_model(case: ModelCase, rng: Generator) -> None:
    """Replace a method of the model that builds its step."""
    model = case.model
    name = rng.choice(
        ["update_params_fn", "update_prior_fn", "update_data_fidelity_fn"]
    )
    before = getattr(model, name, None)
    if before is None:
        raise VoidError("no such method")
    if name == "update_params_fn":

        def louder(index: int) -> Any:
            values = dict(before(index))
            return {**values, "stepsize": 7 * values["stepsize"]}

        setattr(model, name, louder)
    else:
        setattr(model, name, lambda index: before(0))


@mutation
def class_of_a_part(case: ModelCase, rng: Generator) -> None:
    """Give a part another class."""
    part = rng.choice(parts_of(case))
    base = type(part)

    class Louder(base):  # type: ignore[misc, valid-type]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return tripled(super().forward(*args, **kwargs))

        def A(self, *args: Any, **kwargs: Any) -> Any:
            return tripled(super().A(*args, **kwargs))

        def grad(self, *args: Any, **kwargs: Any) -> Any:
            return tripled(super().grad(*args, **kwargs))

        def prox(self, *args: Any, **kwargs: Any) -> Any:
            return tripled(super().prox(*args, **kwargs))

    part.__class__ = Louder


@mutation
def step_size(case: ModelCase, rng: Generator) -> None:
    """Change a parameter of the algorithm."""
    values = case.model.params_algo
    names = [n for n in ("stepsize", "lambda", "beta") if n in values]
    entries = values[rng.choice(names)]
    factor = rng.choice([0.3, 3.0, 30.0])
    index = rng.randrange(len(entries))
    if isinstance(entries, list):
        entries[index] = entries[index] * factor
        return
    parameter = rng.choice(list(entries.parameters()))
    with torch.no_grad():
        if rng.random() < 0.5:
            parameter.add_(1.5)
        else:
            parameter.data.add_(1.5)


@mutation
def sigma_of_the_data(case: ModelCase, rng: Generator) -> None:
    """Change the data fidelity's constants."""
    fidelity = case.model.data_fidelity[0]
    if hasattr(fidelity, "kappa") and rng.random() < 0.5:
        fidelity.kappa = fidelity.kappa * 5
    else:
        fidelity.norm = fidelity.norm * rng.choice([0.1, 9.0])


@mutation
def inner_distance(case: ModelCase, rng: Generator) -> None:
    """Change the noise level inside the data fidelity's distance."""
    fidelity = case.model.data_fidelity[0]
    distance = getattr(fidelity, "d", None)
    if not isinstance(distance, nn.Module):
        raise VoidError("no distance")
    distance.norm = torch.tensor(9.0)


def tensors_of(case: ModelCase) -> Iterator[Tensor]:
    """Yield the tensors that the step may read."""
    for module in modules_of(case):
        yield from module._parameters.values()
        yield from module._buffers.values()
        yield from (v for v in vars(module).values() if isinstance(v, Tensor))


@mutation
def weights_in_place(case: ModelCase, rng: Generator) -> None:
    """Write to a tensor in place, in several ways."""
    found = [t for t in tensors_of(case) if t is not None and t.is_floating_point()]
    tensor = rng.choice(found)
    kind = rng.choice(["mul", "data", "foreach", "numpy", "swap", "copy"])
    with torch.no_grad():
        if kind == "mul":
            tensor.mul_(3)
        elif kind == "data":
            tensor.data.mul_(3)
        elif kind == "foreach":
            torch._foreach_mul_([tensor.data], 3.0)
        elif kind == "numpy" and not tensor.is_conj():
            array: np.ndarray = tensor.detach().numpy()
            array *= 3
        elif kind == "swap":
            tensor.data = 3 * tensor.data
        else:
            tensor.copy_(3 * tensor)


@mutation
def loaded_weights(case: ModelCase, rng: Generator) -> None:
    """Load a state dict with louder weights."""
    part = rng.choice([case.model, case.model.prior[0], case.physics])
    state = {
        k: 2 * v if v.is_floating_point() else v for k, v in part.state_dict().items()
    }
    part.load_state_dict(state)


@mutation
def attribute(case: ModelCase, rng: Generator) -> None:
    """Change a number, a flag or a word among the attributes of a module."""
    part: Any = rng.choice(modules_of(case))
    names = [
        name
        for name, value in vars(part).items()
        if isinstance(value, int | float | str) and not name.startswith("_")
    ]
    if not names:
        raise VoidError("no attribute")
    name = rng.choice(names)
    value = getattr(part, name)
    if isinstance(value, bool):
        setattr(part, name, not value)
    elif isinstance(value, str):
        words = ("circular", "replicate", "zeros", "componentwise", "constant")
        setattr(part, name, rng.choice(words))
    else:
        setattr(part, name, 3 * value + 1)


@mutation
def settings_of_a_layer(case: ModelCase, rng: Generator) -> None:
    """Change a setting of a convolution or an activation of a denoiser."""
    layers = [
        m for m in modules_of(case) if isinstance(m, nn.Conv2d | nn.LeakyReLU | nn.SELU)
    ]
    if not layers:
        raise VoidError("no layer")
    layer: Any = rng.choice(layers)
    if isinstance(layer, nn.Conv2d):
        layer.padding_mode = "circular"
        layer._reversed_padding_repeated_twice = [1, 1, 1, 1]
    elif isinstance(layer, nn.LeakyReLU):
        layer.negative_slope = 8.0
    else:
        layer.__class__ = nn.LeakyReLU
        layer.negative_slope = 8.0


@mutation
def another_prior(case: ModelCase, rng: Generator) -> None:
    """Replace the denoiser, or the prior."""
    prior = case.model.prior[0]
    if not hasattr(prior, "denoiser"):
        raise VoidError("no denoiser")
    count = torch.Size(case.size).numel()
    other = matrix_denoiser(rng, count)
    with torch.no_grad():
        other.weight.mul_(4)
    if rng.random() < 0.5:
        prior.denoiser = Wrapped(prior.denoiser)
    else:
        prior.denoiser = other


class Wrapped(nn.Module):
    """A wrapper of a denoiser that is louder."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return 3 * self.inner(x, *args, **kwargs)


@mutation
def another_iterator(case: ModelCase, rng: Generator) -> None:
    """Replace the iterator or one of its steps."""
    iterator = case.model.fixed_point.iterator
    name = rng.choice(["f_step", "g_step"])
    before = getattr(iterator, name)

    class Louder(nn.Module):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return tripled(before(*args, **kwargs))

    setattr(iterator, name, Louder())


@mutation
def g_first(case: ModelCase, rng: Generator) -> None:
    """Exchange the steps of the iterator."""
    iterator = case.model.fixed_point.iterator
    iterator.g_first = not iterator.g_first
    for name in ("f_step", "g_step"):
        getattr(iterator, name).g_first = iterator.g_first


@mutation
def layers(case: ModelCase, rng: Generator) -> None:
    """Change the number of layers."""
    DEQ = case.model.DEQ
    DEQ.layers = 1 if DEQ.layers > 1 else 2


@mutation
def mode(case: ModelCase, rng: Generator) -> None:
    """Set train mode."""
    case.model.train()
    for prior in case.model.prior:
        prior.train()


@mutation
def cast(case: ModelCase, rng: Generator) -> None:
    """Cast the model or the physics to float32 and back."""
    part = rng.choice([case.model, case.physics])
    part.float()
    if rng.random() < 0.8:
        part.double()


@mutation
def solver_only(case: ModelCase, rng: Generator) -> None:
    """Change what the step does not depend on."""
    case.model.DEQ.solver = deq.Anderson(rtol=1e-3)
