"""A search for two images that a map moves far apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .double_maps import DoubleMap, randn_like, row_norms, scales

NEAR = 1e-3  # smallest distance of two images, relative to their norm
DISTANCES = (3.0, 1.0, 0.3, 0.1)  # of an ascent, relative to the norm of an image
SMALLEST_STEP = 1e-2  # of an ascent, which ends below it
SMALLEST_GAIN = 1e-4  # relative gain of a move, which ends below it


@dataclass
class Pair:
    r"""
    Packed images :math:`x_1, x_2`, their values, and for each the quotient
    :math:`\|F(x_1) - F(x_2)\| / \|x_1 - x_2\|`, where the numerator is reduced by the
    relative error of the values.
    """

    first: Tensor
    second: Tensor
    first_value: Tensor
    second_value: Tensor
    quotient: Tensor

    def where(self, chosen: Tensor, other: Pair) -> Pair:
        """Return the rows of this pair where ``chosen``, and those of another one."""
        parts = []
        for field in fields(self):
            mine, its = getattr(self, field.name), getattr(other, field.name)
            rows = chosen if mine.ndim == 1 else chosen[:, None]
            parts.append(torch.where(rows, mine, its))
        return Pair(*parts)

    @property
    def difference(self) -> Tensor:
        """The difference of the images."""
        return self.first - self.second


@dataclass
class PairSearch:
    r"""
    A search for pairs of large quotient from one start, for each image of a batch.

    It alternates three moves at decreasing distances, and returns the best pair of all:

    - *power*: the direction that the Jacobian at a point stretches most, by the locally
      optimal conjugate gradient method for the largest eigenvalue of :math:`J^\top J`.
      Products with :math:`J^\top` are derivatives, and those with :math:`J`
      differences. For a linear map this is the maximum.
    - *ascend*: gradient ascent of the logarithm of the quotient :math:`Q`, over both
      images,

      .. math::

          x_1 \leftarrow x_1 + t \|e\|^2 \left( \frac{J_1^\top d}{\|d\|^2} -
          \frac{e}{\|e\|^2} \right), \qquad
          x_2 \leftarrow x_2 - t \|e\|^2 \left( \frac{J_2^\top d}{\|d\|^2} -
          \frac{e}{\|e\|^2} \right)

      with :math:`e = x_1 - x_2` and :math:`d = F(x_1) - F(x_2)`. For :math:`t =
      \tfrac12` and a linear map this is a step of the power method. The step size
      :math:`t` of each image grows after an ascent and shrinks after a failure.
    - *bisect*: of the two halves of a segment, one has a quotient that is not smaller,
      by the triangle inequality. The half is taken until the images are near, where a
      piecewise linear map is linear.

    A wrong derivative only costs quality: each quotient is computed from values.

    :param DoubleMap function: :math:`F`.
    :param float rtol: relative error of the values of :math:`F`.
    :param int steps: steps of each move.
    :param torch.Generator generator: draws the first directions.
    :param Callable on_step: called with the number of steps that were made.
    """

    function: DoubleMap
    rtol: float
    steps: int
    generator: torch.Generator
    on_step: Callable[[int], object]

    @property
    def near(self) -> float:
        """Smallest distance: values with errors are compared far apart."""
        return min(1.0, max(NEAR, 1e3 * self.rtol))

    @property
    def halvings(self) -> list[int]:
        """Number of halvings from each distance."""
        return [max(0, math.ceil(math.log2(d / self.near))) for d in DISTANCES]

    @property
    def total(self) -> int:
        """Number of steps of one search."""
        return self.steps + 2 * self.steps * len(DISTANCES) + sum(self.halvings)

    def run(self, start: Tensor) -> Pair:
        r"""
        Return the best pairs.

        :param torch.Tensor start: packed images, of shape :math:`(B, n)`.
        :return: (Pair) one pair for each image. A quotient is :math:`-\infty` if the
            values of all pairs contained NaN or infinity.
        """
        length = self.near * scales(start)
        best = self._power(start, randn_like(start, self.generator), length)
        for distance, halvings in zip(DISTANCES, self.halvings, strict=True):
            middle = (best.first + best.second) / 2
            wide = self._ascend(middle, best.difference, distance * scales(start))
            short = self._bisect(wide, halvings)
            middle = (short.first + short.second) / 2
            steep = self._power(middle, short.difference, length)
            for pair in (wide, short, steep):
                best = pair.where(pair.quotient > best.quotient, best)
        return best

    def _pair(
        self, first: Tensor, second: Tensor, first_value: Tensor, second_value: Tensor
    ) -> Pair:
        error = self.rtol * (row_norms(first_value) + row_norms(second_value))
        moved = row_norms(first_value - second_value) - error
        quotient = moved / row_norms(first - second)
        quotient = torch.where(quotient.isfinite(), quotient, -math.inf)
        return Pair(first, second, first_value, second_value, quotient)

    def _ascend(self, middle: Tensor, direction: Tensor, length: Tensor) -> Pair:
        half = (length / 2)[:, None] * _unit(direction)
        pair, slopes = self._recorded_pair(middle + half, middle - half)
        gradient, t = slopes(), torch.full_like(length, 0.5)
        for step in range(self.steps):
            if gradient is None or bool((t < SMALLEST_STEP).all()):
                self.on_step(self.steps - step)
                break
            self.on_step(1)
            size = (t * row_norms(pair.difference).square())[:, None]
            trial, slopes = self._recorded_pair(
                pair.first + size * gradient[0], pair.second + size * gradient[1]
            )
            better = trial.quotient > pair.quotient
            t = torch.where(better, 1.5 * t, t / 3)
            if not bool(better.any()):
                continue
            found = slopes()
            if found is not None:
                rows = better[:, None]
                gradient = (
                    torch.where(rows, found[0], gradient[0]),
                    torch.where(rows, found[1], gradient[1]),
                )
            pair = trial.where(better, pair)
        return pair

    def _recorded_pair(
        self, first: Tensor, second: Tensor
    ) -> tuple[Pair, Callable[[], tuple[Tensor, Tensor] | None]]:
        """Return a pair, and a function that computes the gradients of the logarithm of
        its quotient in both images, which are ``None`` without a derivative."""
        value, pull = self.function.recorded(first)
        other_value, other_pull = self.function.recorded(second)

        def gradient() -> tuple[Tensor, Tensor] | None:
            if pull is None or other_pull is None:
                return None
            e, d = first - second, value - other_value
            shrink = e / _positive(row_norms(e).square())[:, None]
            moved = _positive(row_norms(d).square())[:, None]
            return (
                (pull(d) / moved - shrink).nan_to_num(0.0, 0.0, 0.0),
                (shrink - other_pull(d) / moved).nan_to_num(0.0, 0.0, 0.0),
            )

        return self._pair(first, second, value, other_value), gradient

    def _bisect(self, pair: Pair, halvings: int) -> Pair:
        for halving in range(halvings):
            self.on_step(1)
            middle = (pair.first + pair.second) / 2
            value = self.function(middle)
            left = self._pair(pair.first, middle, pair.first_value, value)
            right = self._pair(middle, pair.second, value, pair.second_value)
            gap = (left.quotient - right.quotient).abs()
            pair = left.where(left.quotient > right.quotient, right)
            # Where both halves are alike, the map is as good as linear in between.
            if bool((gap <= SMALLEST_GAIN * pair.quotient).all()):
                self.on_step(halvings - halving - 1)
                break
        return pair

    def _power(self, x: Tensor, v: Tensor, length: Tensor) -> Pair:
        """Return the pair around x, at a distance, along the direction that the
        Jacobian at x stretches most; v is the first direction."""
        pull = self.function.recorded(x)[1]
        half = (length / 2)[:, None]

        def push(u: Tensor) -> Tensor:
            ends = self.function(x + half * u) - self.function(x - half * u)
            return (ends / (2 * half)).nan_to_num(0.0, 0.0, 0.0)

        v = _unit(v)
        pushed = push(v)
        previous, pushed_previous = torch.zeros_like(v), torch.zeros_like(pushed)
        idle = 0
        for step in range(self.steps):
            if pull is None or idle == 2:
                self.on_step(self.steps - step)
                break
            self.on_step(1)
            gradient = pull(pushed).nan_to_num(0.0, 0.0, 0.0)
            new = _unit(gradient - _inner(gradient, v) * v)
            pushed_new = push(new)
            # The last direction, orthogonal to the other two, by linearity.
            along, across = _inner(previous, v), _inner(previous, new)
            last = previous - along * v - across * new
            pushed_last = pushed_previous - along * pushed - across * pushed_new
            size = row_norms(last)[:, None]
            last = torch.where(size > 1e-6, last / size, 0.0)
            pushed_last = torch.where(size > 1e-6, pushed_last / size, 0.0)

            values = torch.stack((pushed, pushed_new, pushed_last), dim=1)
            top = torch.linalg.eigh(values @ values.mT)[1][..., -1]
            a, b, c = top[:, :, None].unbind(dim=1)
            previous = b * new + c * last
            pushed_previous = b * pushed_new + c * pushed_last
            old = row_norms(pushed)
            # Where the Jacobian is 0, the direction stays.
            moves = (old > 0)[:, None]
            size = _positive(row_norms(a * v + previous))[:, None]
            v = torch.where(moves, (a * v + previous) / size, v)
            pushed = torch.where(moves, (a * pushed + pushed_previous) / size, pushed)
            stays = bool((row_norms(pushed) <= (1 + SMALLEST_GAIN) * old).all())
            idle = idle + 1 if stays else 0
        half = half * v
        return self._pair(
            x + half, x - half, self.function(x + half), self.function(x - half)
        )


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1, keepdim=True)


def _positive(x: Tensor) -> Tensor:
    return x.clamp_min(torch.finfo(x.dtype).tiny)


def _unit(x: Tensor) -> Tensor:
    return x / _positive(row_norms(x))[:, None]
