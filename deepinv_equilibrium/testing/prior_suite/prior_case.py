"""The arguments of a check of a prior."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from deepinv.optim import Prior
from deepinv.optim.potential import Potential
from torch import Tensor

from ...certificates.image_size import require_image_size
from ..contracts import NotApplicableError
from ..random_images import device_of, random_images

GAMMAS = (0.3, 2.0)


@dataclass(frozen=True)
class PriorCase:
    """The arguments of :func:`check_prior`."""

    component: Prior
    img_size: Sequence[int]
    parameters: tuple[Any, ...] = ()
    convex: bool = False
    rtol: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.component, Prior):
            raise TypeError(
                "prior must be a deepinv.optim.Prior, got "
                f"{type(self.component).__name__}; a denoiser becomes one by "
                "deepinv.optim.PnP(denoiser)."
            )
        require_image_size(self.img_size)

    @cached_property
    def double(self) -> Prior:
        """A copy in float64."""
        return copy.deepcopy(self.component).double()

    @cached_property
    def images(self) -> Tensor:
        """Images of several kinds, in float64."""
        return random_images(self.img_size, device_of(self.component))

    # Copies are passed: deepinv's grad calls requires_grad_ on its argument.
    def energy(self, x: Tensor) -> Tensor:
        """The value of the prior."""
        return self.double.fn(x.clone(), *self.parameters)

    def gradient(self, x: Tensor) -> Tensor:
        """The gradient of the prior."""
        return self.double.grad(x.clone(), *self.parameters)

    def prox(self, x: Tensor, gamma: float | Tensor) -> Tensor:
        """The proximal operator of the prior."""
        return self.double.prox(x.clone(), *self.parameters, gamma=gamma)

    def require_energy(self) -> None:
        """Leave out a contract if the prior has no energy."""
        if not self.component.explicit_prior:
            raise NotApplicableError("the prior has no energy (explicit_prior=False)")

    def require_gradient(self, own: bool = False) -> None:
        """Leave out a contract if the prior refuses ``grad`` or, with ``own``, inherits
        deepinv's automatic differentiation of ``fn``."""
        inherited = type(self.component).grad is Potential.grad
        if inherited and (own or not self.component.explicit_prior):
            raise NotApplicableError("the prior does not define grad")
        _require("grad", self._refusal_of_grad)

    def require_prox(self) -> None:
        """Leave out a contract if the prior refuses ``prox`` or inherits that of
        deepinv, which makes some steps of gradient descent."""
        if type(self.component).prox is Potential.prox:
            raise NotApplicableError("the prior does not define prox")
        _require("prox", self._refusal_of_prox)

    # Tried once for all contracts.
    @cached_property
    def _refusal_of_grad(self) -> str | None:
        return _refusal(lambda: self.gradient(self.images))

    @cached_property
    def _refusal_of_prox(self) -> str | None:
        return _refusal(lambda: self.prox(self.images, GAMMAS[0]))


def _refusal(call: Callable[[], Tensor]) -> str | None:
    """Return the message with which a call is refused, if it is."""
    try:
        call()
    except (ValueError, NotImplementedError) as error:
        return str(error)
    return None


def _require(name: str, refusal: str | None) -> None:
    if refusal is not None:
        raise NotApplicableError(f"{name} is refused: {refusal}")
