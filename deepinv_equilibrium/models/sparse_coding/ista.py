"""Reconstruction with sparse coefficients in a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from ...certificates.spectra.operator_norm import OperatorNorm
from ...equilibrium import Equilibrium, UnrollableModel
from ...equilibrium.equilibrium_model import Observer
from ...fixed_points import ALONE, OfSamples, Processes, Solution, State, Step
from .frames import Frame, backprojection
from .ista_step import (
    ISTAStep,
    NonnegativeISTAStep,
    log_thresholds,
    require_relative,
)


class ISTA(UnrollableModel):
    r"""
    Reconstruction of images with sparse coefficients in a frame :math:`W`, in synthesis
    form, for a linear operator :math:`A`,

    .. math::

        \hat x = W^\top \hat z, \qquad
        \hat z \in \operatorname*{arg\,min}_z \tfrac12 \|A W^\top z - y\|^2
        + \sum_m \lambda_m \|z_m\|_1.

    The model makes iterations of soft thresholding
    :footcite:p:`daubechies2004iterative` from :math:`z_0 = 0`, a given number or to
    equilibrium, see :class:`~deepinv_equilibrium.models.sparse_coding.ISTAStep`. For an
    orthonormal :math:`W` the iterations are :math:`x_{k+1} = W^\top \mathcal{T}_{\tau
    \lambda} W (x_k - \tau A^\top (A x_k - y))`. (In coefficients, the data term is
    :math:`+ \tau W A^\top y`; slides that write :math:`-` have a sign error.)

    The step size is :math:`\tau = s / (\|A\|^2 \|W\|^2)` with upper bounds of both
    norms, from :class:`~deepinv_equilibrium.certificates.spectra.OperatorNorm` and from
    the frame. The weights :math:`\lambda_m` and the frame are learned. The minimisers
    do not depend on :math:`s`.

    In a frame with more coefficients than pixels the minimiser need not be unique, and
    no contraction is certified. ``deq.Picard()`` converges slowly. An accelerated
    solver is faster if it converges, which ``model.solution`` reports.

    With ``nonnegative=True`` the image is constrained to :math:`W^\top z \geq 0`, by
    the primal-dual iterations of
    :class:`~deepinv_equilibrium.models.sparse_coding.NonnegativeISTAStep` with
    :math:`\tau \sigma \|W\|^2 = 0.99 (1 - s / 2)`, which converge for every :math:`s`
    in (0, 2). For an orthonormal :math:`W` the result is :math:`\operatorname*{arg\,
    min}_{x \geq 0} \tfrac12 \|A x - y\|^2 + \sum_m \lambda_m \|(W x)_m\|_1`, the
    problem of slides on deep learning for inverse problems, whose iterations leave out
    the constraint.

    Calling the model returns signals or images of the shape that the frame synthesises,
    with a batch axis. In addition to
    :class:`~deepinv_equilibrium.equilibrium.EquilibriumModel`, it raises a
    ``TypeError`` if the physics is not linear, and a ``ValueError`` if the frame is
    for images of another shape.

    :param Frame frame: the frame :math:`W`, e.g. a
        :class:`~deepinv_equilibrium.models.ConvolutionalFrame`.
    :param float, Sequence, torch.Tensor weight: initial value of :math:`\lambda \geq
        0`; one number, or one for each atom. A weight of 0 remains 0 in training.
    :param int max_iter: number of iterations to unroll. The gradient passes through all
        of them. Default: ``None``.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: solver,
        adjoint and number of layers, instead of ``max_iter``. Default: ``None``.
    :param float stepsize: relative step size :math:`s`, in (0, 2). Default: 1.
    :param bool nonnegative: whether images are constrained to be nonnegative. Default:
        ``False``.
    :param bool show_progress_bar: whether to show a progress bar during the iterations.
        Default: ``False``.
    :raises TypeError: if ``frame`` is not a ``Frame``, or ``DEQ`` is of another type.
    :raises ValueError: if both or neither of ``max_iter`` and ``DEQ`` are given, or an
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

    # Frames also synthesise vectors and signals.
    spatial_axes: ClassVar[tuple[int, ...]] = (0, 1, 2, 3)

    has_common_step_size = True

    def __init__(
        self,
        frame: Frame,
        weight: float | Sequence[float] | Tensor,
        max_iter: int | None = None,
        DEQ: Equilibrium | None = None,
        stepsize: float = 1.0,
        nonnegative: bool = False,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__(max_iter, DEQ, show_progress_bar)
        if not isinstance(frame, Frame):
            raise TypeError(
                "frame must be a Frame, such as ConvolutionalFrame(in_channels=1), got "
                f"{type(frame).__name__}."
            )
        require_relative(stepsize)
        self.frame, self.stepsize = frame, stepsize
        self.nonnegative = nonnegative
        self.log_weight = nn.Parameter(log_thresholds("weight", weight, frame.atoms))
        self._norm = OperatorNorm()

    @property
    def weight(self) -> Tensor:
        r"""The weights :math:`\lambda` of the atoms, of shape :math:`(M,)`."""
        return self.log_weight.exp()

    def extra_repr(self) -> str:
        """Return the settings that ``repr`` shows."""
        return (
            f"stepsize={self.stepsize:g}, nonnegative={self.nonnegative}, "
            f"DEQ={self.DEQ!r}"
        )

    def fixed_point_problem(
        self, y: Tensor, physics: LinearPhysics
    ) -> tuple[ISTAStep, State]:
        r"""
        Return the step, a block of ``DEQ.layers`` iterations, and the initial
        coefficients 0.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: (tuple) the step, and the coefficients 0; with ``nonnegative``, the
            tuple of coefficients and dual variable 0.
        :raises TypeError: if the physics is not linear.
        :raises ValueError: if ``y`` does not have the shape that ``physics.A`` returns,
            or the frame is for images of another shape.
        """
        image = backprojection(y, physics)
        with torch.no_grad():
            start = torch.zeros_like(self.frame.analysis(image))
        norm = self._norm.squared(physics, image.detach()).value
        square = self.frame.squared_norm()
        tau = (self.stepsize / (norm * square)).to(image.dtype)
        weight, layers = self.weight.to(image.dtype), self.DEQ.layers
        if not self.nonnegative:
            return ISTAStep(y, physics, self.frame, tau, weight, layers), start
        product = (0.99 * (1 - self.stepsize / 2) / square).to(image.dtype)
        constrained = NonnegativeISTAStep(
            y, physics, self.frame, tau, product, weight, layers
        )
        return constrained, (start, torch.zeros_like(image))

    def image(self, step: Step, solution: Solution) -> Tensor:
        r"""
        Return the image of a solution.

        :param Callable step: the step that was solved.
        :param deepinv_equilibrium.Solution solution: its solution, the coefficients
            :math:`z`.
        :return: (:class:`torch.Tensor`) :math:`W^\top z`, or :math:`\max(W^\top z, 0)`
            with ``nonnegative``.
        """
        assert isinstance(step, ISTAStep)
        return step.image(solution.x)

    def _solve(
        self,
        step: Step,
        start: State,
        observer: Observer | None = None,
        processes: Processes = ALONE,
        of_samples: OfSamples | None = None,
    ) -> Solution:
        # Without the output of the step: one synthesis at the end is enough.
        def part(rows: Tensor) -> Step | None:
            of_rows = None if of_samples is None else of_samples(rows)
            return None if of_rows is None else _without_output(of_rows)

        return super()._solve(_without_output(step), start, observer, processes, part)


def _without_output(step: Step) -> Step:
    return lambda z: step(z)
