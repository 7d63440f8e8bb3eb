"""Contracts of denoisers, and of what they declare."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from deepinv.models import Denoiser
from torch import Tensor

from ..certificates import Bound, UncertifiableModuleError, lipschitz
from ..certificates.image_size import require_image_size
from .contracts import (
    Contract,
    ContractReport,
    NotApplicableError,
    Suite,
    require,
    require_close,
    require_declared,
)
from .largest_stretch import StretchSearch
from .random_images import device_of, random_images
from .random_problems import normal


@dataclass(frozen=True)
class DenoiserCase:
    """The arguments of :func:`check_denoiser`."""

    component: Denoiser
    img_size: Sequence[int]
    sigma: float = 0.1
    bound: float | None = None
    rtol: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.component, Denoiser):
            raise TypeError(
                "denoiser must be a deepinv.models.Denoiser, got "
                f"{type(self.component).__name__}."
            )
        require_image_size(self.img_size)
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma must be positive and finite, got {self.sigma!r}.")

    @cached_property
    def double(self) -> Denoiser:
        """A copy in float64."""
        return copy.deepcopy(self.component).double()

    @cached_property
    def images(self) -> Tensor:
        """Images of several kinds, in float64."""
        return random_images(self.img_size, device_of(self.component))

    @cached_property
    def lipschitz(self) -> Bound:
        """The Lipschitz constant that is given or declared."""
        if self.bound is not None:
            return Bound(self.bound, source="given as bound")
        try:
            return lipschitz(self.component, self.img_size)
        except UncertifiableModuleError as error:
            raise NotApplicableError(str(error)) from None

    @cached_property
    def searches(self) -> dict[str, StretchSearch]:
        """Searches for pairs of images, at three noise levels, and of images that are
        far outside the usual range."""
        near = {
            f"sigma = {sigma:g}": StretchSearch(self._at(sigma), self.images, self.rtol)
            for sigma in (0.05 * self.sigma, 0.5 * self.sigma, 2 * self.sigma)
        }
        far = StretchSearch(self._at(self.sigma), 30 * self.images, self.rtol)
        return near | {f"30 times brighter images, sigma = {self.sigma:g}": far}

    def _at(self, sigma: float) -> Callable[[Tensor], Tensor]:
        """The denoiser at one noise level."""
        return lambda x: self.double(x, sigma)


def returns_images(case: DenoiserCase) -> None:
    """The result is finite and has the shape and the dtype of the images, in float32
    and float64. A second call returns the same. The images are not changed."""
    for dtype in (torch.float32, torch.float64):
        denoiser = copy.deepcopy(case.component).to(dtype)
        x = case.images.to(dtype)
        kept = x.clone()
        with torch.no_grad():
            first, second = denoiser(x, case.sigma), denoiser(x, case.sigma)
        require(
            first.shape == x.shape,
            f"images of shape {tuple(x.shape)} give {tuple(first.shape)}",
        )
        require(first.dtype == dtype, f"images in {dtype} give {first.dtype}")
        require(first.isfinite().all(), f"images in {dtype} give NaN or infinity")
        require(torch.equal(x, kept), "the images are changed in place")
        require(torch.equal(first, second), "two calls with one input differ")


def respects_its_lipschitz_bound(case: DenoiserCase) -> None:
    """The denoiser moves no two images further apart than its bound allows."""
    bound = case.lipschitz
    for where, search in case.searches.items():
        what = f"the denoiser at {where}"
        search.require_lipschitz(what, bound.value, bound.source)


def is_firmly_nonexpansive_as_declared(case: DenoiserCase) -> None:
    """Where ``is_firmly_nonexpansive`` is true, 2 D - I moves no two images apart."""
    name = "is_firmly_nonexpansive"
    denoiser = case.component
    require_declared(denoiser, name, "forward")
    if getattr(denoiser, name) is not True:
        raise NotApplicableError("not declared")
    source = "the denoiser declares to be firmly nonexpansive"
    for where, search in case.searches.items():
        what = f"2 D - I at {where}"
        search.require_lipschitz(what, 1.0, source, 2.0, -1.0)


def respects_its_residual_bound(case: DenoiserCase) -> None:
    """Where ``residual_bound`` is declared, D - I moves no two images further apart."""
    require_declared(case.component, "residual_bound", "forward")
    bound = case.component.residual_bound(tuple(case.img_size))
    for where, search in case.searches.items():
        what = f"D - I at {where}"
        search.require_lipschitz(what, bound.value, bound.source, 1.0, -1.0)


def is_a_proximal_operator_as_declared(case: DenoiserCase) -> None:
    r"""Where ``convexity_bound`` is declared, the Jacobian :math:`J` of :math:`D` is
    symmetric and :math:`2 (1 + m) D - I` is nonexpansive, so that :math:`J` is between
    0 and :math:`I / (1 + m)`."""
    require_declared(case.component, "convexity_bound", "forward")
    bound = case.component.convexity_bound(tuple(case.img_size))
    for where, search in case.searches.items():
        what = f"2 (1 + m) D - I at {where}"
        search.require_lipschitz(what, 1.0, bound.source, 2 * (1 + bound.value), -1.0)
    x = case.images.detach().clone().requires_grad_()
    u, v = (normal(*x.shape, seed=seed).to(x) for seed in (25, 26))
    denoised = case.double(x, case.sigma)
    JTu, JTv = (
        torch.autograd.grad(denoised, x, direction, retain_graph=True)[0]
        for direction in (u, v)
    )
    difference = float(((JTu * v).sum() - (JTv * u).sum()).abs())
    allowed = (1e-6 + case.rtol) * float(JTu.norm() * v.norm())
    require(
        difference <= allowed,
        f"the Jacobian is not symmetric: v^T J^T u and u^T J^T v differ by "
        f"{difference:.2e}; {allowed:.1e} is allowed",
    )


def takes_noise_levels_of_every_form(case: DenoiserCase) -> None:
    """A noise level can be a number or a tensor of shape (B,) or (B, 1, 1, 1), which
    gives each image its own level."""
    x = case.images
    batch = len(x)
    levels = case.sigma * torch.linspace(
        0.5, 1.5, batch, dtype=x.dtype, device=x.device
    )
    with torch.no_grad():
        number = case.double(x, case.sigma)
        alone = [case.double(x[i : i + 1], float(levels[i])) for i in range(batch)]
        for shape in ((batch,), (batch, *[1] * (x.ndim - 1))):
            what = f"the result with noise levels of shape {shape}"
            same = case.double(
                x, torch.full(shape, case.sigma, dtype=x.dtype, device=x.device)
            )
            require_close(what, same, number, 1e-9 + case.rtol)
            own = case.double(x, levels.reshape(shape))
            require_close(
                f"{what} that differ", own, torch.cat(alone), 1e-9 + case.rtol
            )


def keeps_samples_apart(case: DenoiserCase) -> None:
    """An image's result does not depend on the other images of its batch."""
    x = case.images
    order = list(range(len(x)))[::-1]
    with torch.no_grad():
        together = case.double(x, case.sigma)
        other = case.double(x[order], case.sigma)
        rtol = 1e-12 + case.rtol
        require_close("the result of a reversed batch", other, together[order], rtol)
        for i in range(len(x)):
            alone = case.double(x[i : i + 1], case.sigma)[0]
            require_close(f"the result of image {i} alone", alone, together[i], rtol)


def has_the_derivative_of_its_values(case: DenoiserCase) -> None:
    """Automatic differentiation agrees with central differences."""
    x = case.images.detach().requires_grad_()
    value = case.double(x, case.sigma)
    require(value.requires_grad, "the result carries no gradient of the image")
    v, w = (normal(*x.shape, seed=seed).to(x) for seed in (23, 24))
    (pulled,) = torch.autograd.grad(value, x, w)
    h = 1e-6
    with torch.no_grad():
        ends = [case.double(x + sign * h * v, case.sigma) for sign in (1, -1)]
    expected = (w * (ends[0] - ends[1])).flatten(1).sum(1) / (2 * h)
    found = (v * pulled).flatten(1).sum(1)
    what = "the derivative in a random direction"
    require_close(what, found, expected, 1e-4 + 10 * case.rtol)


_SUITE = Suite(
    DenoiserCase,
    returns_images,
    keeps_samples_apart,
    respects_its_lipschitz_bound,
    is_firmly_nonexpansive_as_declared,
    respects_its_residual_bound,
    is_a_proximal_operator_as_declared,
    takes_noise_levels_of_every_form,
    has_the_derivative_of_its_values,
)


def denoiser_contracts() -> dict[str, Contract[..., DenoiserCase]]:
    """Return the contracts of :func:`check_denoiser` by name."""
    return dict(_SUITE.contracts)


def check_denoiser(
    denoiser: Denoiser,
    img_size: Sequence[int],
    sigma: float = 0.1,
    bound: float | None = None,
    rtol: float = 0.0,
) -> ContractReport:
    r"""
    Check that a denoiser has the properties that it declares.

    The check searches for pairs of images that refute a declared Lipschitz constant: at
    random, and along the direction that the Jacobian stretches most, in float64 and at
    three noise levels, .05, .5 and 2 times ``sigma``, and for images that are 30 times
    brighter. A bound that is declared for all noise levels is not refuted by what
    happens at others: call the check once for each range of levels.
    :func:`denoiser_contracts` returns the contracts.

    :param deepinv.models.Denoiser denoiser: the denoiser; copies of it are run.
    :param Sequence img_size: size of an image without the batch, :math:`(C, H, W)`. The
        Jacobians are dense up to 64 entries.
    :param float sigma: a typical noise level, in the units of the images.
    :param float bound: Lipschitz constant of the denoiser. Default: ``None``, the bound
        of :func:`deepinv_equilibrium.lipschitz`, if the denoiser can be certified.
    :param float rtol: accuracy of the denoiser relative to the norm of its result, if
        it is computed by an iteration. Default: 0.
    :return: (ContractReport) which contracts hold.
    :raises ContractError: if a contract is broken; the message names the contract.
    :raises TypeError: if ``denoiser`` is not a Denoiser, or ``img_size`` is not a
        sequence.
    :raises ValueError: if ``img_size`` or ``sigma`` is out of its range.

    |sep|

    :Example:

    >>> import deepinv_equilibrium as deq
    >>> from deepinv_equilibrium import testing
    >>> denoiser = deq.models.ConvexPotentialDenoiser(in_channels=1, contraction=0.9)
    >>> print(testing.check_denoiser(denoiser, img_size=(1, 8, 8)))
    ConvexPotentialDenoiser
    returns_images                      holds
    keeps_samples_apart                 holds
    respects_its_lipschitz_bound        holds
    is_firmly_nonexpansive_as_declared  does not apply: not declared
    respects_its_residual_bound         does not apply: not declared
    is_a_proximal_operator_as_declared  does not apply: not declared
    takes_noise_levels_of_every_form    holds
    has_the_derivative_of_its_values    holds
    """
    return _SUITE.check(DenoiserCase(denoiser, img_size, sigma, bound, rtol))
