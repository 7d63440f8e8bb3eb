"""A map of images that is evaluated in float64, by a copy of its module."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from inspect import ismethod
from typing import Any, cast

import torch
from deepinv.models import Denoiser
from torch import Tensor, nn

from ..certificates.declarations import declares
from ..fixed_points import StateLayout

Pullback = Callable[[Tensor], Tensor]

NOISE = 1e-8  # size of the displacements that show rounding errors, relative to images
EXCESS = 4.0  # of the assumed rounding error over the largest one that shows


class DoubleMap:
    r"""
    The map :math:`F` of a module on packed images, real matrices of shape
    :math:`(B, n)` in float64, with values of shape :math:`(B, m)`.

    :param module: a module, a method of one (``prior.grad``), a
        :func:`functools.partial` of one of the two, or any other function of a batch of
        images. Modules are copied and converted to float64, with ``requires_grad``
        off; other functions must compute in float64 by themselves.
    :param torch.Tensor x: images, in float64 or complex128.
    :param torch.Tensor, float sigma: second argument of ``module``; ``None`` if it
        takes one argument.
    :raises TypeError: if ``module`` is not callable or cannot be copied, or if it
        cannot be evaluated in float64.
    :raises ValueError: if ``module`` is random, remembers earlier calls, or treats an
        image differently in another batch.
    """

    def __init__(
        self, module: Callable[..., Tensor], x: Tensor, sigma: Tensor | float | None
    ) -> None:
        if not callable(module):
            raise TypeError(f"module must be callable, got {module!r}.")
        self.name = getattr(module, "__name__", type(module).__name__)
        self.layout = StateLayout.of(x)
        self._value_layout = self.layout
        self._function = _double(module, self.name)
        if isinstance(sigma, Tensor):
            sigma = _to_double(sigma.detach()).to(x.device)
        self._arguments = () if sigma is None else (sigma,)
        self._require_independent_images(self.layout.pack(x))

    @torch.no_grad()
    def __call__(self, rows: Tensor) -> Tensor:
        """Return the values at packed images."""
        return self._evaluate(rows.detach())

    def recorded(self, rows: Tensor) -> tuple[Tensor, Pullback | None]:
        r"""
        Return the values, and the product with the transposed Jacobian.

        :param torch.Tensor rows: packed images.
        :return: the values, and a function that maps :math:`w` to :math:`J^\top w`;
            ``None`` if the map has no derivative.
        """
        with torch.enable_grad():
            rows = rows.detach().requires_grad_()
            value = self._evaluate(rows)
        if not value.requires_grad:
            return value, None

        def pull(w: Tensor) -> Tensor:
            (pulled,) = torch.autograd.grad(
                value, rows, w, retain_graph=True, materialize_grads=True
            )
            return pulled

        return value.detach(), pull

    def images(self, packed: Tensor) -> Tensor:
        """Return packed images in the shape of images."""
        return _image(self.layout, packed)

    def values(self, packed: Tensor) -> Tensor:
        """Return packed values in the shape in which the module returns them."""
        return _image(self._value_layout, packed)

    def error(
        self, rows: Tensor, value: Tensor, rtol: float, generator: torch.Generator
    ) -> Tensor:
        r"""
        Return the assumed or proved error of a value, the larger of both.

        Rounding errors are assumed to be at most ``rtol`` relative to the norm of the
        value, plus four times the largest second difference :math:`\|F(x + \delta) - 2
        F(x) + F(x - \delta)\|` for two small random :math:`\delta`, which is about
        2.4 times the rounding error. It shows cancellation, and computations in float32
        within the module. A denoiser with the method ``error_bound(denoised, x,
        sigma)`` proves the error of its iteration, which is added.

        :param torch.Tensor rows: packed images.
        :param torch.Tensor value: values at these images.
        :param float rtol: relative error.
        :param torch.Generator generator: draws the displacements.
        :return: one bound for each image, of shape :math:`(B,)`.
        """
        second = torch.zeros_like(value[:, 0])
        for _ in range(2):
            shift = randn_like(rows, generator)
            shift = shift * (NOISE * scales(rows) / row_norms(shift))[:, None]
            change = self(rows + shift) + self(rows - shift) - 2 * value
            second = torch.maximum(second, row_norms(change))
        error = rtol * row_norms(value) + EXCESS * second
        function = self._function
        if isinstance(function, Denoiser) and declares(
            function, "error_bound", "forward"
        ):
            images = self.values(value), self.images(rows)
            proved: Any = function.error_bound
            error = error + proved(*images, *self._arguments).to(error)
        return error

    def _evaluate(self, rows: Tensor) -> Tensor:
        # A copy, because the module may overwrite its input.
        x = self.images(rows).clone()
        with torch.autocast(x.device.type, enabled=False):
            try:
                value = self._function(x, *self._arguments)
            except torch.cuda.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise TypeError(
                    f"module {self.name} cannot be evaluated at images of shape "
                    f"{tuple(x.shape)} in {x.dtype} on {x.device}: {error}. The "
                    "search needs a module that computes in float64 on this device."
                ) from error
        if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != len(x):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value)
            raise TypeError(
                f"module {self.name} must return one tensor with the batch axis of x, "
                f"of size {len(x)}, got {got}."
            )
        if value.dtype not in (torch.float64, torch.complex128):
            raise TypeError(
                f"module {self.name} returns {value.dtype} for images in {x.dtype}. "
                "Let it compute in float64: in float32, rounding errors stretch more."
            )
        self._value_layout = StateLayout.of(value)
        return self._value_layout.pack(value)

    def _require_independent_images(self, rows: Tensor) -> None:
        first, again = self(rows), self(rows)
        if not _agree(first, again):
            raise ValueError(
                f"module {self.name} must be a function of the images: two calls with "
                "one input differ. Call eval(), or remove what is random or remembered."
            )
        for part in (slice(None, 1), slice(1, None)):
            others = rows.clone()
            others[part] = others[part].flip(1) + 0.1
            rest = slice(1, None) if part.start is None else slice(None, 1)
            if not _agree(first[rest], self(others)[rest]):
                raise ValueError(
                    f"module {self.name} must treat each image alone: a value changes "
                    "with the other images of the batch. Call eval(), or give one "
                    "image."
                )


def row_norms(rows: Tensor) -> Tensor:
    """Return the norm of each row."""
    return torch.linalg.vector_norm(rows, dim=1)


def scales(rows: Tensor) -> Tensor:
    """Return the norm of each row, or of a row of 1e-3 if this is larger."""
    return row_norms(rows).clamp_min(1e-3 * rows.shape[1] ** 0.5)


def randn_like(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Return normal noise; the numbers do not depend on the device of the rows."""
    noise = torch.randn(
        rows.shape, generator=generator, device=generator.device, dtype=rows.dtype
    )
    return noise.to(rows.device)


def _image(layout: StateLayout, packed: Tensor) -> Tensor:
    return cast(Tensor, layout.unpack(packed))


def _agree(first: Tensor, second: Tensor) -> bool:
    """Tell whether values agree up to rounding and to the tolerances of iterations."""
    sizes = row_norms(first.nan_to_num())[:, None]
    return bool(((first - second).nan_to_num().abs() <= 1e-6 * sizes).all())


def _double(function: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """Return a function with its modules replaced by copies in float64."""
    if isinstance(function, nn.Module):
        try:
            duplicate = copy.deepcopy(function)
        except (RuntimeError, TypeError) as error:
            raise TypeError(
                f"module {name} cannot be copied ({error}). Give a function that "
                "evaluates it in float64."
            ) from error
        return duplicate.requires_grad_(False)._apply(_to_double)
    if isinstance(function, partial):
        inner = _double(function.func, name)
        values = [_double_argument(value) for value in function.args]
        named = {key: _double_argument(v) for key, v in function.keywords.items()}
        return partial(inner, *values, **named)
    if ismethod(function) and isinstance(function.__self__, nn.Module):
        owner: Any = _double(function.__self__, name)
        method: Callable[..., Tensor] = getattr(owner, function.__name__)
        return method
    return function


def _double_argument(value: Any) -> Any:
    return _to_double(value.detach()) if isinstance(value, Tensor) else value


def _to_double(x: Tensor) -> Tensor:
    if x.is_complex():
        return x.to(torch.complex128)
    return x.double() if x.is_floating_point() else x
