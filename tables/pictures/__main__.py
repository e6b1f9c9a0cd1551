"""Draw the README's pictures: ``python -m tables.pictures --profile cpu``."""

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
from tables.pictures.step import draw

__all__ = ["main"]

_DOCS = Path(__file__).resolve().parents[2] / "docs"
_EVIDENCE, _METHOD = "evidence", "method"


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, write and say where; 1 if there are no records of evidence yet, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m tables.pictures", description=__doc__)
    parser.add_argument("--profile", default="cpu", help="whose evidence is drawn")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the records")
    parser.add_argument("--docs", type=Path, default=_DOCS, help="where to write")
    options = parser.parse_args(argv)
    try:
        size = profile(options.profile)
        if not size.evidence:
            raise UserError(
                f"the picture is of evidence, and the {size.name} profile is none; name another"
            )
        # Of the method itself, so no profile's cautions belong below it.
        _written(save(draw(), _METHOD, None, options.docs))
        drawn = dict(FIGURES.build(Spec("forest"), profile=size, records=Records(options.results)))
        if not drawn:
            print(f"There is no pair of runs of the {size.name} profile to draw yet.")
            return 1
        _written(save(drawn["forest"], _EVIDENCE, size, options.docs))
    except UserError as error:
        print(f"paper_repro: {error}", file=sys.stderr)
        return 2
    return 0


def _written(paths: Sequence[Path]) -> None:
    print("written: " + ", ".join(map(str, paths)))


if __name__ == "__main__":
    sys.exit(main())
