"""Priors whose energy is computed by a network, with exact gradients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from deepinv.models import Denoiser
from deepinv.optim import Prior
from torch import Tensor, nn

from ...equilibrium.input_checks import require_denoiser
from .smooth_proximal import stationary_prox


def value_and_gradient(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Tensor]:
    r"""
    Return the values of a function and its gradients, by automatic differentiation.

    :param Callable function: maps images of shape :math:`(B, ...)` to one number a
        sample, of shape :math:`(B,)`, each of which depends on its own sample only.
    :param torch.Tensor x: images; they are not changed.
    :return: the values, without gradient, and the gradients, of the shape of ``x``. The
        gradients are recorded where gradients are enabled.
    """
    record = torch.is_grad_enabled()
    with torch.enable_grad():
        if not x.requires_grad:
            x = x.detach().requires_grad_()
        value = function(x)
        if not value.requires_grad:  # a constant, such as deepinv's ZeroPrior
            return value, torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=record)
    return value.detach(), gradient


class NetworkPrior(Prior):
    r"""
    Base class of priors :math:`g` that a network computes.

    Automatic differentiation of :meth:`fn` gives :math:`\nabla g`. The gradient is
    recorded if gradients are enabled, so that the network can be trained through it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.explicit_prior = True

    @abstractmethod
    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""Return :math:`g(x)`, of shape :math:`(B,)`."""

    def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        Return the gradient of the prior.

        :param torch.Tensor x: images, of shape :math:`(B, C, H, W)`.
        :param args: further arguments of :meth:`fn`.
        :return: (:class:`torch.Tensor`) :math:`\nabla g(x)`, of the shape of ``x``.
        """
        return value_and_gradient(lambda x: self.fn(x, *args, **kwargs), x)[1]

    def prox(
        self, x: Tensor, *args: Any, gamma: float | Tensor = 1.0, **kwargs: Any
    ) -> Tensor:
        r"""
        Evaluate the proximal operator
        :math:`\operatorname*{arg\,min}_z \frac12 \|z - x\|^2 + \gamma g(z)`.

        The stationary point near :math:`x` is solved until

        .. math::

            \|z - x + \gamma \nabla g(z)\| \leq \epsilon (1 + \gamma \hat L) \|z\|,

        up to rounding, with an estimate :math:`\hat L` of the smoothness of :math:`g`
        and :math:`\epsilon = 10^{-10}` in float64, :math:`10^{-6}` in float32. It is
        the minimiser if the objective is convex. If the objective is not convex near
        :math:`x`, or :math:`\nabla g` jumps, as with rectified linear units, the solve
        can fail, and warns. The gradient is that of the implicit function theorem.
        (The operator that deepinv's priors inherit stops after 50 gradient steps.)

        :param torch.Tensor x: images, of shape :math:`(B, C, H, W)`.
        :param args: further arguments of :meth:`fn`.
        :param float, torch.Tensor gamma: :math:`\gamma \geq 0`, a number or one number
            a sample. Default: 1.
        :return: (:class:`torch.Tensor`) the proximal operator, of the shape of ``x``.
        """
        weight = torch.as_tensor(gamma, dtype=x.dtype, device=x.device)
        weight = weight.reshape(-1, *[1] * (x.ndim - 1))
        return stationary_prox(lambda z: self.grad(z, *args, **kwargs), x, weight)


class NetworkResidualPrior(NetworkPrior):
    r"""
    Half the squared norm of the residual of a network,

    .. math::

        g_\sigma(x) = \frac12 \|x - N_\sigma(x)\|^2, \qquad
        \nabla g_\sigma(x) = x - N_\sigma(x)
            - \partial N_\sigma(x)^\top \bigl(x - N_\sigma(x)\bigr),

    from :footcite:t:`hurault2022gradient`. It is 0 at the fixed points of :math:`N`.
    The gradient is exact: it contains the transposed Jacobian, which
    :class:`deepinv.optim.RED` omits. An algorithm on :math:`f + \lambda g` therefore
    decreases an energy. :math:`N` needs no constraint; :math:`\nabla g` is continuous
    if the activations are smooth.

    :class:`deepinv.models.GSPnP <deepinv.models.GSPnP.GSPnP>` is the denoiser
    :math:`I - \nabla g`. In contrast to it, this prior computes in the dtype of the
    images, and its derivative is not cut off by ``detach``.

    :param deepinv.models.Denoiser denoiser: :math:`N`.
    :raises TypeError: if ``denoiser`` is not a denoiser.

    |sep|

    :Example:

    >>> import torch, deepinv_equilibrium as deq
    >>> prior = deq.optim.NetworkResidualPrior(deq.models.SmallDRUNet())
    >>> x = torch.full((2, 3, 8, 8), 0.5)
    >>> prior(x, 0.1).shape, prior.grad(x, 0.1).shape
    (torch.Size([2]), torch.Size([2, 3, 8, 8]))
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        require_denoiser(denoiser)
        self.denoiser = denoiser

    def fn(
        self, x: Tensor, sigma_denoiser: float | Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        r"""
        Evaluate the prior.

        :param torch.Tensor x: images, of shape :math:`(B, C, H, W)`.
        :param float, torch.Tensor sigma_denoiser: noise level :math:`\sigma`.
        :return: (:class:`torch.Tensor`) :math:`g_\sigma(x)`, of shape :math:`(B,)`.
        """
        gap = x - self.denoiser(x, sigma_denoiser)
        return 0.5 * gap.square().flatten(1).sum(dim=1)


class ScalarNetworkPrior(NetworkPrior):
    r"""
    The sum over the output of a network,

    .. math::

        g(x) = \sum_i N(x)_i .

    The output may be a scalar, or features at every pixel. The activations must be
    differentiable, e.g. softplus. The prior is convex with
    :class:`deepinv.models.ICNN`. The sum of data fidelity and prior should be bounded
    from below.

    :param torch.nn.Module network: :math:`N`, from images of shape
        :math:`(B, C, H, W)` to a tensor of shape :math:`(B, ...)`. Each sample of the
        output depends on its own image only. The network receives no noise level.
    :raises TypeError: if ``network`` is not a module.

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
        Evaluate the prior.

        :param torch.Tensor x: images, of shape :math:`(B, C, H, W)`.
        :return: (:class:`torch.Tensor`) :math:`g(x)`, of shape :math:`(B,)`.
        :raises ValueError: if the first axis of the output is not the batch.
        """
        value: Tensor = self.network(x)
        if value.shape[:1] != x.shape[:1]:
            raise ValueError(
                "network must return one or more numbers for each sample, with the "
                f"batch first, of size {len(x)}, got shape {tuple(value.shape)}."
            )
        return value.reshape(len(x), -1).sum(dim=1)
