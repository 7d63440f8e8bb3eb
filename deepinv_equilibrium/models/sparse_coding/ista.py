"""Reconstruction with few coefficients in a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from deepinv.models import Reconstructor
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from ...certificates.spectra.operator_norm import OperatorNorm
from ...equilibrium import Equilibrium
from ...fixed_points import Restarts, Solution, State, Unrolled, fixed_point
from ...fixed_points.argument_checks import require_count
from .frames import Frame, backprojection
from .ista_step import ISTAStep, log_thresholds, require_relative


class ISTA(Reconstructor):
    r"""
    The image with few coefficients in a frame :math:`W`, in synthesis form,

    .. math::

        \hat x = W^\top \hat z, \qquad
        \hat z \in \operatorname*{arg\,min}_z \tfrac12 \|A W^\top z - y\|^2
        + \sum_m \lambda_m \|z_m\|_1,

    for any linear physics, by iterative soft thresholding
    :footcite:p:`daubechies2004iterative` from :math:`z_0 = 0`
    (:class:`~deepinv_equilibrium.models.sparse_coding.ISTAStep`): a number of
    iterations, or to equilibrium. For an orthonormal :math:`W` it is the same as
    :math:`x_{k+1} = W^\top \mathcal{T}_{\tau \lambda} W (x_k - \tau A^\top (A x_k -
    y))`. (The term :math:`+ \tau W A^\top y` has the sign of that form; slides that
    write :math:`-` have lost it.)

    The step size is :math:`\tau = s / (\|A\|^2 \|W\|^2)` with upper bounds of both
    norms, of :class:`~deepinv_equilibrium.certificates.spectra.OperatorNorm` and of the
    frame. The weights :math:`\lambda_m` and the frame are learned; what is minimised
    does not depend on :math:`s`.

    In a frame with more coefficients than pixels they need not be unique, and no
    contraction is certified: ``deq.Picard()`` converges, slowly; an accelerated solver
    is faster where it settles, and ``model.solution`` reports whether it did.

    :param Frame frame: :math:`W`, e.g. a
        :class:`~deepinv_equilibrium.models.ConvolutionalFrame`.
    :param float, Sequence, torch.Tensor weight: :math:`\lambda \geq 0` to start from,
        one or one for every atom; where it is 0 it stays 0.
    :param int max_iter: iterations to unroll: all are recorded.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: the
        equilibrium, in the place of ``max_iter``. Both can be changed at any time, by
        setting ``DEQ``.
    :param float stepsize: :math:`s`, in (0, 2).
    :raises TypeError: if ``frame`` or ``DEQ`` is none.
    :raises ValueError: if not exactly one of ``max_iter`` and ``DEQ`` is given, or an
        argument is out of its range.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> frame = deq.models.ConvolutionalFrame(in_channels=1)
    >>> model = deq.models.ISTA(frame, weight=0.02, max_iter=9)
    >>> physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    >>> model(physics(torch.rand(2, 1, 20, 30)), physics).shape
    torch.Size([2, 1, 20, 30])
    """

    solution: Solution | None
    """Report and coefficients of the last solve, without gradient; ``None`` before."""

    def __init__(
        self,
        frame: Frame,
        weight: float | Sequence[float] | Tensor,
        max_iter: int | None = None,
        DEQ: Equilibrium | None = None,
        stepsize: float = 1.0,
    ) -> None:
        super().__init__()
        if not isinstance(frame, Frame):
            raise TypeError(
                "frame must be a Frame, such as ConvolutionalFrame(in_channels=1), got "
                f"{type(frame).__name__}."
            )
        require_relative(stepsize)
        if (max_iter is None) == (DEQ is None):
            raise ValueError(
                "give either max_iter, to unroll so many iterations, or DEQ, e.g. "
                f"deq.Equilibrium(), got {max_iter=} and {DEQ=}."
            )
        if max_iter is not None:
            require_count("max_iter", max_iter, 1)
            DEQ = Equilibrium(Restarts(max_iter=max_iter), Unrolled())
        if not isinstance(DEQ, Equilibrium):
            raise TypeError(
                "DEQ must be Equilibrium(solver, adjoint) or ReTune(layers, restarts), "
                f"got {DEQ!r}."
            )
        self.frame, self.DEQ, self.stepsize = frame, DEQ, stepsize
        self.log_weight = nn.Parameter(log_thresholds("weight", weight, frame.atoms))
        self.solution = None
        self._norm = OperatorNorm()

    @property
    def equilibrium(self) -> Equilibrium:
        """``DEQ``, by the name that the optimisers of :mod:`deepinv_equilibrium.optim`
        keep theirs under."""
        return self.DEQ

    @property
    def weight(self) -> Tensor:
        r""":math:`\lambda`, one for every atom, of shape :math:`(M,)`."""
        return self.log_weight.exp()

    def extra_repr(self) -> str:
        """Return what the representation shows first."""
        return f"stepsize={self.stepsize:g}, DEQ={self.DEQ!r}"

    def fixed_point_problem(
        self, y: Tensor, physics: LinearPhysics
    ) -> tuple[ISTAStep, State]:
        r"""
        The fixed-point problem that the model solves for a measurement.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: the step, a block of ``DEQ.layers`` iterations, and coefficients 0.
        :raises TypeError: if the physics is not linear.
        :raises ValueError: if the measurement is none of this physics, or the frame is
            for other images.
        """
        image = backprojection(y, physics)
        with torch.no_grad():
            start = torch.zeros_like(self.frame.analysis(image))
        norm = self._norm.squared(physics, image.detach()).value
        tau = (self.stepsize / (norm * self.frame.squared_norm())).to(y.dtype)
        step = ISTAStep(
            y, physics, self.frame, tau, self.weight.to(y.dtype), self.DEQ.layers
        )
        return step, start

    def forward(self, y: Tensor, physics: LinearPhysics, **kwargs: Any) -> Tensor:
        r"""
        Reconstruct.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics, linear.
        :return: (:class:`torch.Tensor`) images :math:`W^\top z`.
        :raises TypeError: if the physics is not linear, or an argument is unknown.
        :raises ValueError: if the measurement is none of this physics, or the frame is
            for other images.
        :raises AdjointMismatchError: if ``A_adjoint`` is not the transpose of ``A``.
        :raises ConvergenceError: if a sample fails and ``on_failure="raise"``.
        """
        if kwargs:
            raise TypeError(f"ISTA takes no argument {next(iter(kwargs))!r}.")
        step, start = self.fixed_point_problem(y, physics)
        config = self.DEQ
        # Without its output: one synthesis at the end, and none with every evaluation.
        found = fixed_point(
            step.__call__, start, config.solver, config.adjoint, config.on_failure
        )
        self.solution = found.detach()
        assert isinstance(found.x, Tensor)
        return self.frame.synthesis(found.x)
