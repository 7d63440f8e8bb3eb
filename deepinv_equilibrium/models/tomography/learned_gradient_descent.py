"""Gradient descent whose update a network makes."""

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
    Learned gradient descent :footcite:p:`adler2017solving`: from the filtered
    back-projection :math:`x_0 = A^\dagger y` and an empty memory :math:`s_0 = 0`,

    .. math::

        (\Delta x, s) &= \Lambda_\theta \bigl( x_k, A^\top (A x_k - y), D^\top D x_k,
        s_k \bigr), \\
        x_{k+1} &= x_k + \Delta x, \qquad s_{k+1} = \max(s, 0),

    with the gradients of the data fidelity :math:`\tfrac12 \|A x - y\|^2` and of the
    regulariser :math:`\tfrac12 \|D x\|^2`, :math:`D` the differences of neighbouring
    pixels, and a network :math:`\Lambda_\theta` of three 3×3 convolutions with ReLU.

    The defaults are those of the paper and its code: 10 iterations with the same
    weights, 5 channels of memory and 32 filters, which for grey images are 13,318
    parameters, with :math:`1 + 1 + 1 + 5` channels in and :math:`1 + 5` out. With
    ``positivity`` it is projected, :math:`x_{k+1} = \max(x_k + \Delta x, 0)`, as in
    slides on the method; the paper does not.

    It departs from the paper in the norm, which need not be 1: :math:`A` and :math:`y`
    are divided by a bound of :math:`\|A\|`; in the start, where the last layer has a
    tenth of Glorot's weights and the biases are 0 (the authors' code has .01 in two
    layers), so that the iterations do not grow; and the filtered back-projection is
    that of the physics, or ``A_dagger`` for a physics without one.

    :param int iterations: number of iterations.
    :param int memory: channels of the memory.
    :param int filters: channels of the hidden layers.
    :param int in_channels: channels :math:`C` of the images.
    :param bool tied: whether all iterations have the same weights; then ``iterations``
        can be changed at any time.
    :param bool positivity: whether negative values are cut off in every iteration.
    :raises ValueError: if a number is not a positive integer, or ``memory`` negative.

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
        require_count("filters", filters, 1)
        require_count("in_channels", in_channels, 1)
        channels = (3 * in_channels + memory, in_channels + memory)
        super().__init__(
            lambda: three_convolutions(*channels, filters, nn.ReLU),
            iterations,
            in_channels,
            tied,
        )
        self.memory = memory
        self.positivity = positivity

    def start(self, scan: NormalisedPhysics) -> tuple[Tensor, ...]:
        """The filtered back-projection, and an empty memory."""
        x = filtered_back_projection(scan.measurement, scan.physics)
        return x, x.new_zeros(len(x), self.memory, *x.shape[2:])

    def iterate(
        self, layer: nn.Module, state: tuple[Tensor, ...], scan: NormalisedPhysics
    ) -> tuple[Tensor, ...]:
        """One iteration for the image and the memory."""
        x, memory = state
        gradient = scan.adjoint(scan.apply(x) - scan.y)
        smoothness = differences_adjoint(differences(x))
        update = layer(torch.cat((x, gradient, smoothness, memory), dim=1))
        x = x + update[:, : self.in_channels]
        if self.positivity:
            x = x.clamp(min=0)
        return x, update[:, self.in_channels :].relu()

    def extra_repr(self) -> str:
        """Return what the representation shows first."""
        return (
            f"{super().extra_repr()}, memory={self.memory}, "
            f"positivity={self.positivity}"
        )
