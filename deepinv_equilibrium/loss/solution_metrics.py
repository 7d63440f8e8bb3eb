"""Metrics that read the report of a model's last solve."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from deepinv.loss.metric import Metric
from torch import Tensor

from ..fixed_points import Solution


class SolutionMetric(Metric):
    r"""
    Base of the metrics that read ``model.solution``.

    deepinv's ``Trainer`` passes the model to its metrics, which it averages over an
    epoch, in training with ``compute_train_metrics=True`` too. The metric is NaN for a
    model that has no solution, which is the case for the ``compare_no_learning`` method
    of the ``Trainer``.

    :param str reduction: ``"mean"``, ``"sum"``, ``"none"`` or ``None``, as for every
        metric of deepinv. Default: ``None``, one number for each sample.
    """

    def __init__(self, reduction: str | None = None) -> None:
        super().__init__(reduction=reduction)

    def metric(
        self, x_net: Tensor, x: Tensor | None, *args: Any, model: Any, **kwargs: Any
    ) -> Tensor:
        r"""
        Return the metric of each sample.

        :param torch.Tensor x_net: the reconstruction.
        :param torch.Tensor x: the reference, not used.
        :param model: the model that was just called.
        :return: values of shape :math:`(B,)`, in float64.
        """
        model = getattr(model, "module", model)  # of DistributedDataParallel
        solution = getattr(model, "solution", None)
        if solution is None:
            return torch.full((len(x_net),), torch.nan, dtype=torch.float64)
        return self.read(solution).double()

    @abstractmethod
    def read(self, solution: Solution) -> Tensor:
        """Return one number for each sample of a solve."""


class ObservedRate(SolutionMetric):
    r"""
    Observed rate at which the absolute residuals :math:`r_1, \dots, r_m` of the model's
    last solve fell over their second half,

    .. math::

        \Bigl(\frac{r_m}{r_h}\Bigr)^{1 / (m - h)}, \qquad h = \lceil m / 2 \rceil,

    one number for each sample; lower is better. It holds for this solve only. With an
    accelerated solver it is the rate of the solver and not of the step; with ``ReTune``
    it is the rate of a block. It is NaN if the solve has one iteration only, if a
    residual is not finite, or if the model has no solution.

    :param str reduction: ``"mean"``, ``"sum"``, ``"none"`` or ``None``, as for every
        metric of deepinv. Default: ``None``, one number for each sample.
    """

    def read(self, solution: Solution) -> Tensor:
        """See the class."""
        history = solution.absolute_history
        last = solution.iterations - 1
        middle = (solution.iterations + 1) // 2 - 1
        first, final = (history.gather(0, index[None])[0] for index in (middle, last))
        # After a residual of 0 there is no rate.
        ratio = torch.where(first > 0, final / first, torch.nan)
        rates = ratio ** (1.0 / (last - middle))
        return torch.where((last > middle) & torch.isfinite(ratio), rates, torch.nan)


class FinalResidual(SolutionMetric):
    r"""
    Relative residual :math:`\|f(x) - x\| / \max(\|f(x)\|, \|f(x_0) - x_0\|)` at the end
    of the model's last solve, one number for each sample; lower is better. It is NaN if
    the model has no solution.

    :param str reduction: ``"mean"``, ``"sum"``, ``"none"`` or ``None``, as for every
        metric of deepinv. Default: ``None``, one number for each sample.
    """

    def read(self, solution: Solution) -> Tensor:
        """See the class."""
        return solution.residual


class Converged(SolutionMetric):
    r"""
    1 for each sample whose last solve met the tolerance, 0 for the others; higher is
    better. The mean, which deepinv's ``Trainer`` prints, is the fraction of the samples
    that converged. Samples whose solve spent a fixed budget (``ReTune``) count as 0.
    The metric is NaN if the model has no solution.

    :param str reduction: ``"mean"``, ``"sum"``, ``"none"`` or ``None``, as for every
        metric of deepinv. Default: ``None``, one number for each sample.
    """

    def __init__(self, reduction: str | None = None) -> None:
        super().__init__(reduction=reduction)
        self.lower_better = False

    def read(self, solution: Solution) -> Tensor:
        """See the class."""
        return solution.converged
