"""The printed report of a certificate."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import TYPE_CHECKING

from .bounds import Bound, Kind
from .contraction_bounds import Term

if TYPE_CHECKING:
    from .certificate import Certificate


WIDTH = 80
FACTOR = 1e-6


def report(certificate: Certificate) -> str:
    r"""
    :param Certificate certificate: the certificate.
    :return: its report: what it is of, the terms with their kinds and sources, the rate
        and its norm, what follows, and what is assumed. Only what is proved is called
        certified.
    """
    size = " x ".join(map(str, certificate.img_size))
    lines = [
        f"Contraction of {certificate.model} with {certificate.physics}, images "
        f"{size}",
        "=" * WIDTH,
        *_table(certificate.terms),
        "-" * WIDTH,
        *_wrapped("rate", rate_text(certificate)),
        *_wrapped("norm", certificate.norm),
        *_consequences(certificate),
        "-" * WIDTH,
    ]
    for note in certificate.contraction.notes:
        lines += _wrapped("note", note)
    lines += _wrapped(
        "holds for", "these weights, step sizes and operator, and this image size only"
    )
    lines.append(f"deepinv_equilibrium {certificate.version}")
    return "\n".join(lines)


def rate_text(certificate: Certificate) -> str:
    """The rate in one line."""
    rate = certificate.rate
    if rate.is_vacuous:
        return f"not certified: {rate.source}"
    if rate.value >= 1:
        return f"no contraction is proved: rho {_bound_text(rate)}"
    return f"rho {_bound_text(rate)}"


def _table(terms: tuple[Term, ...]) -> Iterator[str]:
    for term in terms:
        yield from _wrapped(term.symbol, f"{_value(term)}  {term.name}{_basis(term)}")


def _value(term: Term) -> str:
    bound = term.bound
    if term.exact:
        return f"= {bound.value:.6g}"
    if bound.is_vacuous and not bound.is_lower:
        return "not certified"
    return f"{_relation(bound)} {_rounded(bound)}"


def _basis(term: Term) -> str:
    bound = term.bound
    if term.exact:
        return ""
    if bound.is_vacuous and not bound.is_lower:
        return f": {bound.source}"
    return f" ({_kind(bound)}{': ' if bound.source else ''}{bound.source})"


def _consequences(certificate: Certificate) -> Iterator[str]:
    rate, layers = certificate.rate, certificate.contraction.layers
    if len(layers) > 1:
        text = f"the rate is that of a block of {len(layers)} layers, which is one step"
        if not rate.is_vacuous:
            each = ", ".join(_rounded(layer.rate) for layer in layers)
            mean = rate.value ** (1 / len(layers))
            text += f"; of the layers: {each} (geometric mean {mean:.6g})"
        yield from _wrapped("layers", text)
    contracts = rate.value < 1
    if contracts:
        steps = certificate.steps_to(FACTOR)
        yield from _wrapped(
            "steps",
            f"{steps} steps bring the distance to the fixed point to {FACTOR:g} of "
            f"what it was ({rate.kind})",
        )
    stability = certificate.stability
    if not stability.is_vacuous:
        yield from _wrapped(
            "stability",
            f"||x(y1) - x(y2)|| {_relation(stability)} {_rounded(stability)} "
            f"||y1 - y2|| ({_kind(stability)})",
        )
    elif contracts:
        yield from _wrapped("stability", f"not certified: {stability.source}")


def _bound_text(bound: Bound) -> str:
    return f"{_relation(bound)} {_rounded(bound)} ({_kind(bound)}: {bound.source})"


def _rounded(bound: Bound) -> str:
    """Six digits, on the safe side; more where they would hide that it is below 1."""
    rounding = ROUND_FLOOR if bound.is_lower else ROUND_CEILING
    for digits in (6, 9, 12):
        context = Context(prec=digits, rounding=rounding)
        shown = context.create_decimal_from_float(bound.value)
        if not (shown == 1 and bound.value < 1):
            break
    return f"{float(shown):.{digits}g}"


def _relation(bound: Bound) -> str:
    return (">" if bound.is_lower else "<") + ("=" if bound.is_certified else "~")


def _kind(bound: Bound) -> str:
    text = str(bound.kind)
    if bound.kind is not Kind.CERTIFIED and bound.delta:
        text += f" with failure probability {bound.delta:g}"
    return text + (f" at {bound.point}" if bound.point else "")


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{label:<11s}",
        subsequent_indent=" " * 11,
        break_long_words=False,
    )
