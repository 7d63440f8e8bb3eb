"""Contracts of linear physics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..certificates import spectrum
from ..certificates.image_size import require_image_size
from ..certificates.spectra.double_precision import double_copy
from ..certificates.spectra.physics_operator import batch_size, device_of
from .contracts import (
    Contract,
    ContractReport,
    Suite,
    require,
    require_close,
)
from .random_problems import F64, normal

Measurement = Tensor | list["Measurement"]
DENSE = 400  # entries of an image up to which A is dense
PAIRS = 4
POWER_STEPS = 60


@dataclass(frozen=True)
class PhysicsCase:
    """The arguments of :func:`check_physics`."""

    component: LinearPhysics
    img_size: Sequence[int]

    def __post_init__(self) -> None:
        if not isinstance(self.component, LinearPhysics):
            raise TypeError(
                "physics must be a deepinv.physics.LinearPhysics, got "
                f"{type(self.component).__name__}."
            )
        require_image_size(self.img_size)

    @cached_property
    def double(self) -> LinearPhysics:
        """A copy in float64."""
        return double_copy(self.component)

    @property
    def batch(self) -> int:
        """Number of images that the parameters are for, 1 if they are shared."""
        return batch_size(self.component)

    def images(self, seed: int, batch: int | None = None) -> Tensor:
        """Normal random images in float64."""
        shape = (self.batch if batch is None else batch, *self.img_size)
        return normal(*shape, seed=seed).to(device_of(self.component))


def has_the_right_shapes_and_dtypes(case: PhysicsCase) -> None:
    """``A`` and ``A_adjoint`` keep the precision, ``A_adjoint`` returns the shape of
    the images, and the images are not changed."""
    for physics, dtype in ((case.component, torch.float32), (case.double, F64)):
        x = case.images(51).to(dtype)
        kept = x.clone()
        with torch.no_grad():
            y = physics.A(x)
            back = physics.A_adjoint(y)
        require(torch.equal(x, kept), "A changes its image in place")
        for part in parts(y):
            require(
                part.real.dtype == dtype,
                f"A of an image in {dtype} gives {part.dtype}",
            )
        require(
            back.shape == x.shape,
            f"A_adjoint gives {tuple(back.shape)} for images {tuple(x.shape)}",
        )
        require(back.dtype == dtype, f"A_adjoint gives {back.dtype}, not {dtype}")


def is_linear(case: PhysicsCase) -> None:
    """``A`` is linear."""
    u, v = case.images(52), case.images(53)
    with torch.no_grad():
        found = parts(case.double.A(2 * u - 3 * v))
        terms = zip(parts(case.double.A(u)), parts(case.double.A(v)), strict=True)
        for got, (a, b) in zip(found, terms, strict=True):
            require_close("A(2 u - 3 v)", got, 2 * a - 3 * b, 1e-9)


def has_the_transposed_adjoint(case: PhysicsCase) -> None:
    r"""``A_adjoint`` is the transpose of ``A``:
    :math:`\langle A u, w \rangle = \langle u, A^\top w \rangle`."""
    for seed in range(PAIRS):
        u = case.images(54 + seed)
        with torch.no_grad():
            y = case.double.A(u)
            w = random_like(y, 64 + seed)
            left, right = inner(y, w), inner(u, case.double.A_adjoint(w))
        scale = math.sqrt(inner(y, y) * inner(w, w))
        require(
            abs(left - right) <= 1e-9 * scale + 1e-300,
            f"<A u, w> = {left:.8e} and <u, A_adjoint(w)> = {right:.8e} differ by "
            f"{abs(left - right) / max(scale, 1e-300):.1e} of their scale",
        )


def has_its_spectrum(case: PhysicsCase) -> None:
    r"""The eigenvalues of :math:`A^\top A` are in the interval of
    :func:`deepinv_equilibrium.spectrum`."""
    interval = spectrum(case.component, case.img_size)
    eigenvalues = _eigenvalues(case)
    least, largest = float(eigenvalues.min()), float(eigenvalues.max())
    rounding = 1e-9 * max(largest, 1e-300)
    require(
        largest <= interval.upper.value + rounding,
        f"A^T A has the eigenvalue {largest:.10g}, above its bound {interval.upper}",
    )
    require(
        least >= interval.lower.value - rounding,
        f"A^T A has the eigenvalue {least:.10g}, below its bound {interval.lower}",
    )


def keeps_samples_apart(case: PhysicsCase) -> None:
    """An image's measurement does not depend on the other images of the batch."""
    batch = case.batch if case.batch > 1 else 3
    x = case.images(70, batch)
    other = case.images(71, batch)
    other[0] = x[0]
    with torch.no_grad():
        pairs = zip(parts(case.double.A(x)), parts(case.double.A(other)), strict=True)
        for a, b in pairs:
            require_close("A of image 0 beside others", b[0], a[0], 1e-12)
        if case.batch > 1:
            return
        alone = parts(case.double.A(x[:1]))
        for a, b in zip(parts(case.double.A(x)), alone, strict=True):
            require_close("A of image 0 alone", b[0], a[0], 1e-12)


def has_consistent_products(case: PhysicsCase) -> None:
    """``A_adjoint_A`` and ``A_A_adjoint`` are the products of ``A`` and
    ``A_adjoint``."""
    x = case.images(72)
    with torch.no_grad():
        y = case.double.A(x)
        back = case.double.A_adjoint(y)
        require_close("A_adjoint_A", case.double.A_adjoint_A(x), back, 1e-6)
        found = parts(case.double.A_A_adjoint(y))
        for got, right in zip(found, parts(case.double.A(back)), strict=True):
            require_close("A_A_adjoint", got, right, 1e-6)


def has_the_least_squares_prox(case: PhysicsCase) -> None:
    r"""``prox_l2`` solves :math:`(I + \gamma A^\top A) x = z + \gamma A^\top y`, to
    ten times the ``tol`` of the physics."""
    physics = case.double
    rtol = 10 * float(physics.tol)
    with torch.no_grad():
        z, y = case.images(73), physics.A(case.images(74))
        for gamma in (0.5, 4.0):
            x = physics.prox_l2(z, y, gamma)
            right = z + gamma * physics.A_adjoint(y)
            left = x + gamma * physics.A_adjoint(physics.A(x))
            what = f"(I + gamma A^T A) prox_l2 at gamma = {gamma:g}"
            require_close(what, left, right, rtol)


def parts(y: Measurement) -> list[Tensor]:
    """Return the tensors of a measurement, which is a list for a stacked physics."""
    if isinstance(y, Tensor):
        return [y]
    return [part for item in y for part in parts(item)]


def random_like(y: Measurement, seed: int) -> Measurement:
    """A random measurement of the same shapes."""
    if not isinstance(y, Tensor):
        return type(y)([random_like(item, seed + k) for k, item in enumerate(y)])
    noise = normal(*y.shape, seed=seed)
    if y.is_complex():
        noise = torch.complex(noise, normal(*y.shape, seed=seed + 100))
    return noise.to(y)


def inner(x: Measurement, y: Measurement) -> float:
    """Real inner product."""
    pairs = zip(parts(x), parts(y), strict=True)
    return sum(float((a.conj() * b).real.sum()) for a, b in pairs)


@torch.no_grad()
def _eigenvalues(case: PhysicsCase) -> Tensor:
    """Return all eigenvalues for small images, otherwise Rayleigh quotients near both
    ends."""
    size = math.prod(case.img_size)
    if size > DENSE:
        return _extremes(case)
    columns = []
    for basis in torch.eye(size, dtype=F64).to(device_of(case.component)):
        image = basis.reshape(1, *case.img_size).expand(case.batch, *case.img_size)
        tensors = [
            torch.view_as_real(part) if part.is_complex() else part
            for part in parts(case.double.A(image.clone()))
        ]
        columns.append(torch.cat([part.flatten(1) for part in tensors], dim=1))
    matrices = torch.stack(columns, dim=-1)
    return torch.linalg.eigvalsh(matrices.mT @ matrices)


def _extremes(case: PhysicsCase) -> Tensor:
    found = torch.zeros(2, dtype=F64)
    for k in range(2):
        x = case.images(80)
        for _ in range(POWER_STEPS):
            x = x / x.norm()
            product = case.double.A_adjoint(case.double.A(x))
            found[k] = inner(x, product)  # never outside the spectrum
            x = product - float(found[0]) * x if k else product
            if not bool(x.any()):
                break
    return found


_SUITE = Suite(
    PhysicsCase,
    has_the_right_shapes_and_dtypes,
    is_linear,
    has_the_transposed_adjoint,
    has_its_spectrum,
    keeps_samples_apart,
    has_consistent_products,
    has_the_least_squares_prox,
)


def physics_contracts() -> dict[str, Contract[..., PhysicsCase]]:
    """Return the contracts of :func:`check_physics` by name."""
    return dict(_SUITE.contracts)


def check_physics(physics: LinearPhysics, img_size: Sequence[int]) -> ContractReport:
    r"""
    Check the adjoint and the spectrum of a linear physics.

    The adjoint is checked by dot products. The interval of
    :func:`deepinv_equilibrium.spectrum` must contain the eigenvalues of the dense
    :math:`A^\top A`, or Rayleigh quotients if an image has more than 400 entries. Both
    are computed in float64. :func:`physics_contracts` returns the contracts.

    :param deepinv.physics.LinearPhysics physics: the physics; copies of it are run.
    :param Sequence img_size: size of an image without the batch, :math:`(C, H, W)`, or
        with three spatial axes.
    :return: (ContractReport) which contracts hold.
    :raises ContractError: if a contract is broken; the message names the contract.
    :raises TypeError: if ``physics`` is not a LinearPhysics, or ``img_size`` is not a
        sequence.
    :raises ValueError: if ``img_size`` does not hold one to four positive integers.

    |sep|

    :Example:

    >>> import torch, deepinv_equilibrium as deq
    >>> from deepinv_equilibrium import testing
    >>> kernel = torch.tensor([[[0.25, 0.5, 0.25]]])
    >>> physics = deq.physics.ChannelwiseBlur(kernel, padding="reflect")
    >>> print(testing.check_physics(physics, img_size=(1, 6, 8)))
    ChannelwiseBlur
    has_the_right_shapes_and_dtypes  holds
    is_linear                        holds
    has_the_transposed_adjoint       holds
    has_its_spectrum                 holds
    keeps_samples_apart              holds
    has_consistent_products          holds
    has_the_least_squares_prox       holds
    """
    return _SUITE.check(PhysicsCase(physics, img_size))
