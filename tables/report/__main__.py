"""Write the report of a profile: ``python -m tables.report --profile smoke``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from paper_repro.errors import UserError
from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from paper_repro.files import write_text
from paper_repro.progress import bar, mend_output
from tables import TABLES
from tables.figures import FIGURES
from tables.report.browser import browser, print_page
from tables.report.page import page

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``report.html``, print it where a browser is there, say where; 2 for bad input."""
    mend_output()
    parser = argparse.ArgumentParser(prog="python -m tables.report", description=__doc__)
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the records")
    parser.add_argument("--out", type=Path, help="the page; <results>/<profile>/report.html")
    parser.add_argument("--no-pdf", action="store_true", help="do not print it")
    options = parser.parse_args(argv)
    try:
        size, records = profile(options.profile), Records(options.results)
        out = options.out or options.results / size.name / "report.html"
        with bar(total=len(TABLES) + len(FIGURES) + 1, unit="part", desc="report") as shown:

            def advance(part: str) -> None:
                shown.set_postfix_str(part, refresh=False)
                shown.update()

            html = page(size, records, out, advance)
        write_text(out, html)
        print(f"written: {out}")
        if options.no_pdf:
            return 0
        program = browser()
        if program is None:
            print("There is no Chromium here, so it was not printed; the page needs any browser.")
            return 0
        print_page(program, out, out.with_suffix(".pdf"))
        print(f"written: {out.with_suffix('.pdf')}")
    except UserError as error:
        print(f"paper_repro: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"paper_repro: {error.strerror or error}{where}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
