"""Run random programs against the package::

    python -m tests.fuzz --cases 10000

Each case is a random fixed-point problem of known solution and gradient, or a random
order of calls of a model, with wrong input among them. It must end with a right answer
or with an error that this package raises. The first case that does neither is printed
with the number that reproduces it, ``--first NUMBER --cases 1``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from random import Random

import torch
from tqdm import tqdm

from .calls import call
from .outcomes import run
from .solves import solve


def case(number: int, outcomes: Counter[str]) -> None:
    """Run the program of a number."""
    draw = Random(f"fuzz {number}")
    torch.manual_seed(number)
    program = call if number % 4 == 0 else solve
    try:
        run(lambda: program(draw), outcomes)
    except Exception as error:
        raise RuntimeError(f"case {number}: {error}") from error


def main() -> None:
    """Run the cases and print how they ended."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10000)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    outcomes: Counter[str] = Counter()
    for number in tqdm(range(args.first, args.first + args.cases)):
        case(number, outcomes)
    for text, count in outcomes.most_common():
        print(f"{count:6d} {text}")


if __name__ == "__main__":
    main()
