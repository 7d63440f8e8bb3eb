"""A lower bound of a Lipschitz constant, by two images that a map moves far apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..certificates import Bound, UncertifiableModuleError, lipschitz
from ..certificates.bounds import unproved
from ..fixed_points import StateLayout
from ..fixed_points.argument_checks import require_count, require_in_range
from .double_maps import DoubleMap, randn_like, row_norms
from .pair_search import Pair, PairSearch

ROUNDOFF = 2.0**-53


@dataclass(frozen=True, repr=False)
class Stretch:
    r"""
    Two images for each sample that a map :math:`F` moves far apart, and what they prove
    about its Lipschitz constant. Computed by
    :func:`~deepinv_equilibrium.diagnostics.stretch`; ``print`` it to read it.

    :param tuple pair: :math:`x_1, x_2` in float64 or complex128, of the shape of the
        images.
    :param tuple values: :math:`F(x_1), F(x_2)`, computed in float64.
    :param torch.Tensor quotients: lower bounds of :math:`\|F(x_1) - F(x_2)\| / \|x_1 -
        x_2\|` for the best pair of each start, of shape (starts, :math:`B`); 0 if the
        values of all pairs contained NaN or infinity.
    :param tuple starts: what each start is: ``"given"``, ``"noisy"`` or ``"random"``.
    :param torch.Tensor error: bound of the sum of the errors of both values, of shape
        :math:`(B,)`, by which :math:`\|F(x_1) - F(x_2)\|` was reduced.
    :param Bound upper: upper bound of the Lipschitz constant, from
        :func:`deepinv_equilibrium.lipschitz`; infinite, with the reason, if the module
        cannot be certified.
    :param float claimed: the claimed Lipschitz constant; ``None`` without a claim.
    """

    pair: tuple[Tensor, Tensor]
    values: tuple[Tensor, Tensor]
    quotients: Tensor
    starts: tuple[str, ...]
    error: Tensor
    upper: Bound
    claimed: float | None = None

    @property
    def quotient(self) -> Tensor:
        """Lower bound by the best pair of each sample, of shape (B,)."""
        return self.quotients.amax(dim=0)

    @property
    def lower(self) -> Bound:
        """Lower bound of the Lipschitz constant, by the best pair of all."""
        source = "two images, evaluated in float64"
        return Bound(float(self.quotient.max()), source=source, is_lower=True)

    @property
    def ratio(self) -> float:
        """Upper over lower bound, at least 1; infinite without an upper bound."""
        lower = self.lower.value
        return self.upper.value / lower if lower > 0 else math.inf

    @property
    def refuted(self) -> bool:
        """Whether the lower bound exceeds the claimed constant."""
        return self.claimed is not None and self.lower.value > self.claimed

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines = [
            f"Lipschitz constant {self.lower}",
            f"upper bound {self.upper}",
        ]
        if self.upper.value < math.inf and self.lower.value > 0:
            lines.append(f"upper over lower bound: {self.ratio:.4g}")
        if self.claimed is not None:
            verdict = "REFUTED" if self.refuted else "not refuted by this search"
            lines.append(f"the claim {self.claimed:.6g} is {verdict}")
        lines.append("sample  |x1 - x2|  |F(x1) - F(x2)|  quotient  by start")
        columns = zip(
            row_norms((self.pair[0] - self.pair[1]).flatten(1)).tolist(),
            row_norms((self.values[0] - self.values[1]).flatten(1)).tolist(),
            self.quotient.tolist(),
            self.quotients.T.tolist(),
            strict=True,
        )
        for i, (apart, moved, quotient, starts) in enumerate(columns):
            found = ", ".join(
                f"{name} {value:.4g}"
                for name, value in zip(self.starts, starts, strict=True)
            )
            digits = Bound(quotient, is_lower=True).rounded(6)
            lines.append(f"{i:<6d}  {apart:9.3e}  {moved:15.3e}  {digits:8s}  {found}")
        return "\n".join(lines)


def stretch(
    module: Callable[..., Tensor],
    x: Tensor,
    sigma: Tensor | float | None = None,
    *,
    claimed: float | Bound | None = None,
    starts: int = 3,
    steps: int = 20,
    rtol: float = 1e-12,
    generator: torch.Generator | None = None,
    show_progress_bar: bool = False,
) -> Stretch:
    r"""
    Search for two images that a map :math:`F` moves far apart. Their quotient

    .. math::

        \frac{\|F(x_1) - F(x_2)\|_2}{\|x_1 - x_2\|_2} \leq \operatorname{Lip}(F)

    is a lower bound of the Lipschitz constant. It refutes every claim of a smaller one,
    such as that of a contraction. A search that finds nothing proves nothing; upper
    bounds are proved by :func:`deepinv_equilibrium.lipschitz`.

    **What is proved.** The module is copied, its weights are converted to float64,
    which changes no value, and the copy is evaluated at both images in float64. The
    norms and the quotient are rounded down with bounds of their rounding errors. The
    quotient is hence a lower bound for the map that the copy computes in float64; this
    needs no assumption. It is also a lower bound for the exact map with these weights
    if the errors of both values together are at most ``error`` of the result, by which
    the numerator is reduced.

    This assumed error of a value is ``rtol`` times its norm, plus four times the
    largest second difference :math:`\|F(x + \delta) - 2 F(x) + F(x - \delta)\|` for
    two random :math:`\delta` of norm :math:`10^{-8} \|x\|`. The second difference shows
    the rounding errors of the module at these images, also if it cancels, or computes
    in float32 inside. For a denoiser with the method ``error_bound``, such as
    :class:`~deepinv_equilibrium.models.RidgeProxDenoiser`, the proved error of its
    iteration is added. A module rounds more when it is evaluated in float32, and its
    quotients at small distances may then be larger.

    **The search.** From each start, it alternates conjugate gradients for the direction
    that the Jacobian stretches most, gradient ascent over both images, at distances
    from :math:`3 \|x\|` down to :math:`\|x\| / 10`, and the bisection of the segment
    between the images, which never reduces the quotient. It finds the norm of a linear
    map, and for a piecewise linear map a region of large slope. The first start is
    ``x``. The further starts are in turn ``x`` with noise of half its root mean square,
    and random images. The pair may leave the range of images. For each step and start,
    the search makes at most about 18 evaluations and 13 backward passes.

    :param module: :math:`F`: a module; a method of one, such as ``prior.grad``; a
        ``functools.partial`` of one of the two; or a function that computes in
        float64. It maps a batch of images to a tensor with the same batch axis, of any
        shape. A module is copied, and the search changes neither its weights, gradients
        and buffers nor its mode. Without a derivative, directions are random.
    :param torch.Tensor x: images of shape :math:`(B, ...)`, real or complex, on the
        device of the module.
    :param torch.Tensor, float sigma: second argument of ``module``, the noise level of
        a denoiser. Default: ``None``, there is no second argument.
    :param float, Bound claimed: Lipschitz constant that is claimed for :math:`F`.
        Default: ``None``.
    :param int starts: number of starts for each image.
    :param int steps: steps of each move of the search.
    :param float rtol: assumed error of a value of :math:`F` relative to its norm, in
        :math:`[0, 1)`. For maps that are computed by an iteration, its tolerance.
    :param torch.Generator generator: draws starts and directions. Default: ``None``, a
        new one with seed 0.
    :param bool show_progress_bar: whether to show a progress bar. Default: ``False``.
    :return: (Stretch) the best pair of each image, and the bounds.
    :raises TypeError: if ``module`` cannot be called, copied or evaluated in float64,
        or ``x`` is no floating-point tensor.
    :raises ValueError: if an argument is out of its range, ``x`` is not finite, or
        ``module`` is random, remembers earlier calls or mixes the images of a batch.

    |sep|

    :Example:

    >>> import torch, deepinv_equilibrium as deq
    >>> blur = torch.nn.Conv2d(1, 1, 3, padding=1, bias=False)
    >>> _ = torch.nn.init.constant_(blur.weight, 1 / 8)
    >>> found = deq.diagnostics.stretch(blur, torch.rand(1, 1, 16, 16), claimed=1)
    >>> found.refuted
    True
    >>> 1.09 < found.lower.value <= found.upper.value
    True
    """
    require_count("starts", starts, 1)
    require_count("steps", steps, 1)
    require_in_range("rtol", rtol, 1.0, zero=True)
    if claimed is not None:
        claimed = float(claimed)
        require_in_range("claimed", claimed, zero=True)
    StateLayout.of(x, "x")
    if not bool(x.isfinite().all()):
        raise ValueError("x must be finite, but it contains NaN or infinity.")
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False):
        images = x.detach().to(torch.complex128 if x.is_complex() else torch.float64)
        function = DoubleMap(module, images.clone(), sigma)
        rows = function.layout.pack(images)
        best, names, quotients = None, [], []
        search = PairSearch(function, rtol, steps, generator, lambda n: bar.update(n))
        total, hidden = starts * search.total, not show_progress_bar
        with tqdm(total=total, desc=f"stretch {function.name}", disable=hidden) as bar:
            for index in range(starts):
                name, start = _start(index, rows, generator)
                pair = search.run(start)
                pair.quotient, error = _lower_bounds(function, pair, rtol, generator)
                names.append(name)
                quotients.append(pair.quotient)
                if best is None:
                    best, total_error = pair, error
                    continue
                better = pair.quotient > best.quotient
                best = pair.where(better, best)
                total_error = torch.where(better, error, total_error)
    assert best is not None
    return Stretch(
        (function.images(best.first), function.images(best.second)),
        (function.values(best.first_value), function.values(best.second_value)),
        torch.stack(quotients).cpu(),
        tuple(names),
        total_error.cpu(),
        _upper(module, x),
        claimed,
    )


def _start(index: int, rows: Tensor, generator: torch.Generator) -> tuple[str, Tensor]:
    """Return the name and the packed images of a start."""
    if index == 0:
        return "given", rows
    noise = randn_like(rows, generator)
    level = row_norms(rows)[:, None] / rows.shape[1] ** 0.5
    level = torch.where(level > 0, level, 1.0)
    if index % 2:
        return "noisy", rows + 0.5 * level * noise
    return "random", level * noise


def _lower_bounds(
    function: DoubleMap, pair: Pair, rtol: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    r"""
    Return lower bounds of the quotients, and the errors of the values.

    In any order of summation, the computed norm of the difference of two vectors of
    :math:`n` entries has a relative error of at most :math:`(n + 8) u` with the unit
    roundoff :math:`u`, unless squares underflow, which a norm of 1e-140 excludes.
    """
    ends = (pair.first, pair.first_value), (pair.second, pair.second_value)
    error = torch.zeros_like(pair.quotient)
    for images, value in ends:
        error = error + function.error(images, value, rtol, generator)
    moved = pair.first_value - pair.second_value
    apart = row_norms(pair.difference)
    apart = apart * (1 + (pair.first.shape[1] + 8) * ROUNDOFF)
    moved_by = row_norms(moved) * (1 - (moved.shape[1] + 8) * ROUNDOFF)
    quotient = (moved_by - error) / apart * (1 - 8 * ROUNDOFF)
    valid = quotient.isfinite() & (apart > 1e-140)
    return torch.where(valid, quotient, 0.0).clamp_min(0.0), error


def _upper(module: Callable[..., Tensor], x: Tensor) -> Bound:
    """Return the upper bound of the package, or an infinite one with the reason."""
    if not isinstance(module, nn.Module):
        return unproved("lipschitz takes modules only")
    if x.is_complex() and not any(w.is_complex() for w in module.parameters()):
        return unproved("the rules for real weights are about real images")
    try:
        return lipschitz(module, tuple(x.shape[1:]))
    except (UncertifiableModuleError, TypeError, ValueError) as error:
        return unproved(str(error))
