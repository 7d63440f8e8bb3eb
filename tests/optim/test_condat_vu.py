"""Condat and Vũ's algorithm: solutions, gradients, parameters, and its parts."""

from __future__ import annotations

from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.optim.condat_vu import CondatVuOptim
from deepinv_equilibrium.optim.total_variation import differences, differences_adjoint

from .central_differences import directional_derivative

SHAPE = (2, 4, 5)
EXACT = deq.Equilibrium(
    deq.Anderson(rtol=1e-13, max_iter=2000),
    deq.Implicit(deq.GMRES(rtol=1e-12)),
    on_failure="raise",
)


def measured() -> tuple[Tensor, dinv.physics.LinearPhysics]:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.rand(1, 1, 3, 3, generator=generator, dtype=torch.float64)
    kernel[..., 1, 1] += 3
    physics = dinv.physics.BlurFFT(SHAPE, filter=kernel / kernel.sum()).double()
    physics.update_parameters(filter=kernel / kernel.sum())
    y = torch.rand(3, *SHAPE, generator=generator, dtype=torch.float64)
    return y, physics


class Smoothed(dinv.optim.Prior):
    r"""The function :math:`h(u) = \sum_i \sqrt{1 + u_i^2}`. Newton's method computes
    the proximal operator up to rounding; one recorded step has its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.explicit_prior = True

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return (1 + x.square()).sqrt().flatten(1).sum(1)

    def prox(
        self, x: Tensor, *args: Any, gamma: float | Tensor = 1.0, **kwargs: Any
    ) -> Tensor:
        def newton(u: Tensor) -> Tensor:
            root = (1 + u.square()).sqrt()
            return u - (u + gamma * u / root - x) / (1 + gamma / root**3)

        with torch.no_grad():
            u = x / (1 + gamma)
            for _ in range(50):
                u = newton(u)
        return newton(u)


class ScaledDifferences(nn.Module):
    """Differences with a trained weight for each direction."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.tensor([0.5, 0.8], dtype=torch.float64)
        self.weight = nn.Parameter(weight.reshape(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * differences(x)

    def adjoint(self, u: Tensor) -> Tensor:
        return differences_adjoint(self.weight * u)


def arguments(**changes: Any) -> dict[str, Any]:
    K = ScaledDifferences()
    return {
        "K": K,
        "K_adjoint": K.adjoint,
        "data_fidelity": dinv.optim.L2(),
        "prior": dinv.optim.Tikhonov(),
        "composed_prior": Smoothed(),
        "lambda_reg": 0.3,
        "lambda_composed": 0.2,
        "stepsize": 0.4,
        "stepsize_dual": 0.3,
        **changes,
    }


def objective(x: Tensor, y: Tensor, physics: Any, K: Any, weights: Any) -> Tensor:
    values = (
        dinv.optim.L2()(x, y, physics),
        dinv.optim.Tikhonov()(x),
        Smoothed()(K(x)),
    )
    return values[0] + weights[0] * values[1] + weights[1] * values[2]


def test_solution_is_critical_point_of_the_objective() -> None:
    y, physics = measured()
    model = deq.optim.CondatVu(**arguments(trainable_params=[]), DEQ=EXACT)
    x = model(y, physics).detach().requires_grad_()
    total = objective(x, y, physics, model.linear_map, (0.3, 0.2)).sum()
    (gradient,) = torch.autograd.grad(total, x)
    assert gradient.abs().max() < 1e-11


@pytest.mark.parametrize("beta", [1.0, 0.7])
def test_solution_with_total_variation_is_its_proximal_operator(beta: float) -> None:
    y, _ = measured()
    model = deq.optim.CondatVu(
        differences,
        differences_adjoint,
        data_fidelity=dinv.optim.L2(),
        composed_prior=dinv.optim.L1Prior(),
        lambda_composed=0.1,
        stepsize=0.5,
        stepsize_dual=0.15,
        beta=beta,
        DEQ=deq.Equilibrium(deq.Picard(max_iter=3000, rtol=1e-12)),
    )
    x = model(y, dinv.physics.Denoising().double())
    prox = deq.optim.total_variation.weighted_tv_prox
    expected = prox(y, 0.1, "componentwise", tol=1e-9, on_failure="ignore").x
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-4)


def test_iteration_without_composed_prior_is_proximal_gradient_descent() -> None:
    y, physics = measured()
    config = deq.Equilibrium(deq.Picard(max_iter=5, rtol=0.0))
    common = {
        "data_fidelity": dinv.optim.L2(),
        "prior": dinv.optim.L1Prior(),
        "lambda_reg": 0.1,
        "stepsize": 0.5,
        "trainable_params": [],
        "DEQ": config,
    }
    found = deq.optim.CondatVu(**common)(y, physics)
    torch.testing.assert_close(found, deq.optim.PGD(**common)(y, physics))


def test_iteration_without_data_fidelity_is_chambolle_pock() -> None:
    """Both algorithms have the solution 0."""
    y, physics = measured()
    config = deq.Equilibrium(deq.Picard(max_iter=400, rtol=1e-13))
    common = {"stepsize": 0.5, "stepsize_dual": 0.5, "trainable_params": []}
    ours = deq.optim.CondatVu(
        physics.A,
        physics.A_adjoint,
        data_fidelity=dinv.optim.ZeroFidelity(),
        prior=dinv.optim.Tikhonov(),
        composed_prior=dinv.optim.Tikhonov(),
        DEQ=config,
        **common,
    )
    # PDCP composes the data fidelity with K. The data are 0.
    theirs = deq.optim.PDCP(
        physics.A,
        physics.A_adjoint,
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.Tikhonov(),
        DEQ=config,
        **common,
    )
    identity = dinv.physics.Denoising().double()
    for model in (ours, theirs):
        assert model(0 * y, identity, init=torch.ones_like(y)).abs().max() < 1e-10


def test_metrics_have_the_value_of_all_three_terms() -> None:
    y, physics = measured()
    model = deq.optim.CondatVu(**arguments(trainable_params=[]), DEQ=EXACT)
    x, metrics = model(y, physics, compute_metrics=True)
    expected = objective(x, y, physics, model.linear_map, (0.3, 0.2))
    last = torch.tensor([costs[-1] for costs in metrics["cost"]], dtype=x.dtype)
    torch.testing.assert_close(last, expected.detach(), rtol=1e-6, atol=0)


def test_implicit_composed_prior_disables_the_cost() -> None:
    y, physics = measured()
    denoiser = dinv.optim.PnP(dinv.models.MedianFilter())
    with pytest.raises(TypeError, match="sigma_denoiser"):
        deq.optim.CondatVu(
            data_fidelity=dinv.optim.L2(), composed_prior=denoiser, DEQ=EXACT
        )(y, physics)
    model = deq.optim.CondatVu(composed_prior=denoiser, max_iter=1)
    assert not model.has_cost


def energy(y: Tensor, K: ScaledDifferences) -> Tensor:
    """Return the squared norm of the solution."""
    given = arguments(K=K, K_adjoint=K.adjoint, trainable_params=[])
    return deq.optim.CondatVu(**given, DEQ=EXACT)(y, measured()[1]).square().sum()


def test_implicit_gradients_of_data_and_linear_map_are_difference_quotients() -> None:
    y, physics = measured()
    y.requires_grad_()
    model = deq.optim.CondatVu(**arguments(trainable_params=[]), DEQ=EXACT)
    K = model.linear_map
    model(y, physics).square().sum().backward()
    for leaf in (K.weight, y):
        direction = torch.linspace(-1, 2, leaf.numel(), dtype=leaf.dtype).view_as(leaf)
        expected = directional_derivative(lambda: energy(y, K), leaf, direction, 1e-4)
        assert float((leaf.grad * direction).sum()) == pytest.approx(expected, rel=1e-6)


def test_linear_map_and_composed_priors_are_parts_of_the_model() -> None:
    composed = [dinv.optim.PnP(dinv.models.MedianFilter()), Smoothed()]
    composed[1].scale = nn.Parameter(torch.ones(()))
    model = deq.optim.CondatVu(
        **arguments(composed_prior=composed, trainable_params=[]),
        DEQ=deq.Equilibrium(layers=2),
    )
    names = {name for name, _ in model.named_parameters()}
    assert names == {"linear_map.weight", "composed_priors.1.scale"}


def test_dual_variable_starts_at_zero_or_where_it_is_given() -> None:
    y, physics = measured()
    model = deq.optim.CondatVu(**arguments(trainable_params=[]), DEQ=EXACT)
    _, (x, u) = model.fixed_point_problem(y, physics)
    assert torch.equal(x, physics.A_adjoint(y))
    assert torch.equal(u, torch.zeros(3, 2, 2, 4, 5, dtype=torch.float64))
    _, (x, u) = model.fixed_point_problem(y, physics, init=(2 * y, y))
    assert torch.equal(x, 2 * y)
    assert u.shape == (3, 2, 2, 4, 5)
    assert not u.any()
    given = torch.rand_like(u)
    _, (_, u) = model.fixed_point_problem(y, physics, init=(y, given))
    assert torch.equal(u, given)


def test_per_layer_parameters_make_a_block() -> None:
    y, physics = measured()
    lists = {"lambda_composed": [0.2, 0.4], "stepsize": [0.4, 0.3]}
    model = deq.optim.CondatVu(
        **arguments(**lists, trainable_params=[]),
        DEQ=deq.Equilibrium(deq.Picard(max_iter=1, rtol=0.0), layers=2),
    )
    plain = CondatVuOptim(**arguments(**lists), max_iter=2)
    with torch.no_grad():
        torch.testing.assert_close(model(y, physics), plain(y, physics))


def test_constructor_accepts_tensors_for_parameters_of_its_own() -> None:
    config = deq.Equilibrium(layers=2)
    for value, count in ((torch.tensor(0.2), 1), (torch.tensor([0.2, 0.3]), 2)):
        given = arguments(lambda_composed=value, trainable_params=[])
        model = deq.optim.CondatVu(**given, DEQ=config)
        assert len(model.params_algo["lambda_composed"]) == count
        assert [name for name, _ in model.named_parameters()] == ["linear_map.weight"]


@pytest.mark.parametrize("value", [-0.2, float("nan")])
def test_constructor_refuses_a_weight_out_of_range(value: float) -> None:
    given = arguments(lambda_composed=value, trainable_params=[])
    with pytest.raises(ValueError, match="lambda_composed must be finite and nonneg"):
        deq.optim.CondatVu(**given, DEQ=EXACT)


@pytest.mark.parametrize("name", ["K", "K_adjoint"])
def test_constructor_refuses_a_linear_map_without_its_transpose(name: str) -> None:
    given = arguments()
    del given[name]
    with pytest.raises(ValueError, match="K and K_adjoint must be given together"):
        deq.optim.CondatVu(**given, DEQ=EXACT)


@pytest.mark.parametrize("value", [None, dinv.models.MedianFilter(), [1.0]])
def test_constructor_refuses_a_composed_prior_that_is_not_one(value: Any) -> None:
    with pytest.raises(TypeError, match="composed_prior must be a deepinv"):
        deq.optim.CondatVu(**arguments(composed_prior=value), DEQ=EXACT)


def test_constructor_refuses_unknown_arguments() -> None:
    with pytest.raises(
        TypeError, match="'stepsize_duel'; did you mean 'stepsize_dual'"
    ):
        deq.optim.CondatVu(**arguments(stepsize_duel=1.0), DEQ=EXACT)
