"""A certificate as plain data, and as LaTeX for a paper."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from .bounds import Bound
from .contraction_bounds import Contraction, LayerRate
from .convergence import Energy

Data = dict[str, Any]


def bound_data(bound: Bound) -> Data:
    """Return a bound as plain data. A bound that is not finite is ``None``, because
    JSON has no infinity; its source is the reason."""
    return {
        "value": bound.value if math.isfinite(bound.value) else None,
        "relation": bound.relation,
        "kind": str(bound.kind),
        "failure_probability": bound.delta,
        "point": bound.point,
        "source": bound.source,
    }


def contraction_data(contraction: Contraction) -> Data:
    """Return what is known of a contraction as plain data."""
    return {
        "proved": str(contraction.convergence),
        "rate": bound_data(contraction.rate),
        "norm": contraction.norm,
        "stability": bound_data(contraction.stability),
        "averaged": bound_data(contraction.averaged),
        "terms": [
            {"name": term.name, "symbol": term.symbol, "exact": term.exact}
            | bound_data(term.bound)
            for term in contraction.terms
        ],
        "layers": [_layer_data(layer) for layer in contraction.layers],
        "energy": _energy_data(contraction.energy),
        "notes": list(contraction.notes),
    }


def _layer_data(layer: LayerRate) -> Data:
    return {
        "rate": bound_data(layer.rate),
        "sensitivity": bound_data(layer.sensitivity),
    }


def _energy_data(energy: Energy | None) -> Data | None:
    if energy is None:
        return None
    names = ("convexity", "decrease", "value_after_steps", "value_of_residual")
    bounds = {name: bound_data(getattr(energy, name)) for name in names}
    return {"formula": energy.formula} | bounds


_GREEK = ("alpha", "beta", "gamma", "kappa", "lambda", "mu", "rho", "sigma", "tau")
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def latex_table(
    contraction: Contraction, caption: str, img_size: Sequence[int], version: str
) -> str:
    r"""
    Return the terms, the rate and the stability as a table of LaTeX.

    Each row has the quantity, its symbol, its value rounded to the safe side, and how
    well it is established. The table needs the package ``booktabs``.

    :param Contraction contraction: the contraction.
    :param str caption: what is certified, in words.
    :param Sequence img_size: size of the images.
    :param str version: version of this package.
    :return: the source of a ``table`` environment.
    """
    rows = [
        _row(
            term.name,
            _symbol(term.symbol),
            (
                f"= {_number(f'{term.bound.value:.6g}')}"
                if term.exact
                else _value(term.bound)
            ),
            "set" if term.exact else _basis(term.bound),
        )
        for term in contraction.terms
    ]
    ends = (
        ("contraction rate", r"\rho", contraction.rate),
        (
            "stability in the measurement",
            r"\mathrm{Lip}(x^\star)",
            contraction.stability,
        ),
    )
    rows.append(r"\midrule")
    rows += [_row(name, s, _value(bound), _basis(bound)) for name, s, bound in ends]
    size = r" \times ".join(str(side) for side in img_size)
    sentence = (
        f"{_text(caption)} for images of size ${size}$: {contraction.convergence}, "
        f"in the {_text(contraction.norm)} (deepinv\\_equilibrium {_text(version)})."
    )
    return "\n".join(
        (
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{sentence}}}",
            r"\begin{tabular}{llll}",
            r"\toprule",
            r"quantity & symbol & value & basis \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        )
    )


def _row(*cells: str) -> str:
    name, symbol, value, basis = cells
    shown = f"${value}$" if value else "none"
    return rf"{_text(name)} & ${symbol}$ & {shown} & {_text(basis)} \\"


def _basis(bound: Bound) -> str:
    return "not proved" if bound.is_vacuous and not bound.is_lower else bound.basis


def _value(bound: Bound) -> str:
    """Return a bound in six digits; empty if it is infinite."""
    if not math.isfinite(bound.value):
        return ""
    relation = {">=": r"\ge", "<=": r"\le", ">~": r"\gtrsim", "<~": r"\lesssim"}
    return f"{relation[bound.relation]} {_number(bound.rounded(6))}"


def _number(text: str) -> str:
    """Return a number with a power of ten in place of an exponent."""
    mantissa, _, exponent = text.partition("e")
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa


def _symbol(text: str) -> str:
    """Return a symbol of the report in LaTeX, such as ``||A||^2`` or ``tau_2``."""
    text = text.replace("||", r"\|")
    text = re.sub(r"_(\w+)", r"_{\1}", text)
    return re.sub(rf"\b({'|'.join(_GREEK)})(?![a-z])", r"\\\1", text)


def _text(words: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in words)
