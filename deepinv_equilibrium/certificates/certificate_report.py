"""The printed report of a certificate."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from .bounds import Bound
from .contraction_bounds import Contraction, Term, steps_to
from .convergence import Convergence, Energy

WIDTH = 80
FACTOR = 1e-6


def report(title: str, contraction: Contraction, operator: str, version: str) -> str:
    r"""
    Return the report of a contraction: the terms with their kinds and sources, what is
    proved, the rate and its norm, the consequences and the assumptions. The report
    calls only proved bounds certified.

    :param str title: the first line.
    :param Contraction contraction: the contraction.
    :param str operator: the operator for which it holds.
    :param str version: version of the package, printed in the last line.
    :return: lines of at most 80 characters.
    """
    lines = [
        title,
        "=" * WIDTH,
        *_table(contraction.terms),
        "-" * WIDTH,
        *_wrapped("proved", _PROVED[contraction.convergence]),
        *_wrapped("rate", rate_text(contraction.rate)),
        *_wrapped("norm", contraction.norm),
        *_consequences(contraction),
        *_energy(contraction.energy),
        "-" * WIDTH,
    ]
    for note in contraction.notes:
        lines += _wrapped("note", note)
    lines += _wrapped(
        "holds for", f"these weights, step sizes and {operator}, this image size only"
    )
    lines.append(f"deepinv_equilibrium {version}")
    return "\n".join(lines)


_PROVED = {
    Convergence.CONTRACTS: (
        "contracts: there is exactly one fixed point, and the plain iteration "
        "converges to it at the rate below"
    ),
    Convergence.CONVERGES: (
        "converges: the step is averaged, and the plain iteration converges to a fixed "
        "point if there is one; no rate, and there may be several fixed points"
    ),
    Convergence.DECREASES: (
        "decreases: each plain step decreases the energy below, and every limit point "
        "of the iterates is a critical point of it, not necessarily a minimiser"
    ),
    Convergence.UNPROVED: "no contraction, convergence or decrease",
}


def _energy(energy: Energy | None) -> Iterator[str]:
    """Return what is proved of an energy F."""
    if energy is None or not (energy.decreases or energy.is_convex):
        return
    shape = "not proved to be convex"
    if energy.is_strongly_convex:
        curvature = energy.convexity.rounded(6)
        shape = f"strongly convex (curvature >= {curvature}), with one minimiser"
    elif energy.is_convex:
        shape = "convex: every fixed point is a minimiser"
    yield from _wrapped("energy", f"F = {energy.formula} is {shape}")
    if energy.decreases:
        slope = _inequality(energy.decrease)
        text = f"F(x) - F(T(x)) {slope} ||T(x) - x||^2 ({energy.decrease.basis})"
        yield from _wrapped("decrease", text)
    distance, text = energy.value_of_residual, "F(T(x)) - min F {} ||T(x) - x||^2"
    if not energy.is_strongly_convex:
        distance, text = (
            energy.value_after_steps,
            "F(x_k) - min F {} ||x_0 - x*||^2 / k",
        )
    if not distance.is_vacuous:
        text = text.format(_inequality(distance))
        yield from _wrapped("value", f"{text} ({distance.basis})")


def rate_text(rate: Bound) -> str:
    """Return a rate in one line."""
    if rate.is_vacuous:
        return f"not certified: {rate.source}"
    text = f"rho {_inequality(rate)} ({rate.basis}: {rate.source})"
    return f"no contraction is proved: {text}" if rate.value >= 1 else text


def _table(terms: tuple[Term, ...]) -> Iterator[str]:
    for term in terms:
        value, basis = _cells(term)
        yield from _wrapped(term.symbol, f"{value}  {term.name}{basis}")


def _cells(term: Term) -> tuple[str, str]:
    """Return the value of a term, and the text behind its name."""
    bound = term.bound
    if term.exact:
        return f"= {bound.value:.6g}", ""
    if bound.is_vacuous and not bound.is_lower:
        return "not certified", f": {bound.source}"
    source = f": {bound.source}" if bound.source else ""
    return _inequality(bound), f" ({bound.basis}{source})"


def _consequences(contraction: Contraction) -> Iterator[str]:
    rate, layers = contraction.rate, contraction.layers
    if len(layers) > 1:
        text = f"the rate is that of a block of {len(layers)} layers, which is one step"
        if not rate.is_vacuous:
            each = ", ".join(_rounded(layer.rate) for layer in layers)
            mean = rate.value ** (1 / len(layers))
            text += f"; of the layers: {each} (geometric mean {mean:.6g})"
        yield from _wrapped("layers", text)
    contracts = rate.value < 1
    if contracts:
        yield from _wrapped(
            "steps",
            f"{steps_to(rate.value, FACTOR)} steps bring the distance to the fixed "
            f"point to {FACTOR:g} of what it was ({rate.kind})",
        )
    stability = contraction.stability
    if not stability.is_vacuous:
        yield from _wrapped(
            "stability",
            f"||x(y1) - x(y2)|| {_inequality(stability)} ||y1 - y2|| "
            f"({stability.basis})",
        )
    elif contracts:
        yield from _wrapped("stability", f"not certified: {stability.source}")


def _inequality(bound: Bound) -> str:
    return f"{bound.relation} {_rounded(bound)}"


def _rounded(bound: Bound) -> str:
    """Return six digits, rounded outward. A value below 1 that would be rounded to 1
    has more digits, because 1 would not be a contraction."""
    for digits in (6, 9, 12):
        text = bound.rounded(digits)
        if not (text == "1" and bound.value < 1):
            break
    return text


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{label:<11s}",
        subsequent_indent=" " * 11,
        break_long_words=False,
    )
