"""Certificates of models that are changed before or after they are certified."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass
from typing import Any

import deepinv as dinv
import numpy as np
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound

from .draws import Draw, choose, generator
from .outcomes import VoidError, ask, require, require_at_most
from .random_models import models
from .random_mutations import MUTATIONS
from .rate_attacks import certificate_of
from .steps import step_norm


def changes_after_certification(draw: Draw) -> None:
    """A certificate of a model that was changed since does not hold, unless its rate
    bounds the changed step, too."""
    case = draw(models(simple=True))
    certificate = certificate_of(case)
    if not certificate.rate.is_certified or certificate.rate.is_vacuous:
        raise VoidError("no rate is certified")
    rng = generator(draw)
    name = choose(draw, tuple(MUTATIONS))
    change(name, case, rng)
    holds = ask(certificate.holds_for, case.model, case.physics)
    if not holds:
        try:
            certificate.check(case.model, case.physics)
        except ValueError:
            return
        require(False, f"check accepts what holds_for does not: {name} of {case}")
    ask(certificate.check, case.model, case.physics)
    truth = step_norm(case, rng)
    require_at_most(truth, certificate.rate.value, f"{name} of {case}", 1e-9)


def changes_before_certification(draw: Draw) -> None:
    """The certified rate of a changed model bounds the changed step."""
    case = draw(models(simple=True))
    rng = generator(draw)
    name = choose(draw, tuple(MUTATIONS))
    change(name, case, rng)
    certificate = certificate_of(case)
    if not certificate.rate.is_certified or certificate.rate.is_vacuous:
        raise VoidError("no rate is certified")
    truth = step_norm(case, rng)
    require_at_most(truth, certificate.rate.value, f"{name} before {case}", 1e-9)


def change(name: str, case: Any, rng: Any) -> None:
    """Apply a mutation; a mutation that torch or deepinv refuses is void."""
    try:
        MUTATIONS[name](case, rng)
    except VoidError:
        raise
    except Exception as error:
        raise VoidError(repr(error)) from error


@dataclass
class Box:
    """A container of anything."""

    value: Any


class Slotted:
    """A container without a dictionary."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


CONTAINERS: dict[str, Any] = {
    "attribute": lambda v: v,
    "list": lambda v: [v],
    "dict": lambda v: {"value": v},
    "user dict": lambda v: UserDict(value=v),
    "dataclass": Box,
    "nested": lambda v: {"box": [Box((v,))]},
    "slots": Slotted,
    "array": lambda v: np.array([v]),
    "object array": lambda v: np.array([{"value": v}], dtype=object),
    "tensor": lambda v: torch.tensor([v]),
    "set": lambda v: {v},
    "private": lambda v: v,
    "class": lambda v: v,
    "text": str,
    "fraction": lambda v: complex(v),
}


def content(box: Any) -> float:
    """Return the number in a container."""
    while not isinstance(box, int | float | complex | np.number | str):
        if isinstance(box, Tensor | np.ndarray):
            box = box.tolist()[0]
        elif isinstance(box, list | tuple):
            box = box[0]
        elif isinstance(box, dict | UserDict):
            box = next(iter(box.values()))
        elif isinstance(box, set):
            box = next(iter(box))
        else:
            box = box.value
    return float(complex(box).real)


class Holder(dinv.models.Denoiser):
    """A denoiser with a factor in a container, which it declares."""

    factor_of_class: Any = 0.5

    def __init__(self, where: str, number: Any) -> None:
        super().__init__()
        self.where = where
        self.put(number)

    @property
    def name(self) -> str:
        return "_hidden" if self.where == "private" else "box"

    def put(self, number: Any) -> None:
        """Store a number."""
        if self.where == "class":
            type(self).factor_of_class = number
        else:
            setattr(self, self.name, CONTAINERS[self.where](number))

    @property
    def factor(self) -> float:
        if self.where == "class":
            return float(self.factor_of_class)
        return content(getattr(self, self.name))

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return self.factor * x

    def lipschitz_bound(self, img_size: Any = None) -> Bound:
        return Bound(self.factor * (1 + 1e-12))


def hidden_numbers(draw: Draw) -> None:
    """A certificate does not hold after a change of a number that a user's denoiser
    keeps in any container that its attributes show."""
    where = choose(draw, tuple(CONTAINERS))
    rng = generator(draw)
    whole = rng.random() < 0.5 and where not in ("set",)
    first, second = (1, 7) if whole else (0.5, 3.5)
    denoiser = Holder(where, first)
    size = (1, 2, 2)
    model = ask(
        deq.optim.PGD,
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=0.5,
        sigma_denoiser=0.1,
        trainable_params=[],
        DEQ=deq.Equilibrium(),
    )
    physics = dinv.physics.Denoising().double()
    certificate = ask(deq.certify, model, physics, size)
    if certificate.rate.is_vacuous:
        return
    denoiser.put(second)
    try:
        holds = ask(certificate.holds_for, model, physics)
    finally:
        Holder.factor_of_class = 0.5
    require(not holds, f"{where}: {first} became {second}, and the certificate holds")


class UserPhysics(dinv.physics.LinearPhysics):
    """A user's physics with a factor in a container."""

    def __init__(self, where: str, number: Any) -> None:
        super().__init__()
        self.where, self.box = where, CONTAINERS[where](number)

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        return content(self.box) * x

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        return content(self.box) * y

    def spectrum(self, img_size: Any) -> Any:
        square = content(self.box) ** 2
        return deq.certificates.Interval(
            Bound(square * (1 - 1e-12), is_lower=True), Bound(square * (1 + 1e-12))
        )


def hidden_numbers_of_physics(draw: Draw) -> None:
    """A certificate does not hold after a change of a number that a user's physics
    keeps in any container."""
    where = choose(draw, tuple(k for k in CONTAINERS if k not in ("private", "class")))
    rng = generator(draw)
    first, second = (1, 3) if rng.random() < 0.5 else (1.0, 3.0)
    physics = UserPhysics(where, first)
    model = ask(
        deq.optim.PGD,
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.Tikhonov(),
        stepsize=0.5,
        trainable_params=[],
        DEQ=deq.Equilibrium(),
    )
    certificate = ask(deq.certify, model, physics, (1, 2, 2))
    if certificate.rate.is_vacuous or not certificate.rate.is_certified:
        return
    physics.box = CONTAINERS[where](second)
    holds = ask(certificate.holds_for, model, physics)
    require(not holds, f"{where}: {first} became {second}, and the certificate holds")
