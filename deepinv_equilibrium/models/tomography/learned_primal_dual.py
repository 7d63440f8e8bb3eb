"""Primal-dual iterations whose proximal operators are networks with a memory."""

from __future__ import annotations

from deepinv.models.PDNet import PDNet_DualBlock, PDNet_PrimalBlock
from torch import Tensor, nn

from ...fixed_points.argument_checks import require_count
from .learned_iterations import LearnedIterations, NormalisedPhysics
from .small_networks import glorot


class LearnedPrimalDual(LearnedIterations):
    r"""
    Learned primal-dual :footcite:p:`adler2018learned`: from zero,

    .. math::

        u_{k+1} &= u_k + \Gamma_{\theta_k} \bigl( u_k, A x_k^{(2)}, y \bigr), \\
        x_{k+1} &= x_k + \Lambda_{\phi_k} \bigl( x_k, A^\top u_{k+1}^{(1)} \bigr),

    where :math:`x_k` and :math:`u_k` are several images and several measurements, of
    which the operator sees :math:`x^{(2)}` and :math:`u^{(1)}`, and :math:`x^{(1)}` is
    the result. What is left is the memory of the networks
    :math:`\Gamma_{\theta_k}, \Lambda_{\phi_k}`, three 3×3 convolutions with PReLU,
    those of :class:`deepinv.models.PDNet_DualBlock` and
    :class:`deepinv.models.PDNet_PrimalBlock`. There is no extrapolation:
    :math:`x^{(2)}` need not be :math:`x^{(1)}`, and the networks can learn to
    extrapolate in it; with one image and ``primal_memory=1`` they cannot, see
    :class:`~deepinv_equilibrium.models.LearnedPDHG`.

    The defaults are those of the paper (Algorithm 3 and section IV): 10 iterations with
    weights of their own, :math:`5 + 5` images and measurements, 32 filters, which for
    grey images are 251,940 weights and biases. The slopes of the PReLU come on top, one
    a layer and 40 in all; the authors' code has one a channel.

    It departs from the paper in the norm, which need not be 1: :math:`A` and :math:`y`
    are divided by a bound of :math:`\|A\|`. It needs measurements with the axes of
    images, of shape :math:`(B, C', H', W')`, which are convolved like these.

    :param int iterations: number of iterations.
    :param int primal_memory: number of images :math:`x^{(1)}, x^{(2)}, \ldots`.
    :param int dual_memory: number of measurements :math:`u^{(1)}, u^{(2)}, \ldots`.
    :param int filters: channels of the hidden layers.
    :param int in_channels: channels :math:`C` of the images.
    :param int data_channels: channels :math:`C'` of the measurements. Default:
        ``None``, as many as of the images.
    :param bool tied: whether all iterations have the same weights; then ``iterations``
        can be changed at any time.
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
        data_channels = in_channels if data_channels is None else data_channels
        for name, value in (
            ("primal_memory", primal_memory),
            ("dual_memory", dual_memory),
            ("filters", filters),
            ("in_channels", in_channels),
            ("data_channels", data_channels),
        ):
            require_count(name, value, 1)
        primal, dual = primal_memory * in_channels, dual_memory * data_channels

        def layer() -> nn.Module:
            blocks = {
                "dual": PDNet_DualBlock(dual + 2 * data_channels, dual, nf=filters),
                "primal": PDNet_PrimalBlock(primal + in_channels, primal, nf=filters),
            }
            return glorot(nn.ModuleDict(blocks))

        super().__init__(layer, iterations, in_channels, tied)
        self.data_channels = data_channels
        self.primal_memory, self.dual_memory = primal_memory, dual_memory

    def start(self, scan: NormalisedPhysics) -> tuple[Tensor, ...]:
        """Zero."""
        y = scan.y
        if y.ndim != 4 or y.shape[1] != self.data_channels:
            raise ValueError(
                f"y must be of shape (B, {self.data_channels}, H, W), with "
                f"data_channels={self.data_channels}, got {tuple(y.shape)}."
            )
        x = scan.adjoint(y)
        return (
            x.new_zeros(len(x), self.primal_memory * self.in_channels, *x.shape[2:]),
            y.new_zeros(len(y), self.dual_memory * self.data_channels, *y.shape[2:]),
        )

    def iterate(
        self, layer: nn.Module, state: tuple[Tensor, ...], scan: NormalisedPhysics
    ) -> tuple[Tensor, ...]:
        """One iteration for the images and the measurements."""
        assert isinstance(layer, nn.ModuleDict)
        x, u = state
        C = self.in_channels
        # The second image, or the only one.
        seen = x[:, C : 2 * C] if self.primal_memory > 1 else x
        u = layer["dual"](u, scan.apply(seen), scan.y)
        x = layer["primal"](x, scan.adjoint(u[:, : self.data_channels]))
        return x, u

    def extra_repr(self) -> str:
        """Return what the representation shows first."""
        return (
            f"{super().extra_repr()}, data_channels={self.data_channels}, "
            f"primal_memory={self.primal_memory}, dual_memory={self.dual_memory}"
        )
