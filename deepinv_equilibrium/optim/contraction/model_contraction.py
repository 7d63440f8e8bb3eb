"""The contraction of an optimiser's block of layers, computed from its parts."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from deepinv.optim import OptimIterator
from deepinv.physics import LinearPhysics, Physics

from ...certificates import (
    Bound,
    Contraction,
    Kind,
    LayerRate,
    UncertifiableModuleError,
    rates,
)
from ...certificates.bounds import derived, outward, unproved
from ...certificates.convergence import Energy
from ...certificates.declarations import refuse_changed
from ...certificates.fingerprints import changed_names, fingerprint
from ...certificates.rates.averaged_operators import averaged_composition
from ...certificates.rates.data_sensitivity import fixed_point_sensitivity
from ...certificates.rates.energy_decrease import block_decrease
from ...certificates.spectra.closed_prox import has_closed_prox
from .data_constants import DataConstants
from .rate_scheme import (
    Layer,
    LayerParts,
    NotCoveredError,
    Parameter,
    PriorConstants,
    RateScheme,
    layer_rate,
)


@dataclass(frozen=True)
class OptimiserParts:
    r"""
    What the contraction of an optimiser depends on.

    :param str name: name of the optimiser.
    :param RateScheme scheme: how the algorithm contracts; ``None`` if no rate is
        proved.
    :param deepinv.optim.OptimIterator iterator: the iterator.
    :param tuple layers: the layers of the block, in their order.
    :param bool has_custom_output: whether the user has given a ``get_output``.
    """

    name: str
    scheme: RateScheme | None
    iterator: OptimIterator
    layers: tuple[LayerParts, ...]
    has_custom_output: bool = False


def read_contraction(
    parts: OptimiserParts, physics: Physics, img_size: Sequence[int]
) -> Contraction:
    r"""
    Compute how a block of layers contracts, from the constants of its parts.

    :param OptimiserParts parts: the optimiser.
    :param deepinv.physics.Physics physics: the physics.
    :param Sequence img_size: :math:`(C, H, W)` of the images.
    :return: the contraction. If a part has no proved constant, the rate is infinite and
        its source says why.
    """
    scheme = parts.scheme
    if scheme is None:
        reason = f"no contraction rate is proved for {parts.name}"
        return Contraction(unproved(reason), "none")
    try:
        layers = scheme.arrange(_read_layers(parts, physics, img_size, scheme))
    except NotCoveredError as error:
        return Contraction(unproved(str(error)), scheme.norm)
    results = tuple(layer_rate(scheme, layer) for layer in layers)
    is_iterative = scheme.solves_prox and not has_closed_prox(physics, tuple(img_size))
    if is_iterative:
        results = tuple(as_if_exact(result) for result in results)
    return Contraction(
        _block_rate(results),
        scheme.norm,
        results,
        _stability(scheme, layers, results, parts.has_custom_output),
        scheme.residual_factor(layers, results[0].rate),
        scheme.in_state,
        tuple(_notes(physics, is_iterative)),
        _block_averaged(results),
        _block_energy(scheme, parts.layers, results),
    )


def _read_layers(
    parts: OptimiserParts,
    physics: Physics,
    img_size: Sequence[int],
    scheme: RateScheme,
) -> list[Layer]:
    iterator = parts.iterator
    if type(iterator) is not scheme.iterator:
        raise NotCoveredError(f"the iterator {type(iterator).__name__} is not covered")
    if iterator.g_first:
        raise NotCoveredError("g_first=True, with f and g exchanged, is not covered")
    _require_unchanged(iterator)
    # Spectra and norms are costly: layers that share a part share its constants.
    data: dict[int, DataConstants] = {}
    priors: dict[tuple[float, ...], PriorConstants] = {}
    layers = []
    for layer in parts.layers:
        try:
            refuse_changed(layer.data_fidelity)
            refuse_changed(layer.prior)
            numbers = {
                parameter.key: _number(parameter, layer.parameters)
                for parameter in scheme.parameters
            }
            if scheme.solves_prox and numbers["stepsize"] == 0:
                raise NotCoveredError(
                    "stepsize is 0, and the proximal operator of the data fidelity "
                    "divides by it: give a positive number"
                )
            fidelity = id(layer.data_fidelity)
            if fidelity not in data:
                data[fidelity] = DataConstants.of(
                    layer.data_fidelity, physics, img_size
                )
            others = [id(v) for v in layer.parameters.values() if callable(v)]
            key = (id(layer.prior), *numbers.values(), *others)
            if key not in priors:
                priors[key] = scheme.read_prior(layer, numbers, img_size)
        except UncertifiableModuleError as error:
            raise NotCoveredError(str(error)) from None
        layers.append(Layer(data[fidelity], priors[key], numbers))
    return layers


def _require_unchanged(iterator: OptimIterator) -> None:
    """Refuse an iterator that differs from a new one of its type: by its parts and
    their attributes, by replaced methods or by hooks."""
    try:
        refuse_changed(iterator)
    except UncertifiableModuleError as error:
        raise NotCoveredError(f"the iterator: {error}") from None
    new = type(iterator)()
    new.relaxation_step = iterator.relaxation_step  # the method, or one marked as such
    for name in changed_names(fingerprint(new), fingerprint(iterator)):
        if not name.startswith(("cost_fn", "has_cost")):
            raise NotCoveredError(
                f"{name} of the iterator is not that of a new {type(iterator).__name__}"
            )


def _number(parameter: Parameter, values: Mapping[str, Any]) -> float:
    name, value = parameter.key, values.get(parameter.key, 1.0)
    tensor = torch.as_tensor(value)
    if tensor.numel() != 1:
        raise NotCoveredError(
            f"{name} has the shape {tuple(tensor.shape)}: one value a pixel or a "
            "sample is not covered, one a layer is"
        )
    number = float(tensor.detach()) if torch.is_tensor(value) else float(value)
    if not 0 <= number < math.inf:
        raise NotCoveredError(f"{name} is {number}: it must be nonnegative and finite")
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


def _block_averaged(results: Sequence[LayerRate]) -> Bound:
    """Return the averagedness constant of the composition of the layers."""
    bounds = [result.averaged for result in results]
    if len(bounds) == 1:
        return bounds[0]
    value = functools.reduce(averaged_composition, (bound.value for bound in bounds))
    return derived(value, bounds, f"composition of {len(bounds)} layers")


def _block_energy(
    scheme: RateScheme, layers: Sequence[LayerParts], results: Sequence[LayerRate]
) -> Energy | None:
    """Return what is proved of the energy of a block, whose layers must have the same
    energy. Only their step sizes may differ, if the energy does not depend on them."""
    energies = [result.energy for result in results if result.energy is not None]
    other = () if scheme.solves_prox else ("stepsize",)
    parts = [_energy_parts(layer, other) for layer in layers]
    if len(energies) < len(results) or any(part != parts[0] for part in parts):
        return None
    if len(energies) == 1:
        return energies[0]
    slopes = [energy.decrease for energy in energies]
    value = block_decrease([slope.value for slope in slopes])
    source = f"{len(slopes)} layers on one energy"
    smallest = min((energy.convexity for energy in energies), key=float)
    return Energy(
        energies[0].formula, smallest, derived(value, slopes, source, is_lower=True)
    )


def _energy_parts(layer: LayerParts, other: Sequence[str]) -> list[Any]:
    """Return what the energy of a layer depends on: its parts, and its parameters as
    numbers, except those that do not change the energy."""
    numbers = {
        name: value.tolist() if isinstance(value, torch.Tensor) else value
        for name, value in layer.parameters.items()
        if name not in other
    }
    return [id(layer.data_fidelity), id(layer.prior), numbers]


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


def as_if_exact(result: LayerRate) -> LayerRate:
    r"""
    Return the rate of a layer with an exact proximal operator as an estimate of the
    rate with an iterative one.

    The iterations stop at a point that depends on the image, which adds an unknown
    amount to the distance between two images.

    :param LayerRate result: the rate with the exact operator.
    :return: (LayerRate) the same numbers, of kind estimated.
    """
    source = "as if the proximal operator, which is iterative, were exact"
    iterations = Bound(0.0, Kind.ESTIMATED, source)

    def weaker(bound: Bound) -> Bound:
        if bound.is_vacuous:
            return bound
        return derived(bound.value, (bound, iterations), f"{bound.source}, {source}")

    return LayerRate(
        weaker(result.rate),
        weaker(result.sensitivity),
        result.terms,
        weaker(result.averaged),
    )


def _notes(physics: Physics, is_iterative: bool) -> list[str]:
    notes = ["The rate is that of the step in exact arithmetic."]
    if is_iterative and isinstance(physics, LinearPhysics):
        notes.append(
            "It is that of the step with the exact proximal operator of the data "
            "fidelity, and so estimated: this physics solves it iteratively, to a "
            f"relative residual of {physics.tol:g}."
        )
    return notes
