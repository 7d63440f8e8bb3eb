"""The primal-dual algorithm with learned proximal operators."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...fixed_points.argument_checks import require_count, require_number
from .learned_iterations import LearnedIterations, NormalisedPhysics
from .small_networks import three_convolutions


class LearnedPDHG(LearnedIterations):
    r"""
    The primal-dual hybrid gradient algorithm with learned proximal operators and step
    sizes: from zero,

    .. math::

        u_{k+1} &= \Psi_{\theta_k} \bigl( u_k + \eta_k A \bar x_k, y \bigr), \\
        x_{k+1} &= \Phi_{\phi_k} \bigl( x_k - \tau_k A^\top u_{k+1} \bigr), \\
        \bar x_{k+1} &= x_{k+1} + \vartheta (x_{k+1} - x_k),

    where :math:`\Psi_\theta(w, y) = w + N_\theta(w, y)` and :math:`\Phi_\phi(w) = w +
    N_\phi(w)` with three 3×3 convolutions and PReLU in each network, and positive step
    sizes, learned as logarithms from :math:`\tfrac12`.

    With the extrapolation :math:`\vartheta = 1` and the same weights in all iterations,
    the defaults, it is the learned PDHG of :footcite:t:`adler2018learned` (Algorithm
    2), up to where the step is: there the networks add to :math:`u_k` and :math:`x_k`,
    here to the step, as a proximal operator does, and there :math:`\vartheta` is
    learned. With :math:`\vartheta = 0` it is the unrolled primal-dual algorithm that
    slides on unrolling show, tied or with weights of its own in every iteration.

    .. warning::

        The classical algorithm converges with :math:`\vartheta = 1` if
        :math:`\tau \eta \|A\|^2 < 1` :footcite:p:`chambolle2011first`. Without
        extrapolation it need not: where both proximal operators are the identity, as
        here when the networks are 0, its iterates go round the solution for ever,
        :math:`\|x\|^2 / \tau + \langle A x, u \rangle + \|u\|^2 / \eta` being constant.
        A network trained with :math:`\vartheta = 0` is one for its number of
        iterations, not for more.

    :param int iterations: number of iterations.
    :param int filters: channels of the hidden layers.
    :param int in_channels: channels :math:`C` of the images.
    :param int data_channels: channels of the measurements, which have the axes of
        images. Default: ``None``, as many as of the images.
    :param bool tied: whether all iterations have the same weights and step sizes; then
        ``iterations`` can be changed at any time.
    :param float extrapolation: :math:`\vartheta` in [0, 1], fixed.
    :raises ValueError: if an argument is out of its range.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> model = deq.models.LearnedPDHG(extrapolation=0.0, tied=False)
    >>> physics = dinv.physics.Tomography(8, 16, circle=True, normalize=True)
    >>> with torch.no_grad():
    ...     print(model(physics(torch.rand(2, 1, 16, 16)), physics).shape)
    torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self,
        iterations: int = 10,
        filters: int = 32,
        in_channels: int = 1,
        data_channels: int | None = None,
        tied: bool = True,
        extrapolation: float = 1.0,
    ) -> None:
        data_channels = in_channels if data_channels is None else data_channels
        for name, value in (
            ("filters", filters),
            ("in_channels", in_channels),
            ("data_channels", data_channels),
        ):
            require_count(name, value, 1)
        require_number("extrapolation", extrapolation)
        if not 0 <= extrapolation <= 1:
            raise ValueError(f"extrapolation must be in [0, 1], got {extrapolation!r}.")
        channels = in_channels, data_channels
        super().__init__(
            lambda: _ProximalOperators(*channels, filters),
            iterations,
            in_channels,
            tied,
        )
        self.data_channels = data_channels
        self.extrapolation = float(extrapolation)

    def start(self, scan: NormalisedPhysics) -> tuple[Tensor, ...]:
        """Zero: the image, the extrapolated one, and the dual variable."""
        y = scan.y
        if y.ndim != 4 or y.shape[1] != self.data_channels:
            raise ValueError(
                f"y must be of shape (B, {self.data_channels}, H, W), with "
                f"data_channels={self.data_channels}, got {tuple(y.shape)}."
            )
        x = torch.zeros_like(scan.adjoint(y))
        return x, x, torch.zeros_like(y)

    def iterate(
        self, layer: nn.Module, state: tuple[Tensor, ...], scan: NormalisedPhysics
    ) -> tuple[Tensor, ...]:
        """One iteration for the image, the extrapolated one, and the dual variable."""
        assert isinstance(layer, _ProximalOperators)
        x, extrapolated, u = state
        u = u + layer.log_eta.exp() * scan.apply(extrapolated)
        u = u + layer.dual(torch.cat((u, scan.y), dim=1))
        after = x - layer.log_tau.exp() * scan.adjoint(u)
        after = after + layer.primal(after)
        return after, after + self.extrapolation * (after - x), u

    def extra_repr(self) -> str:
        """Return what the representation shows first."""
        return (
            f"{super().extra_repr()}, data_channels={self.data_channels}, "
            f"extrapolation={self.extrapolation:g}"
        )


class _ProximalOperators(nn.Module):
    """Those of an iteration, and its step sizes."""

    def __init__(self, in_channels: int, data_channels: int, filters: int) -> None:
        super().__init__()
        self.dual = three_convolutions(
            2 * data_channels, data_channels, filters, nn.PReLU
        )
        self.primal = three_convolutions(in_channels, in_channels, filters, nn.PReLU)
        self.log_tau = nn.Parameter(torch.tensor(math.log(0.5)))
        self.log_eta = nn.Parameter(torch.tensor(math.log(0.5)))
