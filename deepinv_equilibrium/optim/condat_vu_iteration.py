r"""The iteration of Condat and Vũ, as an iterator of deepinv."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deepinv.optim import DataFidelity, OptimIterator, Prior
from deepinv.physics import Physics
from torch import Tensor


def identity(x: Tensor) -> Tensor:
    """Return the argument: the default of ``K`` and ``K_adjoint``."""
    return x


class CondatVuIteration(OptimIterator):
    r"""
    One iteration of :class:`~deepinv_equilibrium.optim.CondatVu`, on
    ``X["est"] = (x, u)``.

    :param Callable cost_fn: deepinv's cost function. Default: ``None``, the value of
        the three terms.
    :param bool has_cost: whether to evaluate the cost in every iteration.
    """

    def __init__(
        self, cost_fn: Callable[..., Tensor] | None = None, has_cost: bool = True
    ) -> None:
        super().__init__(cost_fn=objective if cost_fn is None else cost_fn)
        self.has_cost = has_cost

    def forward(
        self,
        X: dict[str, Any],
        cur_data_fidelity: DataFidelity,
        cur_prior: Prior,
        cur_params: dict[str, Any],
        y: Tensor,
        physics: Physics,
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Any]:
        r"""
        :param dict X: iterate ``(x, u)`` under the key ``"est"``.
        :param deepinv.optim.DataFidelity cur_data_fidelity: :math:`f`.
        :param deepinv.optim.Prior cur_prior: :math:`g`.
        :param dict cur_params: the parameters of the iteration.
        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :return: (dict) the next iterate, and its cost or ``None``.
        """
        x, u = X["est"]
        tau, sigma = cur_params["stepsize"], cur_params["stepsize_dual"]
        gradient = cur_data_fidelity.grad(x, y, physics) + cur_params["K_adjoint"](u)
        primal = cur_prior.prox(
            x - tau * gradient,
            cur_params["g_param"],
            gamma=tau * cur_params["lambda"],
        )
        dual = cur_params["composed_prior"].prox_conjugate(
            u + sigma * cur_params["K"](2 * primal - x),
            gamma=sigma,
            lamb=cur_params["lambda_composed"],
        )
        beta = cur_params["beta"]
        primal = self.relaxation_step(primal, x, beta)
        dual = self.relaxation_step(dual, u, beta)
        cost = (
            self.cost_fn(primal, cur_data_fidelity, cur_prior, cur_params, y, physics)
            if self.has_cost
            else None
        )
        return {"est": (primal, dual), "cost": cost}


def objective(
    x: Tensor,
    data_fidelity: DataFidelity,
    prior: Prior,
    parameters: dict[str, Any],
    y: Tensor,
    physics: Physics,
) -> Tensor:
    r"""
    Return :math:`f(x) + \lambda g(x) + \lambda_K h(K x)`.

    :param torch.Tensor x: images.
    :param deepinv.optim.DataFidelity data_fidelity: :math:`f`.
    :param deepinv.optim.Prior prior: :math:`g`.
    :param dict parameters: the parameters of the iteration.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :return: (:class:`torch.Tensor`) one value a sample.
    """
    composed = parameters["composed_prior"](parameters["K"](x))
    return (
        data_fidelity(x, y, physics)
        + parameters["lambda"] * prior(x, parameters["g_param"])
        + parameters["lambda_composed"] * composed
    )
