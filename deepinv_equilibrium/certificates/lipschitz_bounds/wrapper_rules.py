"""Wrappers of denoisers that have the constants of what they wrap."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from deepinv.models import ComplexDenoiserWrapper, EquivariantDenoiser
from deepinv.transform import Reflect, Rotate, Transform
from torch import nn
from torch._dynamo import OptimizedModule

from ..bounds import Bound
from ..declarations import UncertifiableModuleError
from .lipschitz_constant import bound_of, register_lipschitz_rule

WRAPPERS = (OptimizedModule, ComplexDenoiserWrapper, EquivariantDenoiser)


@register_lipschitz_rule(*WRAPPERS)
def wrapper(module: nn.Module, img_size: tuple[int, ...] | None) -> Bound:
    """Bound a wrapper by the bound of what it wraps."""
    return bound_of(_inner(module, img_size), img_size)


def wrapped_denoiser(module: nn.Module, img_size: tuple[int, ...] | None) -> nn.Module:
    r"""
    Return the denoiser :math:`D` within wrappers that carry over the Lipschitz
    constants of :math:`D`, :math:`D - I` and :math:`2D - I`.

    - A module of :func:`torch.compile` computes what the module that it wraps does.
    - :class:`deepinv.models.ComplexDenoiserWrapper` in the mode ``"real_imag"`` applies
      :math:`D` to the real and to the imaginary part.
    - :class:`deepinv.models.EquivariantDenoiser` is the mean of :math:`T_g^{-1} D T_g`.
      The constants carry over if all :math:`T_g` permute the pixels. They are the same
      in every call if all elements of a group are averaged.

    :param torch.nn.Module module: a denoiser, wrapped or not.
    :param tuple img_size: size of the images without the batch, ``None`` for any size.
    :return: the denoiser.
    :raises UncertifiableModuleError: if a wrapper does not carry over the constants;
        the message has the reason and the remedy.
    """
    while type(module) in WRAPPERS:
        module = _inner(module, img_size)
    return module


def _inner(module: Any, img_size: tuple[int, ...] | None) -> nn.Module:
    if isinstance(module, OptimizedModule):
        calls_it = any(owner is module._orig_mod for owner in _callees(module))
        if module._forward_hooks or module._forward_pre_hooks or not calls_it:
            raise UncertifiableModuleError(
                module,
                "it has hooks, or its forward does not call the module that it wraps. "
                "Compile that module again.",
            )
        return module._orig_mod
    if isinstance(module, ComplexDenoiserWrapper):
        if module.mode != "real_imag":
            raise UncertifiableModuleError(
                module,
                f"the phase of a pixel jumps in the mode {module.mode!r}. Take "
                "mode='real_imag'.",
            )
        return module.denoiser
    transform = module.transform if module.training else module.eval_transform
    _require_permutations(module, transform, img_size)
    return module.denoiser


def _callees(module: OptimizedModule) -> list[Any]:
    """Return the module that a compiled forward calls, among other objects."""
    forward = vars(module)["forward"]
    if getattr(forward, "_torchdynamo_wrapper_id", None) != id(forward):
        return []
    function = forward._torchdynamo_orig_callable
    cells = getattr(function, "__closure__", None) or ()
    return [getattr(function, "__self__", None), *(c.cell_contents for c in cells)]


def _require_permutations(
    module: nn.Module, transform: Transform, img_size: tuple[int, ...] | None
) -> None:
    """Refuse transforms that are random or do not permute the pixels."""
    factors = list(_factors(module, transform))
    for part in factors:
        if isinstance(part, Rotate):
            angles = math.ceil(part.limits / part.multiples)
            elements = angles if part.positive else 2 * angles
        else:
            elements = 2 ** len(part.dim)
        if part.n_trans != elements:
            raise UncertifiableModuleError(
                module,
                f"its transform draws {part.n_trans} of {elements} elements of "
                f"{type(part).__name__} at random. Average over all, as with "
                "Rotate(n_trans=4, multiples=90, positive=True) * Reflect(n_trans=2, "
                "dim=[-1]); deepinv's default is random, also with random=False.",
            )
    if img_size is None:
        raise UncertifiableModuleError(
            module, "its rotations may crop the image. Give img_size."
        )
    # Each transform moves or interpolates pixels. It maps random values to a
    # permutation of them only if it permutes the pixels.
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, *img_size), generator=generator, dtype=torch.float64)
    states = [(part.rng, part.rng.get_state()) for part in factors]
    moved = transform(image).flatten(1).sort().values
    back = transform.symmetrize(nn.Identity(), average=False)(image)
    for generator, state in states:
        generator.set_state(state)
    if not (moved == image.flatten(1).sort().values).all() or (back != image).any():
        raise UncertifiableModuleError(
            module,
            f"its transform does not permute the pixels of images of size {img_size}: "
            "it crops or interpolates. Rotate square images, by multiples of 90.",
        )


def _factors(module: nn.Module, transform: Any) -> Iterator[Any]:
    """Yield the rotations and reflections that a transform is composed of."""
    if type(transform) in (Rotate, Reflect):
        yield transform
    elif type(transform).__qualname__ == CHAIN:
        yield from _factors(module, transform.t1)
        yield from _factors(module, transform.t2)
    else:
        raise UncertifiableModuleError(
            module,
            f"its transform, a {type(transform).__name__}, is not a rotation, a "
            "reflection or a product of these.",
        )


# deepinv defines the class of products within this method.
CHAIN = f"{Transform.__mul__.__qualname__}.<locals>.ChainTransform"
