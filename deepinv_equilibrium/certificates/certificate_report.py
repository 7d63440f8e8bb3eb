"""The printed report of a certificate."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from .bounds import Bound
from .contraction_bounds import Contraction, Term, steps_to

WIDTH = 80
FACTOR = 1e-6


def report(title: str, contraction: Contraction, version: str) -> str:
    r"""
    Return the report of a contraction: the terms with their kinds and sources, the rate
    and its norm, the consequences and the assumptions. The report calls only proved
    bounds certified.

    :param str title: the first line.
    :param Contraction contraction: the contraction.
    :param str version: version of the package, printed in the last line.
    :return: lines of at most 80 characters.
    """
    lines = [
        title,
        "=" * WIDTH,
        *_table(contraction.terms),
        "-" * WIDTH,
        *_wrapped("rate", rate_text(contraction.rate)),
        *_wrapped("norm", contraction.norm),
        *_consequences(contraction),
        "-" * WIDTH,
    ]
    for note in contraction.notes:
        lines += _wrapped("note", note)
    lines += _wrapped(
        "holds for", "these weights, step sizes and operator, and this image size only"
    )
    lines.append(f"deepinv_equilibrium {version}")
    return "\n".join(lines)


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
