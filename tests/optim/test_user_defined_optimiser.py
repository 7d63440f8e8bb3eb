"""Optimisers and iterators of users at equilibrium."""

from __future__ import annotations

from typing import Any, ClassVar

import deepinv as dinv
import pytest
import torch
from deepinv.optim import BaseOptim, OptimIterator
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.optim import AlgorithmState, EquilibriumOptim

PARTS = {"data_fidelity": dinv.optim.L2(), "prior": dinv.optim.Tikhonov()}
CONFIGURATIONS = [
    True,
    deq.Equilibrium(
        deq.Anderson(rtol=1e-12, max_iter=200), deq.Implicit(deq.GMRES(rtol=1e-12))
    ),
    deq.ReTune(layers=50, restarts=4),
]


class HeavyBallIterator(OptimIterator):
    """Gradient descent with momentum; the velocity is a part of the state."""

    def forward(
        self,
        X: dict[str, Any],
        cur_data_fidelity: Any,
        cur_prior: Any,
        cur_params: dict[str, Any],
        y: Tensor,
        physics: Any,
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Any]:
        x, v = X["est"]
        gradient = cur_data_fidelity.grad(x, y, physics)
        gradient = gradient + cur_params["lambda"] * cur_prior.grad(x)
        v = cur_params["momentum"] * v - cur_params["stepsize"] * gradient
        return {"est": (x + v, v), "cost": None}


class HeavyBall(BaseOptim):
    """An optimiser with a parameter that deepinv's optimisers do not have."""

    def __init__(
        self,
        data_fidelity: Any = None,
        prior: Any = None,
        lambda_reg: float = 1.0,
        stepsize: float = 0.5,
        momentum: float = 0.25,
        **kwargs: Any,
    ) -> None:
        parameters = {"lambda": lambda_reg, "stepsize": stepsize, "momentum": momentum}
        super().__init__(
            HeavyBallIterator(),
            parameters,
            data_fidelity=data_fidelity,
            prior=prior,
            custom_init=kwargs.pop("custom_init", at_rest),
            **kwargs,
        )


def at_rest(y: Tensor, physics: Any) -> dict[str, Any]:
    x = physics.A_adjoint(y)
    return {"est": (x, torch.zeros_like(x))}


def velocity_of_zero(estimate: Any, K: Any) -> Any:
    return estimate if len(estimate) > 1 else (*estimate, torch.zeros_like(estimate[0]))


class HeavyBallEquilibrium(EquilibriumOptim, HeavyBall):
    algorithm_state: ClassVar[AlgorithmState] = AlgorithmState(
        (0, 1), 2, velocity_of_zero
    )


class FromIterator(EquilibriumOptim):
    """An optimiser that is built from an iterator alone."""

    algorithm_state = HeavyBallEquilibrium.algorithm_state

    def __init__(self, stepsize: Any = 0.5, **kwargs: Any) -> None:
        parameters = {"lambda": 1.0, "stepsize": stepsize, "momentum": 0.25}
        super().__init__(HeavyBallIterator(), parameters, **kwargs)


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=["True", "implicit", "ReTune"])
@pytest.mark.parametrize("kind", [HeavyBallEquilibrium, FromIterator])
def test_user_defined_optimiser_has_solution_and_gradient_of_the_closed_form(
    kind: type[Any], config: Any
) -> None:
    model = kind(**PARTS, DEQ=config).double()
    physics = dinv.physics.Denoising()
    y = torch.rand(2, 1, 4, 4, dtype=torch.float64).requires_grad_()
    for init in (None, torch.zeros_like(y)):
        x = model(y, physics, init=init)
        torch.testing.assert_close(x, y / 2, rtol=1e-9, atol=1e-9)
    (weight,) = model.params_algo["lambda"].parameters()
    gradients = torch.autograd.grad(x.sum(), [weight, y])
    # x = y / (1 + lambda), and lambda = exp(p)
    torch.testing.assert_close(gradients[0], -y.sum().detach() / 4, rtol=1e-4, atol=0)
    torch.testing.assert_close(
        gradients[1], 0.5 * torch.ones_like(y), rtol=1e-4, atol=0
    )


def test_user_defined_optimiser_trains_its_parameters_under_the_keys_of_deepinv() -> (
    None
):
    arguments = {**PARTS, "momentum": 0.5, "trainable_params": ["momentum"]}
    theirs = HeavyBall(unfold=True, max_iter=1, **arguments)
    ours = HeavyBallEquilibrium(DEQ=deq.Equilibrium(), **arguments)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.params_algo["momentum"][0] = 0.75
    theirs.load_state_dict(ours.state_dict())
    assert float(theirs.params_algo["momentum"][0].detach()) == pytest.approx(0.75)
    layers = HeavyBallEquilibrium(
        **{**arguments, "momentum": [0.1, 0.2]}, DEQ=deq.ReTune(2, 3)
    )
    assert len(list(layers.parameters())) == 2


def test_user_defined_relaxation_is_used() -> None:
    class Halfway(OptimIterator):
        def relaxation_step(self, u: Tensor, v: Tensor, beta: Any) -> Tensor:
            return (u + v) / 2

        def forward(self, X: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            (x,) = X["est"]
            return {"est": (self.relaxation_step(0 * x, x, 1.0),), "cost": None}

    model = EquilibriumOptim(Halfway(), **PARTS, DEQ=deq.ReTune(1, 3))
    y = torch.ones(1, 1, 2, 2)
    assert torch.equal(model(y, dinv.physics.Denoising()), y / 8)


def test_class_definition_raises_for_bases_in_the_wrong_order() -> None:
    match = r"class Wrong\(EquilibriumOptim, HeavyBall\)"
    with pytest.raises(TypeError, match=match):
        type("Wrong", (HeavyBall, EquilibriumOptim), {})


def test_class_definition_raises_for_a_constructor_without_keyword_arguments() -> None:
    class Closed(BaseOptim):
        def __init__(self, stepsize: float = 1.0) -> None:
            super().__init__(HeavyBallIterator(), {"stepsize": stepsize})

    with pytest.raises(
        TypeError, match=r"Closed\.__init__ takes no max_iter, .*kwargs"
    ):
        type("Wrong", (EquilibriumOptim, Closed), {})


def test_constructor_refuses_a_misspelt_parameter_of_a_user_defined_optimiser() -> None:
    with pytest.raises(TypeError, match="did you mean 'momentum'"):
        HeavyBallEquilibrium(**PARTS, momentun=0.5, DEQ=True)
