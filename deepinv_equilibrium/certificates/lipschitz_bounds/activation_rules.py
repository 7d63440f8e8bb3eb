"""Activations: the largest slope."""

from __future__ import annotations

from torch import nn

from ..bounds import Bound, outward
from ..declarations import UncertifiableModuleError
from .effective_weights import effective_weight
from .lipschitz_constant import register_lipschitz_rule

# The constants of torch.nn.SELU.
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
# Largest slopes. GELU: at sqrt(2), its distribution function plus sqrt(2) times its
# density. Its tanh form, SiLU and Mish: the largest on a grid of spacing 1e-5
# plus half of that times their largest curvature (below 1), rounded up. torch rounds
# the sixths of Hardsigmoid and Hardswish to single precision.
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


def largest_slope(value: float) -> Bound:
    """The bound of an activation."""
    return Bound(value, source="largest slope")


@register_lipschitz_rule(*SLOPES)
def fixed_slope(module: nn.Module, img_size: tuple[int, ...] | None) -> Bound:
    """Of activations whose parameters do not change their largest slope."""
    for base in type(module).__mro__:
        if base in SLOPES:
            return largest_slope(SLOPES[base])
    raise AssertionError(f"registered for {type(module)!r}, which it is not.")


@register_lipschitz_rule(nn.GELU)
def gelu(module: nn.GELU, img_size: tuple[int, ...] | None) -> Bound:
    """At the square root of 2."""
    return largest_slope(
        GELU_SLOPE if module.approximate == "none" else GELU_TANH_SLOPE
    )


@register_lipschitz_rule(nn.LeakyReLU)
def leaky_relu(module: nn.LeakyReLU, img_size: tuple[int, ...] | None) -> Bound:
    """Either slope."""
    return largest_slope(max(1.0, abs(module.negative_slope)))


@register_lipschitz_rule(nn.PReLU)
def prelu(module: nn.PReLU, img_size: tuple[int, ...] | None) -> Bound:
    """Either slope, of any channel."""
    weight = effective_weight(module)
    return largest_slope(max(1.0, float(weight.abs().max())))


@register_lipschitz_rule(nn.RReLU)
def rrelu(module: nn.RReLU, img_size: tuple[int, ...] | None) -> Bound:
    """In eval mode, a LeakyReLU of the mean slope."""
    if module.training:
        raise UncertifiableModuleError(module, "its slope is random. Call eval().")
    return largest_slope(max(1.0, outward(abs(module.lower + module.upper) / 2)))


@register_lipschitz_rule(nn.ELU)
def elu(module: nn.ELU, img_size: tuple[int, ...] | None) -> Bound:
    """alpha exp(x) below 0."""
    return largest_slope(max(1.0, abs(module.alpha)))


@register_lipschitz_rule(nn.CELU)
def celu(module: nn.CELU, img_size: tuple[int, ...] | None) -> Bound:
    """exp(x / alpha) below 0."""
    if not module.alpha > 0:
        raise UncertifiableModuleError(
            module, f"its slope grows without bound: alpha = {module.alpha!r} < 0."
        )
    return largest_slope(1.0)


@register_lipschitz_rule(nn.Softplus)
def softplus(module: nn.Softplus, img_size: tuple[int, ...] | None) -> Bound:
    """A sigmoid of slope beta; torch's own line above the threshold must join it."""
    # At the default threshold of 20 the gap is 2e-9 / beta: an error of its evaluation.
    if not module.beta > 0 or module.threshold < 20:
        raise UncertifiableModuleError(
            module,
            "torch's softplus jumps at the threshold by exp(-threshold) / beta. Take a "
            f"threshold of at least 20 and beta > 0, got {module.threshold!r} and "
            f"{module.beta!r}.",
        )
    return largest_slope(1.0)


@register_lipschitz_rule(nn.Softmax, nn.Softmax2d)
def softmax(module: nn.Module, img_size: tuple[int, ...] | None) -> Bound:
    """diag(p) - p p' has rows of absolute sum 2 p (1 - p) <= 1/2."""
    return Bound(0.5, source="Gershgorin's bound of the Jacobian")
