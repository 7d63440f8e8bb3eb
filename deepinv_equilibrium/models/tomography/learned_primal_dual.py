"""Primal-dual iterations whose proximal operators are networks with a memory."""

from __future__ import annotations

from deepinv.models.PDNet import PDNet_DualBlock, PDNet_PrimalBlock
from torch import Tensor, nn

from .learned_iterations import (
    LearnedIterations,
    NormalisedPhysics,
    require_data_channels,
)
from .small_networks import glorot


class LearnedPrimalDual(LearnedIterations):
    r"""
    Learned primal-dual :footcite:p:`adler2018learned`. The iterations start from zero
    and are

    .. math::

        u_{k+1} &= u_k + \Gamma_{\theta_k} \bigl( u_k, A x_k^{(2)}, y \bigr), \\
        x_{k+1} &= x_k + \Lambda_{\phi_k} \bigl( x_k, A^\top u_{k+1}^{(1)} \bigr),

    where :math:`x_k` holds several images and :math:`u_k` several measurements. The
    operator acts on :math:`x^{(2)}` and :math:`u^{(1)}`, and the result is
    :math:`x^{(1)}`. The other images and measurements are a memory of the networks
    :math:`\Gamma_{\theta_k}` and :math:`\Lambda_{\phi_k}`. Each network consists of
    three 3×3 convolutions with PReLU, as in :class:`deepinv.models.PDNet_DualBlock` and
    :class:`deepinv.models.PDNet_PrimalBlock`. There is no extrapolation step, but the
    networks can learn to extrapolate, because :math:`x^{(2)}` can differ from
    :math:`x^{(1)}`. With ``primal_memory=1`` they cannot; see
    :class:`~deepinv_equilibrium.models.LearnedPDHG`.

    The defaults are those of the paper (Algorithm 3 and section IV): 10 iterations,
    each with its own weights, :math:`5 + 5` images and measurements and 32 filters. For
    grey images this makes 251,940 weights and biases. The PReLUs add 40 slopes, one for
    each layer; the authors' code has one for each channel.

    We depart from the paper in the norm: :math:`A` and :math:`y` are divided by an
    upper bound of :math:`\|A\|`. The measurements must have the shape :math:`(B, C',
    H', W')`, because they are convolved like images.

    :param int iterations: number of iterations.
    :param int primal_memory: number of images :math:`x^{(1)}, x^{(2)}, \ldots` in
        :math:`x_k`.
    :param int dual_memory: number of measurements :math:`u^{(1)}, u^{(2)}, \ldots` in
        :math:`u_k`.
    :param int filters: channels of the hidden layers.
    :param int in_channels: channels :math:`C` of the images.
    :param int data_channels: channels :math:`C'` of the measurements. Default:
        ``None``, which means ``in_channels``.
    :param bool tied: whether all iterations have the same weights. If so,
        ``iterations`` can be changed at any time.
    :raises ValueError: if a number is not a positive integer.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> model = deq.models.LearnedPrimalDual()
    >>> sum(p.numel() for p in model.parameters())
    251980
    >>> physics = dinv.physics.Tomography(8, 16, circle=True, normalize=True)
    >>> with torch.no_grad():
    ...     print(model(physics(torch.rand(2, 1, 16, 16)), physics).shape)
    torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self,
        iterations: int = 10,
        primal_memory: int = 5,
        dual_memory: int = 5,
        filters: int = 32,
        in_channels: int = 1,
        data_channels: int | None = None,
        tied: bool = False,
    ) -> None:
        channels = in_channels if data_channels is None else data_channels

        def layer() -> nn.Module:
            primal, dual = primal_memory * in_channels, dual_memory * channels
            blocks = {
                "dual": PDNet_DualBlock(dual + 2 * channels, dual, nf=filters),
                "primal": PDNet_PrimalBlock(primal + in_channels, primal, nf=filters),
            }
            return glorot(nn.ModuleDict(blocks))

        super().__init__(
            layer,
            iterations,
            in_channels,
            tied,
            data_channels=channels,
            filters=filters,
            primal_memory=primal_memory,
            dual_memory=dual_memory,
        )
        self.data_channels = channels
        self.primal_memory, self.dual_memory = primal_memory, dual_memory

    def start(self, scan: NormalisedPhysics) -> tuple[Tensor, ...]:
        """Return zero for the images and the measurements."""
        y = scan.y
        require_data_channels("y", y, self.data_channels)
        x = scan.adjoint(y)
        return (
            x.new_zeros(len(x), self.primal_memory * self.in_channels, *x.shape[2:]),
            y.new_zeros(len(y), self.dual_memory * self.data_channels, *y.shape[2:]),
        )

    def iterate(
        self, layer: nn.Module, state: tuple[Tensor, ...], scan: NormalisedPhysics
    ) -> tuple[Tensor, ...]:
        """Return the next images and measurements."""
        assert isinstance(layer, nn.ModuleDict)
        x, u = state
        C = self.in_channels
        # The second image if there are several.
        seen = x[:, C : 2 * C] if self.primal_memory > 1 else x
        u = layer["dual"](u, scan.apply(seen), scan.y)
        x = layer["primal"](x, scan.adjoint(u[:, : self.data_channels]))
        return x, u

    def extra_repr(self) -> str:
        """Return the part of the representation that precedes the layers."""
        return (
            f"{super().extra_repr()}, data_channels={self.data_channels}, "
            f"primal_memory={self.primal_memory}, dual_memory={self.dual_memory}"
        )
