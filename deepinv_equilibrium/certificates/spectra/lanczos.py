"""A probabilistic bound of the largest eigenvalue of an operator, by its products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..bounds import Bound, Kind, outward

# Far above the rounding of products in float32, and far below the asymmetry of an
# operator that is not symmetric positive semidefinite.
ASYMMETRY = 1e-2
BREAKDOWN = 1e-10


def lanczos_factor(n: int, steps: int, delta: float) -> float:
    r"""
    Return the factor by which the largest eigenvalue may exceed Lanczos' estimate.

    Let :math:`H` be symmetric positive semidefinite of order :math:`n`, let
    :math:`\lambda` be its largest eigenvalue with unit eigenvector :math:`v`, and let
    :math:`\xi_k` be the largest Ritz value on the Krylov space of :math:`b, Hb, \dots,
    H^{k-1}b`, with :math:`b` uniform on the sphere. Then, except with probability
    :math:`\delta`,

    .. math::

        \lambda \leq \xi_k \cosh^2\frac{\operatorname{arcosh}(1/u)}{2k-1}, \qquad
        u = \delta\sqrt{\frac{\pi}{2n}}.

    Proof. Let :math:`\lambda = 1`, and let :math:`1-\varepsilon` be the reciprocal of
    the factor. If :math:`\xi_k < 1-\varepsilon`, then
    :math:`\langle p(H)b, (H-1+\varepsilon)\,p(H)b\rangle < 0` for every polynomial
    :math:`p` of degree :math:`k-1`. Choose the polynomial with
    :math:`(1-t)\,p((1-\varepsilon)t)^2 = T_{2k-1}(\sqrt{1-t})^2`. This is at most 1 for
    :math:`t\in[0,1]`, and equal to
    :math:`-\sinh^2((2k-1)\operatorname{artanh}\sqrt\varepsilon)` at the eigenvalue 1.
    With :math:`c = \langle b, v\rangle` it follows that :math:`c^2\sinh^2 < 1-c^2`, and
    so :math:`|c| < 1/\cosh((2k-1)\operatorname{artanh}\sqrt\varepsilon) = u`. Finally
    :math:`P(|c|<u)\leq u\sqrt{2n/\pi}`.

    This is Theorem 4.2 of :footcite:t:`kuczynski1992estimating` before its last
    estimates; the theorem states the probability
    :math:`1.648\sqrt n\, e^{-\sqrt\varepsilon(2k-1)}`.

    :param int n: order :math:`n` of the operator.
    :param int steps: number :math:`k` of steps.
    :param float delta: probability :math:`\delta` of failure.
    :return: the factor, at least 1.
    """
    inverse = math.sqrt(2 * n / math.pi) / delta
    return math.cosh(math.acosh(max(inverse, 1.0)) / (2 * steps - 1)) ** 2


@torch.no_grad()
def largest_eigenvalue(
    apply: Callable[[Tensor], Tensor],
    shape: Sequence[int],
    *,
    steps: int = 60,
    delta: float = 1e-3,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Bound:
    r"""
    Return an upper bound of the largest eigenvalue of a symmetric positive semidefinite
    operator that fails with probability :math:`\delta` at most.

    The bound is the estimate of Lanczos' method, with a random start that is uniform on
    the sphere and with full reorthogonalisation in float64, times
    :func:`~deepinv_equilibrium.certificates.spectra.lanczos_factor`: 1.008 for 1024
    unknowns, 60 steps and :math:`\delta = 10^{-3}`. The bound is an estimate for two
    reasons: the random start may be bad, with probability :math:`\delta` for every
    operator, and the theorem assumes exact products, so that rounding is not bounded.
    The memory is ``steps`` vectors in float64.

    >>> import torch
    >>> from deepinv_equilibrium.certificates import largest_eigenvalue
    >>> eigenvalues = torch.linspace(0, 2, 100, dtype=torch.float64)
    >>> rng = torch.Generator().manual_seed(0)
    >>> largest_eigenvalue(lambda x: eigenvalues * x, (100,), generator=rng).kind
    <Kind.ESTIMATED: 'estimated'>

    :param Callable apply: the operator on float64 tensors of shape ``shape``. It may
        return another precision.
    :param Sequence shape: shape of the argument.
    :param int steps: number of Lanczos steps, with one product each. The method stops
        earlier if the Krylov space is exhausted. Default: 60.
    :param float delta: probability of failure, in (0, 1). Default: 1e-3.
    :param torch.Generator generator: generator of the random start. Default: ``None``,
        the global generator of torch.
    :param torch.device device: device of the argument. Default: ``None``, the CPU.
    :return: an estimated bound with its ``delta``.
    :raises ValueError: if an argument is out of range, a product is not finite or of
        another shape, or the operator is not symmetric positive semidefinite.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps!r}.")
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1), got {delta!r}.")
    n = math.prod(shape)
    if n < 1:
        raise ValueError(f"shape must have positive sizes, got {tuple(shape)}.")
    projected = _projection(apply, tuple(shape), min(steps, n), generator, device)
    # The lower and the upper triangle come from different products.
    scale = projected.abs().amax()
    asymmetry = (projected - projected.mT).abs().amax()
    ritz = torch.linalg.eigvalsh((projected + projected.mT) / 2)
    if bool(asymmetry > ASYMMETRY * scale) or bool(ritz[0] < -ASYMMETRY * scale):
        raise ValueError(
            "apply must be symmetric positive semidefinite: on a Krylov space its "
            f"matrix is asymmetric by {float(asymmetry):.2e} and its smallest "
            f"eigenvalue {float(ritz[0]):.2e}, where its entries are up to "
            f"{float(scale):.2e}. For a general operator J pass J^T J."
        )
    factor = lanczos_factor(n, steps, delta)
    return Bound(
        outward(max(float(ritz[-1]), 0.0) * factor),
        Kind.ESTIMATED,
        f"{len(projected)} Lanczos steps, times {factor:.4g}",
        delta=delta,
    )


def _projection(
    apply: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    steps: int,
    generator: torch.Generator | None,
    device: torch.device | str | None,
) -> Tensor:
    """Return the matrix of the operator on a Krylov space; in exact arithmetic it is
    tridiagonal."""
    basis = torch.empty(steps, math.prod(shape), dtype=torch.float64, device=device)
    start = torch.randn(
        basis.shape[1],
        dtype=torch.float64,
        generator=generator,
        device=None if generator is None else generator.device,
    )
    basis[0] = start / start.norm()
    projected = torch.zeros(steps, steps, dtype=torch.float64, device=device)
    for k in range(steps):
        product = apply(basis[k].reshape(shape).clone())
        if product.shape != shape or not bool(torch.isfinite(product).all()):
            raise ValueError(
                f"apply must return finite tensors of shape {shape}, got "
                f"{tuple(product.shape)}"
                + ("." if product.shape != shape else " with NaN or infinity.")
            )
        image = product.flatten().to(basis)
        frame = basis[: k + 1]
        coefficients = frame @ image
        rest = image - coefficients @ frame
        # Orthogonalise twice: the first pass leaves components due to rounding.
        rest = rest - (frame @ rest) @ frame
        projected[: k + 1, k] = coefficients
        if k + 1 == steps:
            break
        size = rest.norm()
        if not size > BREAKDOWN * image.norm():
            return projected[: k + 1, : k + 1]
        projected[k + 1, k] = size
        basis[k + 1] = rest / size
    return projected
