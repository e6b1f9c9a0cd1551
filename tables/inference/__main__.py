"""Write the page of the simulation study: ``python -m tables.inference``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from paper_repro.files import write_text
from tables.inference.page import page

_PAGE = Path(__file__).resolve().parents[2] / "results" / "claims-study.md"


def main(argv: Sequence[str] | None = None) -> None:
    """Simulate, write and say where."""
    parser = argparse.ArgumentParser(prog="python -m tables.inference", description=__doc__)
    parser.add_argument("--experiments", type=int, default=10_000, help="histories a scenario")
    parser.add_argument("--page", type=Path, default=_PAGE, help="where to write")
    options = parser.parse_args(argv)
    if options.experiments < 100:
        parser.exit(2, f"at least 100 experiments are needed, not {options.experiments}\n")
    write_text(options.page, page(options.experiments))
    print(f"written: {options.page}")


if __name__ == "__main__":
    main()
