"""Modules whose Lipschitz constants are asked for, with the sizes of their inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import deepinv as dinv
import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Residual

from .draws import Draw, Generator, choose, generator, maybe

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass
class ModuleCase:
    """A module and the size of its input."""

    module: nn.Module
    size: tuple[int, ...]


def convolution(draw: Draw, dim: int, channels: int) -> nn.Module:
    """Draw a convolution or a transposed convolution."""
    rng = generator(draw)
    groups = rng.choice([g for g in (1, 1, 2, 3) if channels % g == 0])
    outputs = groups * rng.randint(1, 2)
    taps = [rng.randint(1, 4 if dim < 3 else 3) for _ in range(dim)]
    strides = [rng.choice([1, 1, 2, 3]) for _ in range(dim)]
    dilations = [rng.choice([1, 1, 2, 3]) for _ in range(dim)]
    options: dict[str, Any] = {"groups": groups, "bias": rng.random() < 0.5}
    if maybe(draw):
        options["stride"], options["dilation"] = strides, dilations
    else:
        strides = [1] * dim
    transposed = draw(st.integers(0, 3)) == 0
    if transposed:
        options["output_padding"] = [
            rng.randint(0, max(s, d) - 1) if "stride" in options else 0
            for s, d in zip(strides, dilations, strict=True)
        ]
        options["padding"] = [rng.randint(0, k - 1) for k in taps]
        layer = TRANSPOSED[dim - 1](channels, outputs, taps, **options)
    else:
        mode = choose(draw, ("zeros", "reflect", "replicate", "circular"))
        options["padding_mode"] = mode
        same = max(strides) == 1 and rng.random() < 0.3
        most = 5 if mode != "zeros" and rng.random() < 0.3 else 2
        options["padding"] = (
            "same" if same else [rng.randint(0, most) for _ in range(dim)]
        )
        layer = CONVOLUTIONS[dim - 1](channels, outputs, taps, **options)
    layer.double()
    with torch.no_grad():
        layer.weight.copy_(rng.kernel(*layer.weight.shape))
    if rng.random() < 0.1:
        layer = parametrizations.weight_norm(layer)
    elif rng.random() < 0.1:
        layer = parametrizations.spectral_norm(layer)
        layer.train(rng.random() < 0.5)
    return layer


def activation(draw: Draw) -> nn.Module:
    """Draw an activation, in place or not."""
    rng = generator(draw)
    inplace = {"inplace": rng.random() < 0.5}
    slope = rng.choice([0.2, 1.0, 3.0, -2.0, rng.uniform(-2, 2)])
    return rng.choice(
        (
            lambda: nn.ReLU(**inplace),
            lambda: nn.LeakyReLU(slope, **inplace),
            lambda: nn.SELU(**inplace),
            lambda: nn.SiLU(**inplace),
            lambda: nn.Mish(**inplace),
            lambda: nn.ELU(slope, **inplace),
            lambda: nn.CELU(slope or 1.0, **inplace),
            lambda: nn.GELU(rng.choice(["none", "tanh"])),
            lambda: nn.Hardswish(**inplace),
            lambda: nn.Hardsigmoid(**inplace),
            lambda: nn.Hardtanh(-abs(slope) - 0.1, 1.0, **inplace),
            lambda: nn.Softplus(rng.choice([1.0, slope]), rng.choice([20.0, 2.0])),
            lambda: nn.Tanh(),
            lambda: nn.Tanhshrink(),
            lambda: nn.Softsign(),
            lambda: nn.Sigmoid(),
            lambda: nn.LogSigmoid(),
            lambda: nn.Softmax(1),
            lambda: nn.PReLU(init=slope).double(),
            lambda: nn.PReLU(init=-3.0).double(),
            lambda: nn.RReLU(0.1, abs(slope) + 0.2, **inplace),
            lambda: nn.Softshrink(abs(slope)),
            lambda: nn.Hardshrink(abs(slope)),
            lambda: nn.Threshold(0.1, 20.0, **inplace),
            lambda: nn.GLU(1),
        ),
    )()


def pooling(draw: Draw, dim: int) -> nn.Module:
    """Draw a pooling layer."""
    rng = generator(draw)
    index = dim - 1
    taps = [rng.randint(1, 4) for _ in range(dim)]
    # Windows that share their ends, or any.
    strides = [rng.choice([max(1, k - 1), rng.randint(1, 4)]) for k in taps]
    padding = [rng.randint(0, k // 2) for k in taps]
    flags = {"ceil_mode": rng.random() < 0.5}
    output = [rng.randint(1, 7) for _ in range(dim)]
    average = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[index]
    maximum = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[index]
    divisor = {"divisor_override": rng.choice([None, 1, 3])} if dim > 1 else {}
    return choose(
        draw,
        (
            lambda: average(
                taps,
                strides,
                padding,
                count_include_pad=rng.random() < 0.5,
                **flags,
                **divisor,
            ),
            lambda: maximum(
                taps,
                strides,
                padding,
                dilation=rng.choice([1, 2, 3]) if dim == 1 else 1,
                **flags,
            ),
            lambda: (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[
                index
            ](output if dim > 1 else output[0]),
            lambda: (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)[
                index
            ](output if dim > 1 else output[0]),
            lambda: (nn.LPPool1d, nn.LPPool2d, nn.LPPool2d)[index](
                rng.choice([2, 4, 2.0]),
                taps[0],
                strides[0] if rng.random() < 0.5 else None,
            ),
        ),
    )()


def resampling(draw: Draw, dim: int) -> nn.Module:
    """Draw an upsampling or padding layer, or a rearrangement."""
    rng = generator(draw)
    mode = rng.choice(["nearest", "nearest-exact", "linear", "linear", "cubic"])
    options: dict[str, Any] = {}
    if mode in ("linear", "cubic"):
        mode = {"linear": ("linear", "bilinear", "trilinear")[dim - 1]}.get(
            mode, "bicubic"
        )
        options["align_corners"] = rng.choice([True, False])
    factor = rng.choice([2, 3, 2.0, 1.5, 0.5, 1 / 3, rng.uniform(0.3, 3)])
    if rng.random() < 0.3:
        options["size"] = [rng.randint(1, 10) for _ in range(dim)]
    else:
        options["scale_factor"] = factor
        options["recompute_scale_factor"] = rng.choice([None, True, False])
    pads = [rng.randint(0, 3) for _ in range(2 * dim)]
    pad = choose(
        draw,
        (
            (nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
            (nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
            (nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
            (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
        ),
    )[dim - 1]
    value = (rng.uniform(-1, 1),) if "Constant" in pad.__name__ else ()
    return choose(
        draw,
        (
            lambda: nn.Upsample(mode=mode, **options),
            lambda: nn.Upsample(mode=mode, **options),
            lambda: pad(tuple(pads), *value),
            lambda: pad(tuple(pads), *value),
            lambda: nn.PixelShuffle(1 + (dim == 2)),
            lambda: nn.PixelUnshuffle(2),
            lambda: nn.Flatten(),
            lambda: nn.Identity(),
        ),
    )()


def pointwise(draw: Draw, dim: int, size: tuple[int, ...]) -> nn.Module:
    """Draw a normalisation, dropout or linear layer."""
    rng = generator(draw)
    channels = size[0]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dim - 1](
        channels, eps=rng.choice([1e-5, 0.1]), affine=rng.random() < 0.7
    ).double()
    norm.running_var.copy_(rng.normal(channels).square() + 0.01)
    norm.running_mean.copy_(rng.normal(channels))
    if norm.affine:
        with torch.no_grad():
            norm.weight.copy_(rng.normal(channels))
    linear = nn.Linear(size[-1], rng.randint(1, 4)).double()
    with torch.no_grad():
        linear.weight.copy_(rng.kernel(*linear.weight.shape))
    dropout = nn.Dropout(0.5)
    if draw(st.integers(0, 4)):
        norm.eval()
        dropout.eval()
    return choose(
        draw,
        (
            norm,
            norm,
            dropout,
            linear,
            nn.GroupNorm(1, channels).double(),
            nn.ZeroPad2d(1),
        ),
    )


def leaf(draw: Draw, size: tuple[int, ...]) -> nn.Module:
    """Draw one layer."""
    dim = len(size) - 1
    kind = draw(st.integers(0, 9))
    if kind < 4:
        return convolution(draw, dim, size[0])
    if kind < 6:
        return activation(draw)
    if kind == 6:
        return pooling(draw, dim)
    if kind == 7:
        return resampling(draw, dim)
    if kind == 8:
        return pointwise(draw, dim, size)
    return suspicious(draw, size)


def output_size(module: nn.Module, size: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the size of the output, ``None`` if the module cannot run."""
    try:
        with torch.no_grad():
            out = module(torch.zeros(2, *size, dtype=torch.float64))
    except Exception:  # noqa: BLE001, torch raises many kinds
        return None
    if not isinstance(out, Tensor) or out.numel() > 600 or out.numel() == 0:
        return None
    return tuple(out.shape[1:])


def keeping(draw: Draw, size: tuple[int, ...]) -> nn.Module:
    """Draw layers that keep the size of their input, for a residual block."""
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 3))):
        dim, rng = len(size) - 1, generator(draw)
        if maybe(draw):
            layers.append(activation(draw))
            continue
        taps = rng.choice([1, 3])
        layer = CONVOLUTIONS[dim - 1](
            size[0],
            size[0],
            taps,
            padding=taps // 2,
            padding_mode=rng.choice(["zeros", "circular", "replicate", "reflect"]),
        ).double()
        with torch.no_grad():
            layer.weight.copy_(rng.kernel(*layer.weight.shape))
        layers.append(layer)
    layers = [layer for layer in layers if output_size(layer, size) == size]
    if len(layers) == 1 and maybe(draw):
        return layers[0]
    return nn.Sequential(*layers)


def described(module: nn.Module) -> str:
    """Return a module in words, even if an edited setting breaks its repr."""
    try:
        return repr(module)
    except TypeError:
        return " ".join(type(layer).__name__ for layer in module.modules())


@st.composite
def layers(draw: Draw) -> ModuleCase:
    """Draw one layer."""
    dim = choose(draw, (1, 2))
    side = 7 if dim == 1 else 5
    size = (choose(draw, (1, 2, 3)), *(draw(st.integers(2, side)) for _ in range(dim)))
    kind = draw(st.integers(0, 7))
    if kind < 3:
        return ModuleCase(activation(draw), size)
    if kind < 5:
        return ModuleCase(pooling(draw, dim), size)
    if kind < 7:
        return ModuleCase(resampling(draw, dim), size)
    return ModuleCase(pointwise(draw, dim, size), size)


@st.composite
def modules(draw: Draw) -> ModuleCase:
    """Draw a module: a layer, a sequence, a residual block, or a mixture of these."""
    dim = choose(draw, (1, 2, 2, 3))
    side = {1: (3, 7), 2: (2, 6), 3: (2, 4)}[dim]
    size = (choose(draw, (1, 2, 3)), *(draw(st.integers(*side)) for _ in range(dim)))
    current, parts = size, []
    for _ in range(choose(draw, (1, 1, 2, 3))):
        part = (
            Residual(keeping(draw, current))
            if draw(st.integers(0, 3)) == 0
            else leaf(draw, current)
        )
        if draw(st.integers(0, 7)) == 0:
            edit(part, generator(draw))
        following = output_size(part, current)
        if following is None:
            continue
        parts.append(part)
        current = following
        if len(current) != dim + 1:
            break
    if not parts:
        return ModuleCase(nn.Identity(), size)
    if draw(st.integers(0, 19)) == 0 and dim == 2:
        network = dinv.models.DnCNN(
            size[0], size[0], depth=draw(st.integers(2, 4)), nf=4, pretrained=None
        ).double()
        return ModuleCase(network, size)
    return ModuleCase(parts[0] if len(parts) == 1 else nn.Sequential(*parts), size)


def edit(module: nn.Module, rng: Generator) -> None:
    """Change a setting of a layer after it was built."""
    layers = [m for m in module.modules() if not list(m.children())] or [module]
    layer: Any = rng.choice(layers)
    settings = {
        "padding": (0, 1, (0,) * 3, (2,), (1, 1), "same"),
        "_reversed_padding_repeated_twice": ([1, 1], [3, 3, 3, 3], [2, 0, 2, 0]),
        "stride": (1, 2, (2, 1), (1,)),
        "dilation": ((2,), (1, 2), 2),
        "groups": (1, 2),
        "padding_mode": ("zeros", "circular", "reflect"),
        "negative_slope": (3.0, float("nan")),
        "alpha": (3.0, -1.0),
        "eps": (1e-3, -0.005),
        "scale_factor": (3.0, 2),
        "kernel_size": (2, 3),
        "ceil_mode": (True, False),
        "inplace": (True,),
        "training": (True, False),
        "affine": (False,),
        "output_size": (3, 5),
        "weight": ("replaced",),
    }
    names = [name for name in settings if hasattr(layer, name)]
    if not names:
        return
    name = rng.choice(names)
    value = rng.choice(settings[name])
    if name == "weight":
        if isinstance(layer.weight, nn.Parameter):
            layer.weight.data.mul_(1.7)
        return
    setattr(layer, name, value)


class DoubledConvolution(nn.Conv2d):
    """A subclass with another output."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class StochasticDepth(nn.Module):
    """A random skip of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (3.0 * (torch.rand(()) > 0.5))


class BatchCentred(nn.Module):
    """A coupling of the images of a batch."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - x.mean(0, keepdim=True)


class Declared(nn.Module):
    """A wrapper that declares the constant of what it wraps."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def lipschitz_bound(self, img_size: Any = None) -> Any:
        return deq.lipschitz(self.inner, img_size)


class Tripled(Declared):
    """A subclass that does not declare its own constant."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


class LeakySequential(nn.Sequential):
    """A sequence with a skip connection."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


SUSPICIONS = (
    *("hook", "pre-hook", "forward", "method", "subclass", "sequence", "depth"),
    *("coupled", "declared", "tripled", "shared", "class"),
)


def suspicious(draw: Draw, size: tuple[int, ...]) -> nn.Module:
    """Draw a module with a hook, a replaced method or a code of its own."""
    rng = generator(draw)
    inner = keeping(draw, size)
    kind = choose(
        draw,
        SUSPICIONS,
    )
    if kind == "hook":
        inner.register_forward_hook(lambda module, args, out: 3 * out)
    elif kind == "pre-hook":
        inner.register_forward_pre_hook(lambda module, args: (3 * args[0],))
    elif kind == "forward":
        inner.forward = lambda x: 3 * x
    elif kind == "method":
        layer = rng.choice(list(inner.modules()))
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            inner_forward = layer._conv_forward
            layer._conv_forward = lambda *a: 3 * inner_forward(*a)
    elif kind == "subclass" and len(size) == 3:
        return DoubledConvolution(size[0], size[0], 1).double()
    elif kind == "sequence":
        return LeakySequential(inner)
    elif kind == "depth":
        return StochasticDepth()
    elif kind == "coupled":
        return BatchCentred()
    elif kind == "declared":
        return Declared(inner)
    elif kind == "tripled":
        return Tripled(inner)
    elif kind == "shared":
        return nn.Sequential(inner, inner)
    elif kind == "class":
        layer = rng.choice(list(inner.modules()))
        if type(layer) is nn.Conv2d:
            layer.__class__ = DoubledConvolution
    return inner
