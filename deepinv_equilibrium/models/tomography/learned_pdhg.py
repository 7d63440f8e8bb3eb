"""The primal-dual algorithm with learned proximal operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from ...certificates.spectra.operator_norm import OperatorNorm
from ...fixed_points.argument_checks import require_number
from .learned_iterations import (
    LearnedIterations,
    NormalisedPhysics,
    require_data_channels,
)
from .small_networks import three_convolutions

Operator = Callable[[Tensor], Tensor]


class LearnedPDHG(LearnedIterations):
    r"""
    The primal-dual hybrid gradient algorithm with learned proximal operators and step
    sizes. The iterations start from zero and are, with a linear operator :math:`K`,

    .. math::

        u_{k+1} &= \Psi_{\theta_k} \bigl( u_k + \eta_k K \bar x_k \bigr), \\
        x_{k+1} &= \Phi_{\phi_k} \bigl( x_k - \tau_k K^\top u_{k+1} \bigr), \\
        \bar x_{k+1} &= x_{k+1} + \vartheta (x_{k+1} - x_k).

    The networks :math:`\Psi_\theta` and :math:`\Phi_\phi` take the place of
    :math:`\operatorname{prox}_{\eta g^*}` and :math:`\operatorname{prox}_{\tau f}` in
    the algorithm for :math:`\min_x f(x) + g(K x)`. The measurement enters the network
    of the function that holds the data fidelity :math:`\tfrac12 \|A x - y\|^2`:

    - By default :math:`K = A`, the operator of the physics. Then :math:`g` holds the
      data fidelity, :math:`u` is a measurement, and the dual network sees :math:`y`:

      .. math::

          \Psi_\theta(w, y) = w + N_\theta(w, y), \qquad
          \Phi_\phi(w) = w + N_\phi(w).

    - With ``K``, for example finite differences, :math:`f` holds the data fidelity, and
      the primal network sees :math:`y` through the gradient of the data fidelity:

      .. math::

          \Psi_\theta(w) = w + N_\theta(w), \qquad
          \Phi_\phi(w, y) = w + N_\phi \bigl( w, A^\top (A w - y) \bigr).

      This is the general form of the slides on unrolled primal-dual algorithms (L.
      Calatroni, "Computational imaging & learning", 2026), in which :math:`\Phi`
      replaces :math:`\operatorname{prox}_{\tau f_y}`. The slides leave open how
      :math:`\Phi` depends on :math:`y`. The gradient is enough to represent

      .. math::

          \operatorname{prox}_{\tau f_y}(w) = w - \tfrac{\tau}{1 + \tau}
          A^\top (A w - y) \quad \text{if } A A^\top = I

      exactly (denoising, inpainting, single-coil MRI), and to first order in
      :math:`\tau` for any :math:`A`.

    Each network :math:`N` consists of three 3×3 convolutions with PReLU. The step sizes
    are positive: they are learned as logarithms and start from :math:`\tfrac12`.
    :math:`A` and :math:`K` are each divided by an upper bound of their norms.

    With :math:`K = A`, the extrapolation :math:`\vartheta = 1` and the same weights in
    all iterations, which are the defaults, the model is the learned PDHG of
    :footcite:t:`adler2018learned` (Algorithm 2) except for two points. There, the
    networks add their output to :math:`u_k` and :math:`x_k`; here, they add it to the
    result of the gradient step, as a proximal operator does. There, :math:`\vartheta`
    is learned; here, it is fixed. The slides have :math:`\vartheta = 0`, with weights
    that are shared or different in every iteration.

    .. warning::

        The classical algorithm converges with :math:`\vartheta = 1` if
        :math:`\tau \eta \|K\|^2 < 1` :footcite:p:`chambolle2011first`. Without
        extrapolation it need not converge. If both proximal operators are the identity,
        as here when the networks are 0, :math:`\|x\|^2 / \tau + \langle K x, u \rangle
        + \|u\|^2 / \eta` is constant, and the iterates circle around the solution.
        Use a network trained with :math:`\vartheta = 0` only with the number of
        iterations that it was trained with.

    :param int iterations: number of iterations.
    :param int filters: channels of the hidden layers.
    :param int in_channels: channels :math:`C` of the images.
    :param int data_channels: channels :math:`C'` of the dual variable :math:`u`, which
        has the shape :math:`(B, C', H', W')` of the measurements or, with ``K``, of
        :math:`K x`. Default: ``None``, which means ``in_channels``.
    :param bool tied: whether all iterations have the same weights and step sizes. If
        so, ``iterations`` can be changed at any time.
    :param float extrapolation: :math:`\vartheta` in [0, 1], fixed.
    :param Callable K: linear operator :math:`K` from images to tensors of shape
        :math:`(B, C', H', W')`, as in :class:`deepinv.optim.PDCP`. An operator that
        holds tensors should be a :class:`torch.nn.Module`, which moves with the model.
        Default: ``None``, the operator :math:`A` of the physics.
    :param Callable K_adjoint: the adjoint :math:`K^\top`, required with ``K``.
    :raises TypeError: if ``K`` or ``K_adjoint`` is not callable.
    :raises ValueError: if an argument is out of its range, or only one of ``K`` and
        ``K_adjoint`` is given.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> model = deq.models.LearnedPDHG(extrapolation=0.0, tied=False)
    >>> physics = dinv.physics.Tomography(8, 16, circle=True, normalize=True)
    >>> y = physics(torch.rand(2, 1, 16, 16))
    >>> with torch.no_grad():
    ...     print(model(y, physics).shape)
    torch.Size([2, 1, 16, 16])

    Finite differences as ``K`` give a learned total variation:

    >>> from deepinv_equilibrium.optim.total_variation import (
    ...     differences, differences_adjoint
    ... )
    >>> model = deq.models.LearnedPDHG(
    ...     data_channels=2,  # one for each direction
    ...     K=lambda x: differences(x).flatten(1, 2),
    ...     K_adjoint=lambda u: differences_adjoint(u.unflatten(1, (-1, 2))),
    ... )
    >>> with torch.no_grad():
    ...     print(model(y, physics).shape)
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
        K: Operator | None = None,
        K_adjoint: Operator | None = None,
    ) -> None:
        channels = in_channels if data_channels is None else data_channels
        require_number("extrapolation", extrapolation)
        if not 0 <= extrapolation <= 1:
            raise ValueError(f"extrapolation must be in [0, 1], got {extrapolation!r}.")
        if (K is None) != (K_adjoint is None):
            raise ValueError(
                "K and K_adjoint must be given together, or neither of them for the "
                f"operator of the physics, got {K=} and {K_adjoint=}."
            )
        for name, operator in (("K", K), ("K_adjoint", K_adjoint)):
            if operator is not None and not callable(operator):
                raise TypeError(
                    f"{name} must be a function of a tensor, such as physics.A, got "
                    f"{operator!r}."
                )

        def layer() -> nn.Module:
            # The network that sees the measurement has twice as many input channels.
            dual, image = channels, in_channels
            dual, image = (2 * dual, image) if K is None else (dual, 2 * image)
            return _ProximalOperators(
                three_convolutions(dual, channels, filters, nn.PReLU),
                three_convolutions(image, in_channels, filters, nn.PReLU),
            )

        super().__init__(
            layer,
            iterations,
            in_channels,
            tied,
            data_channels=channels,
            filters=filters,
        )
        self.data_channels = channels
        self.extrapolation = float(extrapolation)
        self.K, self.K_adjoint = K, K_adjoint
        self._coupling_norm = OperatorNorm()

    def normalise(self, y: Tensor, physics: LinearPhysics) -> NormalisedPhysics:
        """Divide :math:`A`, :math:`y` and :math:`K` by bounds of the norms of the
        operators; see :class:`LearnedIterations`."""
        scan = super().normalise(y, physics)
        if self.K is None:
            return scan
        K = LinearPhysics(A=self.K, A_adjoint=self.K_adjoint, device=y.device)
        x = torch.zeros_like(scan.adjoint(y))
        norm = self._coupling_norm.squared(K, x).value ** 0.5
        return SplitPhysics(scan.physics, y, scan.norm, K, norm)

    def start(self, scan: NormalisedPhysics) -> tuple[Tensor, ...]:
        """Return zero for the image, the extrapolated image and the dual variable."""
        x = torch.zeros_like(scan.adjoint(scan.y))
        if isinstance(scan, SplitPhysics):
            name, u = "the value of K", scan.couple(x)
        else:
            name, u = "y", scan.y
        require_data_channels(name, u, self.data_channels)
        return x, x, torch.zeros_like(u)

    def iterate(
        self, layer: nn.Module, state: tuple[Tensor, ...], scan: NormalisedPhysics
    ) -> tuple[Tensor, ...]:
        """Return the next image, extrapolated image and dual variable."""
        assert isinstance(layer, _ProximalOperators)
        x, extrapolated, u = state
        eta, tau = layer.log_eta.exp(), layer.log_tau.exp()
        if isinstance(scan, SplitPhysics):
            u = u + eta * scan.couple(extrapolated)
            u = u + layer.dual(u)
            after = x - tau * scan.couple_adjoint(u)
            gradient = scan.adjoint(scan.apply(after) - scan.y)
            after = after + layer.primal(torch.cat((after, gradient), dim=1))
        else:
            u = u + eta * scan.apply(extrapolated)
            u = u + layer.dual(torch.cat((u, scan.y), dim=1))
            after = x - tau * scan.adjoint(u)
            after = after + layer.primal(after)
        return after, after + self.extrapolation * (after - x), u

    def extra_repr(self) -> str:
        """Return the part of the representation that precedes the layers."""
        return (
            f"{super().extra_repr()}, data_channels={self.data_channels}, "
            f"extrapolation={self.extrapolation:g}"
        )


@dataclass(frozen=True)
class SplitPhysics(NormalisedPhysics):
    r"""
    A normalised physics beside an operator :math:`K / m`, with an upper bound :math:`m`
    of :math:`\|K\|`.

    :param deepinv.physics.LinearPhysics K: :math:`K`.
    :param float coupling_norm: :math:`m > 0`.
    """

    K: LinearPhysics
    coupling_norm: float

    def couple(self, x: Tensor) -> Tensor:
        r"""Return :math:`K x / m`."""
        return self.K.A(x) / self.coupling_norm

    def couple_adjoint(self, u: Tensor) -> Tensor:
        r"""Return :math:`K^\top u / m`."""
        return self.K.A_adjoint(u) / self.coupling_norm


class _ProximalOperators(nn.Module):
    """The two networks of an iteration and its step sizes."""

    def __init__(self, dual: nn.Sequential, primal: nn.Sequential) -> None:
        super().__init__()
        self.dual, self.primal = dual, primal
        self.log_tau = nn.Parameter(torch.tensor(math.log(0.5)))
        self.log_eta = nn.Parameter(torch.tensor(math.log(0.5)))
