"""Regularisation by denoising, and tests of its gradient."""

from __future__ import annotations

from dataclasses import dataclass

import deepinv.optim
import torch
from torch import Tensor

from ...certificates import Kind
from ...certificates.gradients.state_jacobian import StateJacobian
from ...equilibrium.input_checks import require_denoiser

PROBES = 4


@dataclass(frozen=True)
class GradientConditions:
    r"""
    Observations at some images whether :math:`x \mapsto x -
    \operatorname{D}_\sigma(x)` can be a gradient.

    Each condition has one number a sample, which is 0 up to rounding if the condition
    is met. A number that is not small disproves the condition. A small number says
    nothing about other images.

    :param torch.Tensor homogeneity: :math:`\|J x - \operatorname{D}(x)\| /
        \|\operatorname{D}(x)\|` with the Jacobian :math:`J` of
        :math:`\operatorname{D}`. It is 0 if :math:`\operatorname{D}` is locally
        homogeneous: :math:`\operatorname{D}((1 + h) x) = (1 + h) \operatorname{D}(x)`
        for small :math:`h`.
    :param torch.Tensor asymmetry: :math:`\|J v - J^\top v\| / \|J v\|` over random
        :math:`v`, an estimate of :math:`\|J - J^\top\|_F / \|J\|_F`, between 0 and 2.
        If it is not 0, :math:`x - \operatorname{D}(x)` is not a gradient.
    :param torch.Tensor energy: :math:`\|\nabla g(x) - (x - \operatorname{D}(x))\| /
        \|x - \operatorname{D}(x)\|` for the energy :math:`g(x) = \tfrac12 x^\top (x -
        \operatorname{D}(x))`. It is 0 if both conditions hold.
    :param Kind kind: observed.
    """

    homogeneity: Tensor
    asymmetry: Tensor
    energy: Tensor
    kind: Kind = Kind.OBSERVED

    def __str__(self) -> str:
        rows = [
            ("local homogeneity", self.homogeneity, "D is locally homogeneous"),
            ("asymmetry", self.asymmetry, "x - D(x) is the gradient of some function"),
            ("energy", self.energy, "it is that of x^T (x - D(x)) / 2"),
        ]
        lines = [
            f"{name:18s} {values.max():8.1e}  0 where {meaning}"
            for name, values, meaning in rows
        ]
        title = f"largest of {len(self.energy)} samples ({self.kind})"
        return "\n".join([title, *lines])


class RED(deepinv.optim.RED):
    r"""
    Regularisation by denoising :footcite:p:`romano2017little`:
    the residual :math:`x - \operatorname{D}_\sigma(x)` of a denoiser takes the place of
    the gradient of a prior.

    The residual is the gradient of an energy,

    .. math::

        g(x) = \tfrac12 x^\top (x - \operatorname{D}_\sigma(x)), \qquad
        \nabla g(x) = x - \operatorname{D}_\sigma(x),

    if :math:`\operatorname{D}_\sigma` is locally homogeneous and has a symmetric
    Jacobian, and not otherwise :footcite:p:`reehorst2019regularization`. Most denoisers
    meet neither condition. An equilibrium needs no energy. Call :meth:`check_gradient`
    before :meth:`fn` is used as an energy.

    :param deepinv.models.Denoiser denoiser: :math:`\operatorname{D}`.
    :raises TypeError: if ``denoiser`` is not a denoiser.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> prior = deq.optim.RED(dinv.models.MedianFilter())
    >>> report = prior.check_gradient(torch.rand(2, 1, 8, 8), sigma_denoiser=0.1)
    >>> bool(report.homogeneity.max() < 1e-5), bool(report.asymmetry.min() > 0.1)
    (True, True)
    """

    def __init__(self, denoiser: deepinv.models.Denoiser) -> None:
        require_denoiser(denoiser)
        super().__init__(denoiser)

    def fn(self, x: Tensor, sigma_denoiser: Tensor | float) -> Tensor:
        r"""
        Return :math:`\tfrac12 x^\top (x - \operatorname{D}_\sigma(x))`. Its gradient is
        :meth:`grad` only under the conditions above.

        :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
        :param torch.Tensor, float sigma_denoiser: noise level of the denoiser.
        :return: (:class:`torch.Tensor`) the values, of shape :math:`(B,)`.
        """
        return 0.5 * (x * self.grad(x, sigma_denoiser)).flatten(1).sum(1)

    def check_gradient(
        self, x: Tensor, sigma_denoiser: Tensor | float
    ) -> GradientConditions:
        r"""
        Test at some images whether :math:`x - \operatorname{D}_\sigma(x)` can be a
        gradient.

        :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
        :param torch.Tensor, float sigma_denoiser: noise level of the denoiser.
        :return: (GradientConditions) one number a sample for each condition.
        :raises ValueError: if products with the Jacobian of the denoiser cannot be
            computed.
        """
        jacobian = StateJacobian(lambda u: self.denoiser(u, sigma_denoiser), x)
        flat, denoised = x.detach().flatten(1), jacobian.value.detach()
        along = jacobian.product(flat)
        residual = flat - denoised
        claimed = flat - 0.5 * (denoised + jacobian.adjoint(flat))
        generator = torch.Generator().manual_seed(0)
        apart = size = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for _ in range(PROBES):
            v = torch.randn(flat.shape, generator=generator, dtype=torch.float64)
            v = v.to(flat)
            pushed = jacobian.product(v)
            apart = apart + (pushed - jacobian.adjoint(v)).square().sum(1)
            size = size + pushed.square().sum(1)
        return GradientConditions(
            _ratio(along - denoised, denoised),
            torch.where(size > 0, (apart / size).sqrt(), 0.0),
            _ratio(claimed - residual, residual),
        )


def _ratio(error: Tensor, reference: Tensor) -> Tensor:
    """Ratio of the norms of each sample; 0 where the error is 0."""
    norm = error.norm(dim=1)
    return torch.where(norm > 0, norm / reference.norm(dim=1), 0.0)
