"""The operator of a physics on images of one shape, and the check of its adjoint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from deepinv.physics import LinearPhysics, Physics, StackedPhysics
from torch import Tensor


class UncertifiablePhysicsError(ValueError):
    r"""
    The spectrum of :math:`A^\top A` cannot be bounded.

    :param deepinv.physics.Physics physics: the physics.
    :param str reason: the reason and the remedy.
    """

    def __init__(self, physics: Physics, reason: str) -> None:
        self.physics = physics
        self.reason = reason
        super().__init__(f"a {type(physics).__name__} cannot be certified: {reason}")


class AdjointMismatchError(UncertifiablePhysicsError):
    r"""
    ``A_adjoint`` is not the transpose of ``A``, so that an algorithm that uses both
    does not compute with :math:`A^\top A`.

    :param deepinv.physics.Physics physics: the physics.
    :param float mismatch: :math:`|\langle Au, w\rangle - \langle u, A^\top w\rangle|`
        divided by :math:`\|Au\|\|w\| + \|u\|\|A^\top w\|`, the maximum over a few
        random pairs :math:`u, w`.
    :param float tolerance: largest mismatch that rounding explains.
    """

    def __init__(self, physics: Physics, mismatch: float, tolerance: float) -> None:
        self.mismatch = mismatch
        self.tolerance = tolerance
        super().__init__(
            physics,
            f"<Au, w> and <u, A_adjoint(w)> differ by {mismatch:.1e} of their scale, "
            f"where rounding explains {tolerance:.1e}: A_adjoint is not the transpose "
            "of A, or A is not linear. Use an exact adjoint: adjoint_via_backprop=True "
            "for Tomography, deepinv.physics.adjoint_function in general; for a Blur "
            "with a kernel of one row or column, pad the kernel with zeros to three, "
            "or use ChannelwiseBlur.",
        )


# Names of parameters of deepinv's operators whose first axis is the batch.
BATCHED_PARAMETERS = ("filter", "mask", "filters", "multipliers", "coil_maps")
PAIRS = 3
"""Number of random pairs in the check of an adjoint."""


@dataclass(frozen=True)
class PhysicsOperator:
    r"""
    The operator :math:`A` of a physics and its adjoint on images of one shape.

    :param deepinv.physics.LinearPhysics physics: the physics.
    :param tuple shape: shape of the images, with the batch.
    :param torch.device device: device of the images.
    :param torch.dtype dtype: dtype of the images. Default: ``torch.float64``.
    """

    physics: LinearPhysics
    shape: tuple[int, ...]
    device: torch.device
    dtype: torch.dtype = torch.float64

    @classmethod
    def of(
        cls,
        physics: LinearPhysics,
        img_size: tuple[int, ...],
        dtype: torch.dtype = torch.float64,
    ) -> PhysicsOperator:
        r"""
        Return the operator on a batch of the size that the parameters of the physics
        have.

        :param deepinv.physics.LinearPhysics physics: the physics.
        :param tuple img_size: size of an image without the batch.
        :param torch.dtype dtype: dtype of the images. Default: ``torch.float64``.
        :return: the operator, on the device of the physics.
        """
        return cls(physics, (batch_size(physics), *img_size), device_of(physics), dtype)

    def gram(self, x: Tensor) -> Tensor:
        r"""Return :math:`A^\top A x` by ``A_adjoint_A``, which gradients of the data
        fidelity and proximal operators use."""
        return self.physics.A_adjoint_A(x)

    def gram_of_products(self, x: Tensor) -> Tensor:
        r"""Return :math:`A^\top A x` by ``A`` and ``A_adjoint``."""
        return self.physics.A_adjoint(self.physics.A(x))

    def has_consistent_gram(self) -> bool:
        """Return whether the two products agree, for a random image and up to rounding.
        They differ for a decomposition whose U is not an isometry, for example."""
        x = self.random_image(torch.Generator().manual_seed(1))
        one, two = self.gram(x), self.gram_of_products(x)
        return norm(one - two) <= 1e-6 * norm(two)

    def random_image(self, generator: torch.Generator) -> Tensor:
        """Return an image with standard normal entries."""
        x = torch.randn(self.shape, generator=generator, dtype=torch.float64)
        return x.to(self.device, self.dtype)

    def check_adjoint(self) -> None:
        r"""
        Check the adjoint by inner products of random pairs :math:`u, w`.

        The tolerance is :math:`100\,u\sqrt{N}` for the unit roundoff :math:`u` and the
        number :math:`N` of terms of the longer inner product: the rounding error of a
        sum grows like :math:`\sqrt N` with overwhelming probability.

        :raises AdjointMismatchError: if ``A_adjoint`` is not the transpose of ``A``, or
            ``A`` is not linear.
        :raises UncertifiablePhysicsError: if the image of ``A_adjoint`` is not real and
            finite or does not have the shape of the images.
        """
        generator = torch.Generator().manual_seed(0)
        worst, tolerance = 0.0, math.inf
        for _ in range(PAIRS):
            u = self.random_image(generator)
            image = self.physics.A(u)
            w = randn_like(image, generator)
            back = self.physics.A_adjoint(w)
            if not isinstance(back, Tensor) or back.shape != u.shape:
                raise UncertifiablePhysicsError(
                    self.physics,
                    f"A_adjoint returns {tuple(getattr(back, 'shape', ()))} for an "
                    f"image of shape {self.shape}. Check img_size, (C, H, W).",
                )
            if back.is_complex():
                raise UncertifiablePhysicsError(
                    self.physics, "A_adjoint returns complex numbers for a real image."
                )
            scale = norm(image) * norm(w) + norm(u) * norm(back)
            if not math.isfinite(scale):
                raise UncertifiablePhysicsError(
                    self.physics, "A or A_adjoint returns NaN or infinity."
                )
            difference = abs(_inner(image, w) - _inner(u, back))
            worst = max(worst, difference / scale if scale else 0.0)
            terms = max(u.numel(), sum(part.numel() for part in _parts(image)))
            tolerance = 100 * torch.finfo(self.dtype).eps * math.sqrt(terms)
        if worst > tolerance:
            raise AdjointMismatchError(self.physics, worst, tolerance)


@torch.no_grad()
def gram_asymmetry(physics: LinearPhysics, z: Tensor) -> float:
    r"""
    Return how far ``A_adjoint_A``, here :math:`G`, is from symmetric, for one random
    pair of images,

    .. math::

        \frac{|\langle G u, v\rangle - \langle u, G v\rangle|}
        {\|G u\| \|v\| + \|u\| \|G v\|}.

    :param deepinv.physics.LinearPhysics physics: the physics.
    :param torch.Tensor z: a batch of images. Its shape, dtype and device matter, its
        values do not.
    :return: (float) the asymmetry, 0 up to rounding if ``A_adjoint`` is the transpose
        of ``A``.
    """
    generator = torch.Generator(z.device).manual_seed(0)
    u, v = randn_like(z, generator), randn_like(z, generator)
    image_u, image_v = physics.A_adjoint_A(u), physics.A_adjoint_A(v)
    scale = norm(image_u) * norm(v) + norm(u) * norm(image_v)
    return abs(_inner(image_u, v) - _inner(u, image_v)) / scale if scale else 0.0


def batch_size(physics: LinearPhysics) -> int:
    r"""
    Return the batch size of the parameters of a physics, 1 for shared parameters.

    A user-defined physics whose parameters have other names than those of deepinv says
    so by a class attribute, such as ``batched_parameters = ("kernel",)``.

    :param deepinv.physics.LinearPhysics physics: the physics, or a stack of physics.
    :return: (int) the largest size of the first axis of these parameters.
    """
    sizes = [
        tensor.shape[0]
        for module in physics.modules()
        for name in getattr(module, "batched_parameters", BATCHED_PARAMETERS)
        if isinstance(tensor := getattr(module, name, None), Tensor)
        and tensor.ndim >= 4
    ]
    if isinstance(physics, StackedPhysics):
        sizes += [batch_size(part) for part in physics.physics_list]
    return max(sizes, default=1)


def device_of(physics: LinearPhysics) -> torch.device:
    """Return the device of the parameters of a physics."""
    if isinstance(physics, StackedPhysics):
        return device_of(physics.physics_list[0])
    for tensor in (*physics.parameters(), *physics.buffers()):
        return tensor.device
    return torch.device("cpu")


def _parts(y: Tensor | list[Tensor]) -> list[Tensor]:
    """Return the tensors of a measurement, a TensorList for stacked physics."""
    if isinstance(y, Tensor):
        return [y]
    return [part for item in y for part in _parts(item)]


def randn_like(y: Tensor | list[Tensor], generator: torch.Generator) -> Tensor:
    r"""
    Return a random measurement with standard normal entries.

    :param torch.Tensor y: the shape, dtype and device; or a list of tensors, as of
        stacked physics.
    :param torch.Generator generator: the generator.
    :return: the measurement, drawn in float64 on the device of the generator.
    """
    if not isinstance(y, Tensor):
        items = [randn_like(part, generator) for part in y]
        return cast(Tensor, type(y)(items))
    dtype = torch.complex128 if y.is_complex() else torch.float64
    values = torch.randn(
        y.shape, generator=generator, dtype=dtype, device=generator.device
    )
    return values.to(y)


def _inner(x: Tensor, y: Tensor) -> float:
    r"""Return the real inner product, in which :math:`\mathbb C = \mathbb R^2`."""
    return sum(
        float((a.conj() * b).real.double().sum())
        for a, b in zip(_parts(x), _parts(y), strict=True)
    )


def norm_on_device(x: Tensor) -> Tensor:
    """Return the 2-norm of a tensor or of a list of tensors as a tensor, for which the
    host does not wait."""
    squares = [part.abs().double().square().sum() for part in _parts(x)]
    return torch.stack(squares).sum().sqrt()


def norm(x: Tensor) -> float:
    """Return the 2-norm of a tensor or of a list of tensors."""
    return float(norm_on_device(x))
