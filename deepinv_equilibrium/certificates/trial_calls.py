"""Trial calls, which show whether a map depends on more than each sample."""

from __future__ import annotations

import pickle
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from deepinv.transform import Transform
from torch import Tensor, nn

from ..fixed_points import State

Problem = Callable[[Tensor], "tuple[Callable[[State], State], State]"]


@dataclass
class Trial:
    r"""
    What trial calls showed.

    :param bool overwrites: whether the map changed its input in place.
    :param str objection: why the map is not a function of each sample alone, with the
        remedy; empty if the calls showed no reason.
    :param bool has_run: whether the map accepted the images.
    """

    overwrites: bool = False
    objection: str = ""
    has_run: bool = True


def try_out(
    modules: Sequence[nn.Module], call: Problem, img_size: Sequence[int]
) -> Trial:
    r"""
    Call a map on two random images, and on the first of them alone.

    The map must return the same values for an image in both calls, without drawing
    random numbers. Values may differ by the square root of the unit roundoff, 3e-4 of
    the root mean square in float32, because kernels round differently for other batch
    sizes and iterative maps stop at a tolerance. A weaker coupling is not seen. The
    states of all random number generators, and the buffers of the modules, are
    restored.

    A map that raises an error for these images shows nothing.

    :param Sequence modules: the modules that compute the map. The images have the dtype
        and the device of the first parameter or buffer, else float64.
    :param Callable call: a function that returns the map and its input for a batch of
        images.
    :param Sequence img_size: size :math:`(C, H, W)` of the images.
    :return: (Trial) the findings.
    """
    images = _images(modules, img_size)
    trial = Trial()
    with (
        warnings.catch_warnings(),
        torch.compiler.set_stance("force_eager"),  # compiling takes minutes
        _restored(modules, images.device) as draws,
    ):
        warnings.simplefilter("ignore")
        try:
            _run(trial, call, images)
        except Exception:  # noqa: BLE001, a user's module may raise anything
            return Trial(has_run=False)
        if draws():
            trial.objection = "it draws random numbers. Call eval(), or remove them."
    return trial


def _run(trial: Trial, call: Problem, images: Tensor) -> None:
    function, state = call(images.clone())
    before = _copies(state)
    together = _copies(function(state))
    trial.overwrites = not all(map(torch.equal, before, _parts(state)))
    alone = _value(call, images[:1])
    if _agree([part[:1] for part in together], alone):
        return
    if _agree(together, _value(call, images)):
        trial.objection = (
            "the result of an image depends on the other images of its batch. Use "
            "layers that treat each image alone."
        )
    else:
        trial.objection = (
            "two calls with one input differ. Remove what is random or remembered "
            "from call to call."
        )


def _value(call: Problem, images: Tensor) -> list[Tensor]:
    function, state = call(images.clone())
    return _copies(function(state))


def _parts(state: State) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def _copies(state: State) -> list[Tensor]:
    return [part.clone() for part in _parts(state)]


def _agree(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    if [part.shape for part in first] != [part.shape for part in second]:
        return False
    for a, b in zip(first, second, strict=True):
        tolerance = torch.finfo(a.dtype).eps ** 0.5 if _is_inexact(a) else 0.0
        norm = float(torch.linalg.vector_norm(a)) if _is_inexact(a) else 0.0
        scale = norm / max(a.numel(), 1) ** 0.5
        if not torch.allclose(a, b, tolerance, tolerance * scale, equal_nan=True):
            return False
    return True


def _is_inexact(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _images(modules: Sequence[nn.Module], img_size: Sequence[int]) -> Tensor:
    """Return two images, the first mostly between 0 and 1, with some negative pixels,
    the second darker, so that a mean over the batch differs from the mean of one."""
    tensors = chain(*(chain(m.parameters(), m.buffers()) for m in modules))
    like = next((t for t in tensors if _is_inexact(t)), torch.empty(0).double())
    generator = torch.Generator().manual_seed(0)
    size = (2, *img_size)
    images = torch.randn(size, generator=generator, dtype=torch.float64)
    images = 0.5 + 0.5 * images
    images[1] -= 2
    return images.to(like)


@contextmanager
def _restored(
    modules: Sequence[nn.Module], device: torch.device
) -> Iterator[Callable[[], bool]]:
    """Restore generators and buffers at the end. The value tells whether a generator
    was used. Generators of deepinv's transforms do not count: they only choose the
    order in which a whole group is averaged, or two calls differ."""
    parts = dict.fromkeys(chain(*(module.modules() for module in modules)))
    buffers = [(b, b.clone()) for part in parts for b in part.buffers(recurse=False)]
    generators = [
        (generator, generator.get_state(), not isinstance(owner, Transform))
        for owner in parts
        for generator in vars(owner).values()
        if isinstance(generator, torch.Generator)
    ]
    cuda = [device] if device.type == "cuda" else []
    python_state, numpy_state = random.getstate(), _numpy_state()
    torch_states = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, cuda)]

    def draws() -> bool:
        now = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, cuda)]
        return (
            not all(map(torch.equal, torch_states, now))
            or random.getstate() != python_state
            or _numpy_state() != numpy_state
            or any(
                not torch.equal(generator.get_state(), state)
                for generator, state, counts in generators
                if counts
            )
        )

    try:
        yield draws
    finally:
        for buffer, values in buffers:
            if not torch.equal(buffer, values):
                buffer.copy_(values)
        for generator, state, _ in generators:
            generator.set_state(state)
        torch.set_rng_state(torch_states[0])
        for where, state in zip(cuda, torch_states[1:], strict=True):
            torch.cuda.set_rng_state(state, where)
        random.setstate(python_state)
        of_numpy = pickle.loads(numpy_state)
        np.random.set_state(of_numpy)  # noqa: NPY002, users draw from it


def _numpy_state() -> bytes:
    """Return the state of numpy's global generator, which modules may draw from."""
    return pickle.dumps(np.random.get_state())  # noqa: NPY002, users draw from it
