"""A pretended accelerator, for machines that have none.

Its tensors compute on the CPU and say that they are on another device. As on a GPU, an
operation on tensors of different devices raises; scalars, and indices of a tensor, may
be on the CPU. Whenever the host reads a value, which makes it wait for a GPU, the
pretended device counts. Copies that do not wait are not counted.

It finds tensors on the wrong device and needless waiting. It does not show that the
kernels of a GPU work.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretended"
_setup_privateuseone_for_python_backend(NAME)
getattr(torch, NAME).get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
DEVICE = torch.device(NAME, 0)

ops = torch.ops.aten
# The size of their result depends on the values, or the result is a Python number.
READING = {
    ops._local_scalar_dense.default,
    ops.equal.default,
    ops.nonzero.default,
    ops.masked_select.default,
    ops._unique2.default,
    ops.unique_dim.default,
}
# Their indices may be on the CPU.
INDEXING = {
    ops.index.Tensor,
    ops.index_put.default,
    ops.index_put_.default,
    ops._unsafe_index.Tensor,
}
# Lazy views, which operations below the dispatch of Python do not resolve.
PHYSICAL = {
    ops._conj.default: ops.conj_physical.default,
    ops._neg_view.default: ops.neg.default,
}
COPYING = {ops._to_copy.default, ops.copy_.default, ops.copy.default}


class Reads:
    """The reads by the host, by the lines of the package that made them."""

    def __init__(self) -> None:
        self.lines: Counter[str] = Counter()

    @property
    def count(self) -> int:
        return self.lines.total()

    def add(self, what: str) -> None:
        frame: Any = sys._getframe(1)
        while frame is not None:
            path = frame.f_code.co_filename
            if "deepinv" in path:
                path = path.split("deepinv", 1)[-1]
                self.lines[f"deepinv{path}:{frame.f_lineno} {what}"] += 1
                return
            frame = frame.f_back
        self.lines[what] += 1


READS = Reads()


class PretendedTensor(Tensor):
    """A tensor of the pretended device, around the tensor that computes."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> PretendedTensor:
        outer = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
        )
        outer.inner = inner
        return outer

    def __repr__(self, **_: Any) -> str:
        return f"PretendedTensor({self.inner})"

    def as_subclass(self, cls: type) -> Tensor:
        return self  # a tensor has one subclass

    def tolist(self) -> Any:
        READS.add("tolist")
        return self.inner.tolist()

    def numpy(self, *_: Any, **kwargs: Any) -> Any:
        raise TypeError(f"a tensor of {DEVICE} has no array; call .cpu() first.")

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return run(func, args, kwargs or {})


class Factories(TorchDispatchMode):
    """Sends functions that create tensors to the pretended device."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the inner tensors, after the checks of a real device."""
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    remote = any(isinstance(t, PretendedTensor) for t in tensors)
    target = kwargs.get("device")
    target = None if target is None else torch.device(target)
    if func in COPYING:
        to_host = target is not None and target.type == "cpu"
        if func is not ops._to_copy.default:
            to_host = not isinstance(args[0], PretendedTensor)
        waits = not kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
        if remote and to_host and waits:
            READS.add("copy to the host")
    elif remote:
        if func in READING:
            READS.add(str(func))
        if func not in INDEXING:
            strangers = [
                tuple(t.shape)
                for t in tensors
                if not isinstance(t, PretendedTensor) and t.ndim > 0
            ]
            if strangers:
                raise RuntimeError(
                    f"{func}: expected all tensors to be on the same device, but found "
                    f"{DEVICE} and cpu, of shapes {strangers}."
                )
    func = PHYSICAL.get(func, func) if remote else func
    is_remote = remote if target is None else target.type == NAME
    if target is not None and target.type == NAME:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if is_remote:
        kwargs.pop("pin_memory", None)
    result = func(*unwrapped(args), **unwrapped(kwargs))
    if func._schema.is_mutable and args and result is unwrapped(args[0]):
        return args[0]
    if not is_remote:
        return result
    return tree_map_only(Tensor, PretendedTensor, result)


def unwrapped(tree: Any) -> Any:
    return tree_map_only(PretendedTensor, lambda tensor: tensor.inner, tree)


def _empty(size: Any, dtype: Any = None, **_: Any) -> Tensor:
    return PretendedTensor(torch.empty(size, dtype=dtype, device="cpu"))


def _empty_strided(size: Any, stride: Any, dtype: Any = None, **_: Any) -> Tensor:
    return PretendedTensor(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    unwrapped(target).copy_(unwrapped(source))
    return target


_library = torch.library.Library("aten", "IMPL")
_library.impl("empty.memory_format", _empty, "PrivateUse1")
_library.impl("empty_strided", _empty_strided, "PrivateUse1")
_library.impl("_copy_from", _copy_from, "PrivateUse1")


class _Generator(torch.Generator):
    """A generator of the host, also where one of the pretended device is asked for."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        on_device = torch.device(device).type == NAME
        return super().__new__(cls, "cpu" if on_device else device)


def _created_on_host(create: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap a function that fills a tensor out of sight of a dispatch mode."""

    def wrapped(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if device is None or torch.device(device).type != NAME:
            return create(*args, device=device, **kwargs)
        made = create(*args, **kwargs)
        return made if isinstance(made, PretendedTensor) else made.to(DEVICE)

    return wrapped


@contextmanager
def pretended_accelerator() -> Iterator[Reads]:
    """Return the reads by the host within a context in which the device exists."""
    multithreading = torch.autograd.is_multithreading_enabled()
    with (
        mock.patch.object(torch, "tensor", _created_on_host(torch.tensor)),
        mock.patch.object(torch, "Generator", _Generator),
        mock.patch.object(torch, "as_tensor", _created_on_host(torch.as_tensor)),
        torch.autograd.set_multithreading_enabled(False),
        Factories(),
    ):
        READS.lines.clear()
        yield READS
    assert torch.autograd.is_multithreading_enabled() == multithreading
