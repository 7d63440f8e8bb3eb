"""Activations, and batch normalisation and dropout in eval mode."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..bounds import Bound, outward
from ..declarations import UncertifiableModuleError
from .lipschitz_constant import effective_weight, register_lipschitz_rule

# The constants of torch.nn.SELU.
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
# Largest slopes. The slope of GELU is largest at sqrt(2): the distribution function
# plus sqrt(2) times the density. For its tanh form, SiLU and Mish the value is the
# largest slope on a grid of spacing 1e-5, plus half the spacing times the largest
# curvature (below 1), rounded up. torch rounds the sixths in Hardsigmoid and Hardswish
# to single precision.
SLOPES: dict[type[nn.Module], float] = {
    nn.ReLU: 1.0,
    nn.ReLU6: 1.0,
    nn.Hardtanh: 1.0,
    nn.Sigmoid: 1 / 4,
    nn.LogSigmoid: 1.0,
    nn.Hardsigmoid: outward(1 / 6, relative=1e-7),
    nn.Tanh: 1.0,
    nn.Tanhshrink: 1.0,
    nn.Softsign: 1.0,
    nn.Softshrink: 1.0,
    nn.SELU: outward(SELU_SCALE * SELU_ALPHA),
    nn.SiLU: 1.09985,
    nn.Mish: 1.08851,
    nn.Hardswish: outward(1.5, relative=1e-7),
}
GELU_SLOPE, GELU_TANH_SLOPE = 1.12891, 1.129
# Activations that act on each entry alone.
POINTWISE = {
    *SLOPES,
    *(nn.GELU, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.Softplus),
}


def largest_slope(value: float) -> Bound:
    """Return the bound of an activation from its largest slope."""
    return Bound(value, source="largest slope")


@register_lipschitz_rule(*SLOPES)
def fixed_slope(module: nn.Module, img_size: tuple[int, ...] | None) -> Bound:
    """Bound activations whose largest slope does not depend on their parameters."""
    for base in type(module).__mro__:
        if base in SLOPES:
            return largest_slope(SLOPES[base])
    raise AssertionError(f"no slope is known for a {type(module).__name__}.")


@register_lipschitz_rule(nn.GELU)
def gelu(module: nn.GELU, img_size: tuple[int, ...] | None) -> Bound:
    r"""Bound GELU by its slope at :math:`\sqrt 2`."""
    return largest_slope(
        GELU_SLOPE if module.approximate == "none" else GELU_TANH_SLOPE
    )


@register_lipschitz_rule(nn.LeakyReLU)
def leaky_relu(module: nn.LeakyReLU, img_size: tuple[int, ...] | None) -> Bound:
    """Bound LeakyReLU by the larger of its two slopes."""
    return largest_slope(max(1.0, abs(module.negative_slope)))


@register_lipschitz_rule(nn.PReLU)
def prelu(module: nn.PReLU, img_size: tuple[int, ...] | None) -> Bound:
    """Bound PReLU by the largest slope of its channels."""
    weight = effective_weight(module)
    return largest_slope(max(1.0, float(weight.abs().max())))


@register_lipschitz_rule(nn.RReLU)
def rrelu(module: nn.RReLU, img_size: tuple[int, ...] | None) -> Bound:
    """Bound RReLU in eval mode, a LeakyReLU with the mean slope."""
    return largest_slope(max(1.0, outward(abs(module.lower + module.upper) / 2)))


@register_lipschitz_rule(nn.ELU)
def elu(module: nn.ELU, img_size: tuple[int, ...] | None) -> Bound:
    r"""Bound ELU, whose slope is :math:`\alpha e^x` for :math:`x < 0`."""
    return largest_slope(max(1.0, abs(module.alpha)))


@register_lipschitz_rule(nn.CELU)
def celu(module: nn.CELU, img_size: tuple[int, ...] | None) -> Bound:
    r"""Bound CELU, whose slope is :math:`e^{x / \alpha}` for :math:`x < 0`."""
    if not module.alpha > 0:
        raise UncertifiableModuleError(
            module, f"its slope grows without bound: alpha = {module.alpha!r} < 0."
        )
    return largest_slope(1.0)


@register_lipschitz_rule(nn.Softplus)
def softplus(module: nn.Softplus, img_size: tuple[int, ...] | None) -> Bound:
    """Bound Softplus, whose slope is a sigmoid. Above the threshold torch replaces it
    by the identity, so that it jumps there by exp(-threshold) / beta."""
    # At a threshold of 40 the jump is below the rounding of the value in float64.
    if not module.beta > 0 or module.threshold < 40:
        raise UncertifiableModuleError(
            module,
            "torch's softplus jumps at the threshold by exp(-threshold) / beta. Take "
            f"threshold=40 or more and beta > 0, got {module.threshold!r} and "
            f"{module.beta!r}.",
        )
    return largest_slope(1.0)


@register_lipschitz_rule(nn.Softmax, nn.Softmax2d)
def softmax(module: nn.Module, img_size: tuple[int, ...] | None) -> Bound:
    r"""Bound softmax. Its Jacobian :math:`\operatorname{diag}(p) - p p^\top` has rows
    whose moduli sum to :math:`2 p_i (1 - p_i) \le 1/2`."""
    return Bound(0.5, source="Gershgorin's bound of the Jacobian")


@register_lipschitz_rule(
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm
)
def batch_norm(module: _BatchNorm, img_size: tuple[int, ...] | None) -> Bound:
    """Bound batch normalisation in eval mode by the largest ratio of a weight to its
    standard deviation, which torch rounds to the precision of the variance."""
    running = effective_weight(module, "running_var")
    variance = running.double() + module.eps
    if not (variance > 0).all():
        raise UncertifiableModuleError(
            module, "a running variance plus eps is not positive."
        )
    scale = torch.rsqrt(variance)
    if module.weight is not None:
        scale = scale * effective_weight(module).double().abs()
    rounding = max(1e-12, 4 * torch.finfo(running.dtype).eps)
    value = outward(float(scale.max()), relative=rounding)
    return Bound(value, source="largest scale of a channel")


@register_lipschitz_rule(
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
def dropout(module: nn.Dropout, img_size: tuple[int, ...] | None) -> Bound:
    """Bound dropout in eval mode, which is the identity."""
    return Bound(1.0, source="dropout in eval mode")
