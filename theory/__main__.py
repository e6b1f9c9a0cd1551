"""Command line: ``python -m theory`` checks everything and writes the report.

Exit code 0: the report was written and no corrected statement or proof failed; 1: one did;
2: bad options.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from tabulate import tabulate
from tqdm import tqdm

from paper_repro.errors import UserError

__all__ = ["main"]

_HOME = Path(__file__).parent
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"theory: {message}\n")


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if not 2 <= value <= 100_000:
        raise argparse.ArgumentTypeError(
            f"an interval needs between 2 and 100000 runs, not {value}"
        )
    return value


def _natural(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a non-negative whole number")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m theory", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--fast", action="store_true", help="a small grid, for CI; writes to theory/out-fast"
    )
    parser.add_argument(
        "--seeds", type=_count, metavar="N", help="runs of each noisy cell of the grid"
    )
    parser.add_argument(
        "--seed", type=_natural, default=0, metavar="S", help="seed of every generator (default 0)"
    )
    parser.add_argument(
        "--networks",
        action="store_true",
        help="write the report's section on trained networks anew, from the committed measures, "
        "and nothing else (seconds)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for report.md, proofs.md and figures/"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the checks, write the report and print the summary.

    Args:
        arguments: the command line without the program's name; ``sys.argv`` by default.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    out = options.out or (_HOME / "out-fast" if options.fast else _HOME)
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        parser.error(f"cannot write to --out {out}: {error.strerror}")
    # The matrices are small: a second BLAS thread mostly waits, and on a busy machine it stalls.
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    # Imported here, so that --help and a bad option answer at once and the threads are set first.
    from theory.report import failed, refresh, summary, write
    from theory.results import Options, collect, stages

    if options.networks:
        try:
            print(refresh(out))
        except (ValueError, UserError) as error:
            parser.error(str(error))
        return 0

    chosen = Options(options.fast, options.seeds, options.seed)
    with tqdm(total=stages(chosen), unit="stage", file=sys.stderr) as bar:

        def advance(name: str) -> None:
            bar.update(bool(bar.postfix))
            bar.set_postfix_str(name)

        results = collect(chosen, advance)
        bar.update(1)
    path = write(results, out)
    headers, rows = summary(results)
    print(tabulate(rows, headers=headers, tablefmt="simple"))
    print(f"\n{path}")
    return 1 if failed(results) else 0


if __name__ == "__main__":
    sys.exit(main())
