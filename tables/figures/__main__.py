"""Draw the figures of a profile: ``python -m tables.figures --profile smoke``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from paper_repro.errors import UserError
from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables.figures import FIGURES
from tables.figures.style import save

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, write and say where; exit status 1 if there was nothing to draw, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m tables.figures", description=__doc__)
    parser.add_argument("names", nargs="*", help="families; all by default")
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args(argv)
    try:
        size, records = profile(options.profile), Records(options.results)
        folder = options.results / size.name / "figures"
        drawn = 0
        for family in options.names or FIGURES:
            before = drawn
            for name, figure in FIGURES.build(Spec(family), profile=size, records=records):
                print("written: " + ", ".join(map(str, save(figure, name, size, folder))))
                drawn += 1
            if drawn == before:
                print(f"{family}: nothing measured yet to draw")
    except UserError as error:
        print(f"paper_repro: {error}", file=sys.stderr)
        return 2
    if not drawn:
        print(
            f"There is nothing measured yet to draw for the {size.name} profile; "
            f"`make surfaces PROFILE={size.name}` trains what Figures 1 and 3 show."
        )
    return 0 if drawn else 1


if __name__ == "__main__":
    sys.exit(main())
