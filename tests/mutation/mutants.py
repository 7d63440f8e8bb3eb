"""Small changes of a module's source, one at a time."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


@dataclass(frozen=True)
class Mutant:
    """A module in which one expression is changed."""

    path: Path
    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.path.as_posix()}: {self.before} -> {self.after}"


def mutants(root: Path, path: Path) -> Iterator[Mutant]:
    """Yield the mutants of the module at a path that is relative to a folder."""
    source = (root / path).read_text("utf-8")
    for node in _expressions(ast.parse(source)):
        for changed in _changes(node):
            before, after = ast.unparse(node), ast.unparse(changed)
            text = _replaced(source, node, f"({after})")
            yield Mutant(path, node.lineno, before, after, text)


def _expressions(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions that are computed. Types, names of decorators and messages
    of errors are not."""
    for name, field in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        for node in field if isinstance(field, list) else [field]:
            if not isinstance(node, ast.AST):
                continue
            if isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert):
                continue
            if isinstance(node, ast.If) and _is_for_types(node.test):
                continue
            if isinstance(node, ast.expr):
                yield node
            yield from _expressions(node)


def _is_for_types(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _changes(node: ast.expr) -> Iterator[ast.expr]:
    """Yield an expression with one operator, sign or constant changed."""
    changed = copy.deepcopy(node)
    if isinstance(changed, ast.Compare):
        for i, operator in enumerate(changed.ops):
            changed.ops[i] = _SWAPPED[type(operator)]()  # type: ignore[call-overload]
            yield changed
            changed.ops[i] = operator
    elif isinstance(changed, ast.BinOp | ast.BoolOp):
        swapped = _SWAPPED.get(type(changed.op))
        # A union of types looks like an operation on bits.
        if swapped is not None and not _has_type(changed):
            changed.op = swapped()  # type: ignore[assignment]
            yield changed
    elif isinstance(changed, ast.UnaryOp):
        if isinstance(changed.op, ast.Not | ast.USub | ast.Invert):
            yield changed.operand
    elif isinstance(changed, ast.IfExp):
        changed.body, changed.orelse = changed.orelse, changed.body
        yield changed
    elif isinstance(changed, ast.Constant):
        value = changed.value
        if isinstance(value, bool):
            yield ast.Constant(not value)
        elif isinstance(value, int | float):
            yield ast.Constant(value + 1)


def _has_type(node: ast.AST) -> bool:
    return any(
        (isinstance(part, ast.Constant) and part.value is None)
        or (isinstance(part, ast.Name) and part.id[:1].isupper())
        for part in ast.walk(node)
    )


def _replaced(source: str, node: ast.expr, text: str) -> str:
    """Return a source with other text in the place of a node, whose columns count
    bytes."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    lines = source.encode().splitlines(keepends=True)
    first, last = lines[node.lineno - 1], lines[node.end_lineno - 1]
    # As many lines as before, so that messages have the right numbers.
    blank = b"\n" * (node.end_lineno - node.lineno)
    middle = first[: node.col_offset] + text.encode() + last[node.end_col_offset :]
    lines[node.lineno - 1 : node.end_lineno] = [middle + blank]
    return b"".join(lines).decode()
