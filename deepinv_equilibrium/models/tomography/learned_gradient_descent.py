"""Gradient descent with a learned update."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...fixed_points.argument_checks import require_count
from ...optim.total_variation.image_differences import differences, differences_adjoint
from .fbp_unet import filtered_back_projection
from .learned_iterations import LearnedIterations, NormalisedPhysics
from .small_networks import three_convolutions


class LearnedGradientDescent(LearnedIterations):
    r"""
    Learned gradient descent :footcite:p:`adler2017solving`. The iterations start from
    the filtered back-projection :math:`x_0 = A^\dagger y` and the memory :math:`s_0 =
    0`, and are

    .. math::

        (\Delta x, s) &= \Lambda_\theta \bigl( x_k, A^\top (A x_k - y), D^\top D x_k,
        s_k \bigr), \\
        x_{k+1} &= x_k + \Delta x, \qquad s_{k+1} = \max(s, 0),

    The network :math:`\Lambda_\theta` sees the gradients of the data fidelity
    :math:`\tfrac12 \|A x - y\|^2` and of the regulariser :math:`\tfrac12 \|D x\|^2`,
    where :math:`D` are the differences of neighbouring pixels. It consists of three 3×3
    convolutions with ReLU.

    The defaults are those of the paper and its code: 10 iterations with the same
    weights, 5 channels of memory and 32 filters. For grey images the network has
    :math:`1 + 1 + 1 + 5` input and :math:`1 + 5` output channels and 13,318 parameters.
    With ``positivity`` the images are projected, :math:`x_{k+1} = \max(x_k + \Delta x,
    0)`, as in slides on the method, but not in the paper.

    We depart from the paper in three points. :math:`A` and :math:`y` are divided by an
    upper bound of :math:`\|A\|`. The initial weights of the last layer are a tenth of
    Glorot's and the initial biases are 0, so that the iterations do not grow; the
    authors' code has biases of 0.01 in two layers. For a physics without a filtered
    back-projection, :math:`A^\dagger` is its ``A_dagger``.

    :param int iterations: number of iterations.
    :param int memory: channels of the memory :math:`s`; 0 for none.
    :param int filters: channels of the hidden layers.
    :param int in_channels: channels :math:`C` of the images.
    :param bool tied: whether all iterations have the same weights. If so,
        ``iterations`` can be changed at any time.
    :param bool positivity: whether negative values are set to 0 in every iteration.
    :raises ValueError: if a number is not a positive integer, or ``memory`` is not a
        nonnegative one.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> model = deq.models.LearnedGradientDescent()
    >>> sum(p.numel() for p in model.parameters())
    13318
    >>> physics = dinv.physics.Tomography(8, 16, circle=True, normalize=True)
    >>> with torch.no_grad():
    ...     print(model(physics(torch.rand(2, 1, 16, 16)), physics).shape)
    torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self,
        iterations: int = 10,
        memory: int = 5,
        filters: int = 32,
        in_channels: int = 1,
        tied: bool = True,
        positivity: bool = False,
    ) -> None:
        require_count("memory", memory, 0)
        super().__init__(
            lambda: three_convolutions(
                3 * in_channels + memory, in_channels + memory, filters, nn.ReLU
            ),
            iterations,
            in_channels,
            tied,
            filters=filters,
        )
        self.memory = memory
        self.positivity = positivity

    def start(self, scan: NormalisedPhysics) -> tuple[Tensor, ...]:
        """Return the filtered back-projection and a memory of zeros."""
        x = filtered_back_projection(scan.measurement, scan.physics)
        return x, x.new_zeros(len(x), self.memory, *x.shape[2:])

    def iterate(
        self, layer: nn.Module, state: tuple[Tensor, ...], scan: NormalisedPhysics
    ) -> tuple[Tensor, ...]:
        """Return the next image and memory."""
        x, memory = state
        gradient = scan.adjoint(scan.apply(x) - scan.y)
        smoothness = differences_adjoint(differences(x))
        update = layer(torch.cat((x, gradient, smoothness, memory), dim=1))
        x = x + update[:, : self.in_channels]
        if self.positivity:
            x = x.clamp(min=0)
        return x, update[:, self.in_channels :].relu()

    def extra_repr(self) -> str:
        """Return the part of the representation that precedes the layers."""
        return (
            f"{super().extra_repr()}, memory={self.memory}, "
            f"positivity={self.positivity}"
        )
