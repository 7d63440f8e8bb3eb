"""
The long run: ``python -m tests.attack --cases 50000 --seed 0``.

The counts are written to ``tests/attack/record.json`` after every chunk of cases. An
interrupted run with the same arguments goes on where it was, and a complete one with
the properties that are newer than its record. ``--only NAME`` runs the cases of one
property and writes no record.
"""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from pathlib import Path

import torch
from tqdm import tqdm

from .attacks import ATTACKS
from .cases import Attack, outcome, run_cases
from .draws import Draw
from .record import RECORD, Counts, Record

CHUNK = 50
SHOWN = 200


def run_chunk(attack: Attack, counts: Counts, record: Record) -> None:
    """Run the next cases of a property and count how they end."""
    number = zlib.crc32(f"{record.seed} {attack.name} {counts.chunks}".encode())

    def case(draw: Draw) -> None:
        try:
            name = outcome(attack, draw)
        except Exception as error:  # noqa: BLE001, every error is a violation
            name = "violations"
            text = f"{attack.name} (chunk {counts.chunks}): {error!r}"
            if len(record.violations) < SHOWN:
                record.violations.append(text[:1500])
        setattr(counts, name, getattr(counts, name) + 1)

    run_cases(attack, CHUNK, number, case)
    counts.chunks += 1


def most_behind(attacks: dict[str, Attack], record: Record) -> Attack | None:
    """Return the property whose count is farthest behind its share of the cases, or
    ``None`` if all have theirs."""
    cases_of_a_share = record.wanted / sum(attack.share for attack in attacks.values())

    def progress(attack: Attack) -> float:
        return record.properties[attack.name].cases / attack.share

    attack = min(attacks.values(), key=progress)
    return attack if progress(attack) < cases_of_a_share else None


def main() -> int:
    """Run the attack; the exit status is 1 if there is a violation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a part of the name of a property")
    parser.add_argument("--record", type=Path, default=RECORD)
    options = parser.parse_args()
    torch.set_num_threads(1)
    attacks = {k: v for k, v in ATTACKS.items() if options.only in k}
    record = Record(options.seed, options.cases)
    if options.record.exists() and not options.only:
        known = Record.load(options.record)
        if (known.seed, known.wanted) == (options.seed, options.cases):
            record = known
    for name in attacks:
        record.properties.setdefault(name, Counts())
    started = time.process_time()
    with tqdm(total=options.cases, initial=record.cases, unit=" cases") as bar:
        while (attack := most_behind(attacks, record)) is not None:
            run_chunk(attack, record.properties[attack.name], record)
            if not options.only:
                record.save(options.record)
            bar.update(record.cases - bar.n)
            bar.set_postfix_str(f"{len(record.violations)} violations, {attack.name}")
    for violation in record.violations:
        print(violation)
    print(record.table())
    print(f"{record.cases} cases, {time.process_time() - started:.0f} s on a core")
    return 1 if record.violations else 0


if __name__ == "__main__":
    sys.exit(main())
