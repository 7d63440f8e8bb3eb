"""The rate at which a model's residuals were seen to fall."""

from __future__ import annotations

from typing import Any

import torch
from deepinv.loss.metric import Metric
from torch import Tensor


class ObservedRate(Metric):
    r"""
    The rate at which the absolute residuals :math:`r_1, \dots, r_m` of the model's last
    solve fell, over their second half,

    .. math::

        \Bigl(\frac{r_m}{r_h}\Bigr)^{1 / (m - h)}, \qquad h = \lceil m / 2 \rceil,

    one number a sample. It is observed: it holds for this run. An accelerated solver's
    is that of the solver, not of the step; of a ``ReTune`` model it is a block's. NaN
    where there is nothing to see: a solve of one iteration, residuals that are not
    finite, or a model without a solution (the ``compare_no_learning`` of deepinv's
    ``Trainer``).

    The ``Trainer`` hands its metrics the model, so that ``ObservedRate()`` in
    ``metrics`` is all it takes; lower is better.

    :param str reduction: ``"mean"``, ``"sum"``, ``"none"`` or ``None``, as for every
        metric of deepinv. Default: ``None``.
    """

    def __init__(self, reduction: str | None = None) -> None:
        super().__init__(reduction=reduction)
        self.lower_better = True

    def metric(
        self, x_net: Tensor, x: Tensor | None, *args: Any, model: Any, **kwargs: Any
    ) -> Tensor:
        r"""
        :param torch.Tensor x_net: the reconstruction.
        :param torch.Tensor x: the reference, not used.
        :param model: the model that made it.
        :return: the rates, of shape :math:`(B,)`, in float64.
        """
        model = getattr(model, "module", model)  # of DistributedDataParallel
        solution = getattr(model, "solution", None)
        if solution is None:
            return torch.full((len(x_net),), torch.nan, dtype=torch.float64)
        history = solution.absolute_history
        last = solution.iterations - 1
        middle = (solution.iterations + 1) // 2 - 1
        first, final = (history.gather(0, index[None])[0] for index in (middle, last))
        # A residual of zero at the first of them leaves nothing to fall.
        ratio = torch.where(first > 0, final / first, torch.nan)
        rates = ratio ** (1.0 / (last - middle))
        return torch.where((last > middle) & torch.isfinite(ratio), rates, torch.nan)
