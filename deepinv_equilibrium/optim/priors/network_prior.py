"""Priors whose energy a network gives, with their true gradients."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from deepinv.models import Denoiser
from deepinv.optim import Prior
from torch import Tensor, nn

from ..descent.energy import value_and_gradient
from ..named_denoisers import as_denoiser


class NetworkPrior(Prior):
    r"""
    Base of the priors :math:`g` that have a network: :math:`\nabla g` is that of the
    value, by automatic differentiation, and is recorded where gradients are enabled, so
    that the network can be trained through it; elsewhere nothing is kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.explicit_prior = True

    @abstractmethod
    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r""":math:`g(x)`, of shape :math:`(B,)`."""

    def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        :param torch.Tensor x: images, of shape :math:`(B, C, H, W)`.
        :param args: what :meth:`fn` takes.
        :return: :math:`\nabla g(x)`, of the shape of ``x``.
        """
        return value_and_gradient(lambda x: self.fn(x, *args, **kwargs), x)[1]


class NetworkResidualPrior(NetworkPrior):
    r"""
    The energy of what a network changes,

    .. math::

        g_\sigma(x) = \frac12 \|x - N_\sigma(x)\|^2, \qquad
        \nabla g_\sigma(x) = x - N_\sigma(x)
            - \partial N_\sigma(x)^\top \bigl(x - N_\sigma(x)\bigr),

    of :footcite:t:`hurault2022gradient`. It is 0 at the fixed points of :math:`N`. The
    gradient is the true one, with the transposed Jacobian that
    :class:`deepinv.optim.RED` leaves out, so that :math:`f + \lambda g` has an energy
    to descend on. :math:`N` is any network, and needs no constraint; with activations
    that are smooth, :math:`\nabla g` is continuous.

    In contrast to :class:`deepinv.models.GSPnP <deepinv.models.GSPnP.GSPnP>`, which is
    the denoiser :math:`I - \nabla g`, it computes in the dtype of the images, and has
    no ``detach`` to cut its derivative off.

    :param deepinv.models.Denoiser, str denoiser: :math:`N`, or its name in
        :mod:`deepinv_equilibrium.plugins`.
    :raises TypeError: if it is neither a denoiser nor a name.

    |sep|

    :Example:

    >>> import torch, deepinv_equilibrium as deq
    >>> prior = deq.optim.NetworkResidualPrior("small-drunet")
    >>> x = torch.full((2, 3, 8, 8), 0.5)
    >>> prior(x, 0.1).shape, prior.grad(x, 0.1).shape
    (torch.Size([2]), torch.Size([2, 3, 8, 8]))
    """

    def __init__(self, denoiser: Denoiser | str) -> None:
        super().__init__()
        self.denoiser = as_denoiser(denoiser)

    def fn(
        self, x: Tensor, sigma_denoiser: float | Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        r"""
        :param torch.Tensor x: images, of shape :math:`(B, C, H, W)`.
        :param float, torch.Tensor sigma_denoiser: :math:`\sigma`.
        :return: :math:`g_\sigma(x)`, of shape :math:`(B,)`.
        """
        gap = x - self.denoiser(x, sigma_denoiser)
        return 0.5 * gap.square().flatten(1).sum(dim=1)


class ScalarNetworkPrior(NetworkPrior):
    r"""
    The output of a network as the energy itself,

    .. math::

        g(x) = \sum_i N(x)_i ,

    the sum over all entries of a sample: a scalar output as it is, and a potential
    summed over features and pixels of a convolutional network. It is convex with
    :class:`deepinv.models.ICNN`; its activations must be differentiable, e.g. softplus.
    It should be bounded from below, or so should be its sum with the data fidelity.

    :param torch.nn.Module network: :math:`N`, from images of shape
        :math:`(B, C, H, W)` to a tensor of shape :math:`(B, ...)`, which keeps samples
        apart. It takes no noise level.
    :raises TypeError: if it is no module.

    |sep|

    :Example:

    >>> import torch, deepinv_equilibrium as deq
    >>> network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Softplus())
    >>> prior = deq.optim.ScalarNetworkPrior(network)
    >>> x = torch.full((2, 1, 8, 8), 0.5)
    >>> prior(x).shape, prior.grad(x).shape
    (torch.Size([2]), torch.Size([2, 1, 8, 8]))
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(
                "network must be a torch.nn.Module, from images to one or more numbers "
                f"a sample, got {type(network).__name__}."
            )
        self.network = network

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        :param torch.Tensor x: images, of shape :math:`(B, C, H, W)`.
        :return: :math:`g(x)`, of shape :math:`(B,)`.
        :raises ValueError: if the network does not keep the axis of the samples.
        """
        value: Tensor = self.network(x)
        if value.shape[:1] != x.shape[:1]:
            raise ValueError(
                "network must return one or more numbers for each sample, with the "
                f"batch first, of size {len(x)}, got shape {tuple(value.shape)}."
            )
        return value.reshape(len(x), -1).sum(dim=1)
