"""Draw the folders of a package and the imports between them.

The picture is made from the source at every build: the ``import`` statements of each
module are read with :mod:`ast`, counted by folder, and drawn with matplotlib, once for
light pages and once for dark ones.
"""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

COLOURS = {
    "light": {
        "box": "#eef4fa",
        "edge": "#3b6ea5",
        "name": "#14324f",
        "note": "#4a5a68",
    },
    "dark": {"box": "#1c2a38", "edge": "#6fa8dc", "name": "#e8f1fa", "note": "#b3c2d0"},
}
# Inches: a box, and the distances between the centres of two boxes and of two levels.
BOX = (2.6, 1.02)
PITCH = (3.0, 1.6)
LINE = 0.17  # between two lines of a box


@dataclass(frozen=True)
class Package:
    """The folders of a package and the imports between them."""

    modules: dict[str, int]
    """Number of modules in each folder, its subfolders included."""

    rooms: dict[str, list[str]]
    """Names of the subfolders of each folder."""

    imports: Counter[tuple[str, str]]
    """Number of names that the first folder imports from the second."""


def read(root: Path) -> Package:
    """Read the folders of a package and their imports; a module counts as a folder."""
    modules: dict[str, int] = {}
    imports: Counter[tuple[str, str]] = Counter()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        own = parts[0]
        if own == "__init__":  # re-exports of the whole package
            continue
        modules[own] = modules.get(own, 0) + (path.name != "__init__.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in _imported(node, (root.name, *parts[:-1])):
                if len(name) > 1 and name[0] == root.name and name[1] != own:
                    imports[own, name[1]] += 1
    rooms = {
        folder: sorted(p.parent.name for p in (root / folder).glob("*/__init__.py"))
        for folder in modules
    }
    return Package(modules, rooms, imports)


def _imported(node: ast.AST, package: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the absolute names of what a statement imports, split at the dots."""
    if isinstance(node, ast.Import):
        return [tuple(alias.name.split(".")) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else ()
        module = tuple(node.module.split(".")) if node.module else ()
        return [(*base, *module, alias.name) for alias in node.names]
    return []


def levels(package: Package) -> list[list[str]]:
    """Return the folders by level, from the lowest; each level imports lower ones.

    A folder stands just below the lowest of its importers. A folder that no other one
    imports stands above everything that it imports.
    """
    below = {folder: set[str]() for folder in package.modules}
    above = {folder: set[str]() for folder in package.modules}
    for user, used in package.imports:
        below[user].add(used)
        above[used].add(user)

    def height(folder: str) -> int:
        return 1 + max(map(height, below[folder]), default=-1)

    heights = {folder: height(folder) for folder in package.modules}
    for folder in sorted(heights, key=heights.__getitem__, reverse=True):
        if above[folder]:
            heights[folder] = min(heights[user] for user in above[folder]) - 1
    count = max(heights.values()) + 1
    return [[f for f in heights if heights[f] == level] for level in range(count)]


def arrows(package: Package) -> list[tuple[str, str]]:
    """Return the imports that do not follow from a chain of others."""
    pairs = set(package.imports)

    def reaches(user: str, used: str) -> bool:
        direct = (middle for first, middle in pairs if first == user)
        return any(m == used or reaches(m, used) for m in direct)

    return sorted(
        (user, used)
        for user, used in pairs
        if not any(
            first == user and middle != used and reaches(middle, used)
            for first, middle in pairs
        )
    )


def place(package: Package) -> dict[str, tuple[float, float]]:
    """Return the centre of each box: the order within levels with the best arrows."""
    rows, pairs = levels(package), arrows(package)
    best: tuple[float, dict[str, tuple[float, float]]] | None = None
    for orders in itertools.product(*map(itertools.permutations, rows)):
        centres = {
            folder: ((i - (len(row) - 1) / 2) * PITCH[0], level * PITCH[1])
            for level, row in enumerate(orders)
            for i, folder in enumerate(row)
        }
        cost = sum(_cost(centres, pair) for pair in pairs)
        if best is None or cost < best[0] - 1e-9:
            best = cost, centres
    assert best is not None
    return best[1]


def _cost(centres: dict[str, tuple[float, float]], pair: tuple[str, str]) -> float:
    """Return the horizontal length of an arrow, plus a fine for each box it crosses."""
    (x, y), (u, v) = (centres[folder] for folder in pair)
    crossed = 0
    for folder, (a, b) in centres.items():
        if folder not in pair and v < b < y:
            at = u + (x - u) * (b - v) / (y - v)
            crossed += abs(at - a) < BOX[0] / 2 + 0.1
    return abs(x - u) + 10 * crossed


def draw(package: Package, path: Path, theme: str) -> None:
    """Write the picture in the colours of a theme, ``"light"`` or ``"dark"``."""
    centres = place(package)
    xs, ys = zip(*centres.values(), strict=True)
    margin = (BOX[0] / 2 + 0.1, BOX[1] / 2 + 0.1)
    limits = [(min(v) - m, max(v) + m) for v, m in zip((xs, ys), margin, strict=True)]
    figure = Figure(figsize=[high - low for low, high in limits])
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=limits[0], ylim=limits[1])
    axes.set_axis_off()
    for user, used in arrows(package):
        _draw_arrow(axes, centres[user], centres[used], COLOURS[theme])
    for folder, centre in centres.items():
        _draw_box(axes, folder, package, centre, COLOURS[theme])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, transparent=True, metadata={"Date": None})


def _draw_arrow(
    axes: Axes,
    tail: tuple[float, float],
    head: tuple[float, float],
    colours: dict[str, str],
) -> None:
    """Draw an arrow between two boxes; its ends lean towards each other."""
    lean = max(-0.32, min(0.32, (head[0] - tail[0]) / PITCH[0] / 3)) * BOX[0]
    axes.add_patch(
        FancyArrowPatch(
            (tail[0] + lean, tail[1] - BOX[1] / 2),
            (head[0] - lean, head[1] + BOX[1] / 2),
            arrowstyle="-|>",
            mutation_scale=13,
            linewidth=1.3,
            color=colours["edge"],
            shrinkA=0,
            shrinkB=1,
        )
    )


def _draw_box(
    axes: Axes,
    folder: str,
    package: Package,
    centre: tuple[float, float],
    colours: dict[str, str],
) -> None:
    """Draw a folder: its name, the number of its modules, its subfolders."""
    x, y = centre
    count, rooms = package.modules[folder], package.rooms[folder]
    axes.add_patch(
        FancyBboxPatch(
            (x - BOX[0] / 2, y - BOX[1] / 2),
            *BOX,
            boxstyle="round,pad=0,rounding_size=0.1",
            linewidth=1.2,
            facecolor=colours["box"],
            edgecolor=colours["edge"],
        )
    )
    lines = _wrapped(rooms)
    modules = f"{count} module" + ("s" if count != 1 else "")
    middle = {"horizontalalignment": "center", "verticalalignment": "center"}
    top = y + LINE / 2 * (1.2 + len(lines))
    name = {"color": colours["name"], "fontsize": 12.5, "weight": "bold"}
    axes.text(x, top, folder, **name, **middle)
    for i, line in enumerate([modules, *lines]):
        height = top - LINE * (1.2 + i)
        axes.text(x, height, line, color=colours["note"], fontsize=8.8, **middle)


def _wrapped(rooms: list[str]) -> list[str]:
    """Return names in lines that fit a box."""
    lines: list[str] = []
    for room in rooms:
        if lines and len(lines[-1]) + len(room) < 36:
            lines[-1] += f" · {room}"
        else:
            lines.append(room)
    return lines
