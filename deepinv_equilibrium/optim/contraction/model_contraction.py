"""How the step of a model contracts, read off its parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from deepinv.physics import DecomposablePhysics, Downsampling, LinearPhysics, Physics

from ...certificates import (
    Bound,
    Contraction,
    Kind,
    LayerRate,
    UncertifiableModuleError,
    rates,
)
from ...certificates.bounds import derived, outward, unproved
from ...certificates.declarations import refuse_changed
from ...certificates.rates.data_sensitivity import fixed_point_sensitivity
from .data_constants import DataConstants
from .prior_constants import GradientConstants, ProxConstants
from .rate_scheme import Layer, RateScheme, layer_rate

if TYPE_CHECKING:
    from ..equilibrium_optim import EquilibriumOptim


def read_contraction(
    model: EquilibriumOptim, physics: Physics, img_size: Sequence[int]
) -> Contraction:
    r"""
    How the block of a model contracts, from the constants of its parts.

    :param EquilibriumOptim model: the model.
    :param deepinv.physics.Physics physics: the physics.
    :param Sequence img_size: :math:`(C, H, W)` of the images.
    :return: the contraction; its rate is infinite, and its source says why, where a
        part has no proved constant.
    """
    assert model.equilibrium is not None
    scheme = model.rate_scheme
    if scheme is None:
        name = type(model).__name__
        return Contraction(
            unproved(f"no contraction rate is proved for {name}"), "none"
        )
    try:
        layers = scheme.arrange(_read_layers(model, physics, img_size, scheme))
    except _NotCoveredError as error:
        return Contraction(unproved(str(error)), scheme.norm)
    results = tuple(layer_rate(scheme, layer) for layer in layers)
    if scheme.solves_prox and not has_closed_prox(physics):
        results = tuple(as_if_exact(result) for result in results)
    return Contraction(
        _block_rate(results),
        scheme.norm,
        results,
        _stability(scheme, layers, results, model._has_custom_output),
        scheme.residual_factor(layers, results[0].rate),
        scheme.in_state,
        tuple(_notes(scheme, physics)),
    )


class _NotCoveredError(Exception):
    """A parameter that the theory does not cover."""


def _read_layers(
    model: EquilibriumOptim,
    physics: Physics,
    img_size: Sequence[int],
    scheme: RateScheme,
) -> list[Layer]:
    iterator = model.fixed_point.iterator
    if type(iterator) is not scheme.iterator:
        raise _NotCoveredError(f"the iterator {type(iterator).__name__} is not covered")
    if iterator.g_first:
        raise _NotCoveredError("g_first=True, with f and g exchanged, is not covered")
    assert model.equilibrium is not None
    # Spectra and norms are costly: once for each part, however many layers share it.
    data: dict[int, DataConstants] = {}
    priors: dict[tuple[int, float], ProxConstants | GradientConstants] = {}
    layers = []
    for index in range(model.equilibrium.layers):
        fidelity = model.update_data_fidelity_fn(index)
        prior = model.update_prior_fn(index)
        try:
            refuse_changed(fidelity)
            refuse_changed(prior)
        except UncertifiableModuleError as error:
            raise _NotCoveredError(str(error)) from None
        parameters = model.update_params_fn(index)
        tau, weight, beta = (
            _number(name, parameters.get(name, 1.0))
            for name in ("stepsize", "lambda", "beta")
        )
        if id(fidelity) not in data:
            data[id(fidelity)] = DataConstants.of(fidelity, physics, img_size)
        key = id(prior), tau * weight
        if key not in priors:
            priors[key] = (
                GradientConstants.of(prior, img_size)
                if scheme.takes_prior_gradient
                else ProxConstants.of(prior, tau * weight, img_size)
            )
        layers.append(Layer(data[id(fidelity)], priors[key], tau, weight, beta))
    return layers


def _number(name: str, value: Any) -> float:
    tensor = torch.as_tensor(value)
    if tensor.numel() != 1:
        raise _NotCoveredError(
            f"{name} has the shape {tuple(tensor.shape)}: one value a pixel or a "
            "sample is not covered, one a layer is"
        )
    number = float(tensor.detach()) if torch.is_tensor(value) else float(value)
    if not 0 <= number < math.inf:
        raise _NotCoveredError(f"{name} is {number}: it must be nonnegative and finite")
    return number


def _block_rate(results: Sequence[LayerRate]) -> Bound:
    bounds = [result.rate for result in results]
    if len(bounds) == 1:
        return bounds[0]
    for index, bound in enumerate(bounds, 1):
        if bound.is_vacuous:
            return unproved(f"layer {index}: {bound.source}")
    value = rates.block(bound.value for bound in bounds)
    return derived(value, bounds, f"product over {len(bounds)} layers")


def _stability(
    scheme: RateScheme,
    layers: Sequence[Layer],
    results: Sequence[LayerRate],
    has_custom_output: bool,
) -> Bound:
    if has_custom_output:
        return unproved("get_output is the model's own")
    block_rates = [result.rate.value for result in results]
    moves = [result.sensitivity.value for result in results]
    bounds = [b for result in results for b in (result.rate, result.sensitivity)]
    start = fixed_point_sensitivity(block_rates, moves)
    if start == float("inf"):
        return unproved("the rate is not below 1")
    before = start
    for rate, move in zip(block_rates[:-1], moves[:-1], strict=True):
        before = outward(rate * before + move)
    source = "sensitivity of the step / (1 - rate)"
    return scheme.image_move(
        layers, derived(before, bounds, source), derived(start, bounds, source)
    )


def has_closed_prox(physics: Physics) -> bool:
    r"""
    Whether the proximal operator of the data fidelity is computed, not solved; a
    physics of one's own says so by an attribute ``has_closed_prox``.

    :param deepinv.physics.Physics physics: the physics.
    """
    if "prox_l2" in vars(physics):
        return False
    prox = getattr(type(physics), "prox_l2", None)
    return (
        prox is DecomposablePhysics.prox_l2
        or (prox is Downsampling.prox_l2 and physics.padding == "circular")
        or getattr(physics, "has_closed_prox", False) is True
    )


def as_if_exact(result: LayerRate) -> LayerRate:
    r"""
    Weaken the rate of an exact proximal operator to that of an iterative one: where the
    iterations stop depends on the image, and adds to how far two images move apart.

    :param LayerRate result: the rate of a layer with the exact operator.
    :return: (LayerRate) the same numbers, estimated.
    """
    source = "as if the proximal operator, which is iterative, were exact"
    iterations = Bound(0.0, Kind.ESTIMATED, source)

    def weaker(bound: Bound) -> Bound:
        if bound.is_vacuous:
            return bound
        return derived(bound.value, (bound, iterations), f"{bound.source}, {source}")

    return LayerRate(weaker(result.rate), weaker(result.sensitivity), result.terms)


def _notes(scheme: RateScheme, physics: Physics) -> list[str]:
    notes = ["The rate is that of the step in exact arithmetic."]
    if (
        scheme.solves_prox
        and isinstance(physics, LinearPhysics)
        and not has_closed_prox(physics)
    ):
        notes.append(
            "It is that of the step with the exact proximal operator of the data "
            "fidelity, and so estimated: this physics solves it iteratively, to a "
            f"relative residual of {physics.tol:g}."
        )
    return notes
