"""The record of the long run, and the table of the documentation that shows it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

RECORD = Path(__file__).with_name("record.json")


@dataclass
class Counts:
    """
    How the cases of a property ended.

    :param chunks: chunks of cases that were run, from which a run is resumed.
    :param checked: cases in which the property holds.
    :param refused: cases that the package refused by a named error.
    :param void: cases that torch or deepinv cannot run; they do not count.
    :param violations: cases in which the property does not hold.
    """

    chunks: int = 0
    checked: int = 0
    refused: int = 0
    void: int = 0
    violations: int = 0

    @property
    def cases(self) -> int:
        """The cases that count."""
        return self.checked + self.refused + self.violations


@dataclass
class Record:
    """
    A long run.

    :param seed: seed of the run.
    :param wanted: number of cases asked for.
    :param properties: counts by property.
    :param violations: the first violations, in words.
    """

    seed: int
    wanted: int
    properties: dict[str, Counts] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """The cases that count."""
        return sum(counts.cases for counts in self.properties.values())

    @classmethod
    def load(cls, path: Path = RECORD) -> Record:
        """Read a record."""
        values = json.loads(path.read_text())
        counts = {k: Counts(**v) for k, v in values.pop("properties").items()}
        return cls(**values, properties=counts)

    def save(self, path: Path = RECORD) -> None:
        """Write the record, in one piece, and the table of the documentation."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=1) + "\n")
        part.replace(path)
        path.with_suffix(".rst").write_text(self.table())

    def table(self) -> str:
        """Return the table of the documentation."""
        rows = [("Property", "Checked", "Refused", "Violations")]
        counted = sorted(self.properties.items())
        rows += [
            (name.capitalize(), f"{c.checked:,}", f"{c.refused:,}", f"{c.violations:,}")
            for name, c in counted
        ]
        totals = [
            f"{sum(getattr(c, name) for _, c in counted):,}"
            for name in ("checked", "refused", "violations")
        ]
        rows.append(("All", *totals))
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 46 18 18 18", ""]
        for row in rows:
            lines += [
                f"   {'* -' if index == 0 else '  -'} {cell}"
                for index, cell in enumerate(row)
            ]
        return "\n".join(lines) + "\n"
