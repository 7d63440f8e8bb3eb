"""Whatever can change the step voids a certificate, before and after it is made."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import deepinv as dinv
import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound, UncertifiableModuleError

SIZE = (1, 2, 2)
SCALE = torch.ones(1)


class Helper:
    """An object that is no module, with a method and a setting."""

    def __init__(self) -> None:
        self.power = 1

    def apply(self, x: Tensor) -> Tensor:
        return x**self.power


@dataclasses.dataclass
class Settings:
    factor: Tensor
    levels: dict[str, list[int]]


class Half(dinv.models.Denoiser):
    """A denoiser of a user, whose map depends on attributes of many kinds."""

    strength = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.count = 1
        self.settings = Settings(torch.ones(1), {"a": [1, 2]})
        self.array = np.ones(2)
        self.matrix = scipy.sparse.eye(2, format="csr")
        self.helper = Helper()
        self._hidden = 1.0
        self.by_partial = functools.partial(torch.mul, other=torch.ones(1))
        self.by_method = Helper().apply
        weight = torch.ones(1)
        self.by_closure = lambda x: x * weight * SCALE
        self.inner = nn.Identity()

    def forward(self, x: Tensor, sigma: Any = None, **kwargs: Any) -> Tensor:
        return self.inner(self.helper.apply(self.by_closure(x))) / 2

    def lipschitz_bound(self, img_size: Any = None) -> Bound:
        return Bound(0.5)


def model_of(**arguments: Any) -> deq.optim.PGD:
    return deq.optim.PGD(
        **{
            "data_fidelity": dinv.optim.L2(),
            "prior": dinv.optim.PnP(Half()),
            "stepsize": 0.5,
            "sigma_denoiser": 0.1,
            "trainable_params": [],
            "DEQ": deq.Equilibrium(),
            **arguments,
        }
    )


def tripled(*args: Any) -> Any:
    output = args[-1]
    if isinstance(output, dict):
        return {**output, "est": tuple(3 * e for e in output["est"])}
    return 3 * output


def replace_method(part: Any, name: str) -> None:
    method = getattr(part, name)
    setattr(part, name, lambda *args, **kwargs: tripled(method(*args, **kwargs)))


class TripledStep(dinv.optim.optim_iterators.pgd.gStepPGD):
    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return 3 * super().forward(*args, **kwargs)


Change = Callable[[Any, Any], object]
REFUSED: dict[str, tuple[Change, str]] = {
    "hook on the iterator": (
        lambda m, p: m.fixed_point.iterator.register_forward_hook(tripled),
        "forward hooks",
    ),
    "hook on g_step": (
        lambda m, p: m.fixed_point.iterator.g_step.register_forward_hook(tripled),
        "forward hooks",
    ),
    "pre-hook on f_step": (
        lambda m, p: m.fixed_point.iterator.f_step.register_forward_pre_hook(
            lambda _, args: (3 * args[0], *args[1:])
        ),
        "forward pre hooks",
    ),
    "backward hook on the denoiser": (
        lambda m, p: m.prior[0].denoiser.inner.register_full_backward_hook(
            lambda _, given, taken: tuple(3 * g for g in given)
        ),
        "backward hooks",
    ),
    "backward pre-hook on the model": (
        lambda m, p: m.register_full_backward_pre_hook(lambda _, taken: taken),
        "backward pre hooks",
    ),
    "another g_step": (
        lambda m, p: setattr(m.fixed_point.iterator, "g_step", TripledStep()),
        "g_step of the iterator is not that of a new PGDIteration",
    ),
    "order of f_step": (
        lambda m, p: setattr(m.fixed_point.iterator.f_step, "g_first", True),
        "f_step.g_first of the iterator",
    ),
    "forward of the iterator": (
        lambda m, p: replace_method(m.fixed_point.iterator, "forward"),
        "its forward was replaced",
    ),
    "relaxation of the iterator": (
        lambda m, p: setattr(
            m.fixed_point.iterator, "relaxation_step", lambda u, v, beta: 3 * u
        ),
        "its relaxation_step was replaced",
    ),
    "gradient of the data fidelity": (
        lambda m, p: replace_method(m.data_fidelity[0], "grad"),
        "its grad was replaced",
    ),
    "distance of the data fidelity": (
        lambda m, p: setattr(
            m.data_fidelity[0], "d", dinv.optim.distance.L2Distance(sigma=0.1)
        ),
        "its distance",
    ),
    "prox of the prior": (
        lambda m, p: replace_method(m.prior[0], "prox"),
        "its prox was replaced",
    ),
    "step of the model": (
        lambda m, p: replace_method(m, "fixed_point_problem"),
        "its fixed_point_problem was replaced",
    ),
    "method of an object that is no module": (
        lambda m, p: replace_method(m.prior[0].denoiser.helper, "apply"),
        "denoiser.helper, a Helper, was replaced",
    ),
    "A_vjp of the physics": (
        lambda m, p: replace_method(p, "A_vjp"),
        "its A_vjp was replaced",
    ),
    "object without a readable state": (
        lambda m, p: setattr(m.prior[0].denoiser, "rows", iter(zip([1, 2]))),
        "rows",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_certify_refuses_a_changed_step_and_earlier_certificates_do_not_hold(
    name: str,
) -> None:
    change, reason = REFUSED[name]
    model, physics = model_of(), dinv.physics.Denoising().double()
    before = deq.certify(model, physics, SIZE)
    assert before.contracts
    assert before.holds_for(model, physics)
    change(model, physics)
    after = deq.certify(model, physics, SIZE)
    assert not before.holds_for(model, physics)
    if name != "object without a readable state":
        assert after.rate.is_vacuous
        assert reason in after.rate.source
        with pytest.raises(ValueError, match="does not hold any more"):
            before.check(model, physics)


def test_certify_names_an_object_whose_state_is_hidden() -> None:
    model, physics = model_of(), dinv.physics.Denoising()
    model.prior[0].denoiser.rows = (row for row in [1, 2])
    source = deq.certify(model, physics, SIZE).rate.source
    assert "model.prior.0.denoiser.rows is a builtins.generator" in source


@pytest.mark.parametrize(
    "register",
    [
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_forward_pre_hook,
        nn.modules.module.register_module_full_backward_hook,
    ],
)
def test_certify_refuses_global_hooks(register: Any) -> None:
    handle = register(lambda *args: None)
    try:
        certificate = deq.certify(model_of(), dinv.physics.Denoising(), SIZE)
        assert "global" in certificate.rate.source
    finally:
        handle.remove()


def test_certify_refuses_a_subclass_that_overrides_a_method() -> None:
    class Tripled(deq.optim.PGD):
        def update_params_fn(self, it: int) -> Any:
            return {**super().update_params_fn(it), "stepsize": 3.0}

        def fixed_point_problem(self, *args: Any, **kwargs: Any) -> Any:
            step, start = super().fixed_point_problem(*args, **kwargs)
            return (lambda x: 3 * step(x)), start

    class Renamed(deq.optim.PGD):
        def extra_repr(self) -> str:
            return "the same step"

    physics = dinv.physics.Denoising()
    for kind, refused in ((Tripled, True), (Renamed, False)):
        model = kind(
            data_fidelity=dinv.optim.L2(),
            prior=dinv.optim.Tikhonov(),
            stepsize=0.5,
            trainable_params=[],
            DEQ=deq.Equilibrium(),
        )
        rate = deq.certify(model, physics, SIZE).rate
        assert rate.is_vacuous == refused
        assert not refused or "Define contraction in Tripled, too" in rate.source


SEEN: dict[str, Callable[[Half], object]] = {
    "integer": lambda d: setattr(d, "count", 2),
    "tensor in a dataclass": lambda d: d.settings.factor.mul_(2),
    "list in a dictionary in a dataclass": lambda d: d.settings.levels["a"].append(3),
    "array": lambda d: d.array.__imul__(2),
    "sparse matrix": lambda d: d.matrix.data.__imul__(2),
    "object that is no module": lambda d: setattr(d.helper, "power", 2),
    "name with an underscore": lambda d: setattr(d, "_hidden", 2.0),
    "functools.partial": lambda d: d.by_partial.keywords["other"].mul_(2),
    "bound method": lambda d: setattr(d.by_method.__self__, "power", 2),
    "closure": lambda d: d.by_closure.__closure__[0].cell_contents.mul_(2),
    "attribute of the class": lambda d: setattr(type(d), "strength", 2.0),
    "method of the class": lambda d: setattr(
        type(d), "forward", lambda self, x, sigma=None: 3 * x
    ),
    "data of a tensor": lambda d: d.settings.factor.data.mul_(2),
    "mode of a part that reads it": lambda d: setattr(d, "inner", nn.Dropout(0.5)),
}


@pytest.mark.parametrize("name", SEEN)
def test_certificate_does_not_hold_after_a_change_of_the_denoiser(name: str) -> None:
    kind = type("Half", (Half,), dict(vars(Half)))  # a class that may be changed
    denoiser = Half()
    denoiser.__class__ = kind
    model, physics = model_of(prior=dinv.optim.PnP(denoiser)), dinv.physics.Denoising()
    certificate = deq.certify(model, physics, SIZE)
    SEEN[name](denoiser)
    assert not certificate.holds_for(model, physics)


def test_certificate_does_not_hold_after_a_change_of_a_global_variable() -> None:
    model, physics = model_of(), dinv.physics.Denoising()
    certificate = deq.certify(model, physics, SIZE)
    with torch.no_grad():
        SCALE.mul_(2)
        assert not certificate.holds_for(model, physics)
        SCALE.div_(2)
    assert certificate.holds_for(model, physics)


@pytest.mark.parametrize("algorithm", ["PGD", "GD", "HQS", "DRS", "ADMM"])
def test_certificate_holds_after_a_run_and_in_float64(algorithm: str) -> None:
    denoiser = deq.models.ConvexPotentialDenoiser(1, contraction=0.9, pretrained=None)
    implicit = dinv.optim.RED if algorithm == "GD" else dinv.optim.PnP
    model = getattr(deq.optim, algorithm)(
        data_fidelity=dinv.optim.L2(),
        prior=implicit(denoiser),
        stepsize=0.5,
        sigma_denoiser=0.1,
        DEQ=deq.Equilibrium(),
    )
    physics = dinv.physics.Inpainting((1, 8, 8), mask=0.5)
    certificate = deq.certify(model, physics, (1, 8, 8))
    y = physics(torch.rand(2, 1, 8, 8))
    model(y, physics).sum().backward()
    model.max_iter = 50
    certificate.check(model, physics)
    certificate.check(model.double().eval(), physics.double())


def test_certificate_does_not_hold_in_a_lower_precision() -> None:
    """The values are the same, but what is computed with them is rounded more."""
    model = model_of().double()
    physics = dinv.physics.Inpainting(SIZE, mask=torch.ones(SIZE, dtype=torch.float64))
    certificate = deq.certify(model, physics, SIZE)
    assert certificate.holds_for(model, physics)
    assert not certificate.holds_for(model, physics.float())


def test_refuse_changed_accepts_compiled_modules_and_refuses_a_false_one() -> None:
    layer = nn.Linear(2, 2)
    layer.compile(backend="eager")
    assert deq.lipschitz(layer).is_certified
    layer._compiled_call_impl = lambda x: 3 * x
    with pytest.raises(UncertifiableModuleError, match="_compiled_call_impl"):
        deq.lipschitz(layer)
