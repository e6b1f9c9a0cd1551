"""The command line's arguments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from paper_repro.cli import measure
from paper_repro.cli.campaign import add_commands, path
from paper_repro.cli.executor import add_executor
from paper_repro.config import PRECISIONS
from paper_repro.engine import ENGINES
from paper_repro.errors import UserError
from paper_repro.experiment.profiles import PROFILES
from paper_repro.models import MODELS
from paper_repro.models.init import INITS
from paper_repro.optim import OPTIMIZERS
from paper_repro.registry import Scalar
from paper_repro.sparse import METHODS

__all__ = ["SETTINGS", "WHAT_A_RUN_IS", "assignment", "parser"]

#: Arguments of `run` that win over the profile's fields of the same name.
SETTINGS = ("epochs", "precision", "train_size", "init", "rho_start", "label_noise")

#: Arguments of `run` that are part of the run's config.
WHAT_A_RUN_IS = (
    *("profile", "method", "sparsity", "optimizer", "dataset", "seed", "multiplier", "model"),
    *SETTINGS,
    "option",
)


class _Parser(argparse.ArgumentParser):
    """One sentence for bad arguments, like for all other bad input, and no abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"paper_repro: {message}; see `{self.prog} --help`\n")


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Show the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default is False or action.default in (None, [])
        return action.help if silent else super()._get_help_string(action)


def parser() -> argparse.ArgumentParser:
    """The parser of every command; the command's name is left in ``command``."""
    top = _Parser(
        prog="paper_repro",
        description="Train sparse networks with S2-SAM and its rivals, and render the tables.",
        epilog="`paper_repro COMMAND --help` explains a command.",
    )
    commands = top.add_subparsers(required=True, metavar="command", dest="command")

    folders = _Parser(add_help=False)
    folders.add_argument("--runs", type=path, default=Path("runs"), help="checkpoints and weights")
    folders.add_argument("--results", type=path, default=Path("results"), help="records")
    sized = _Parser(add_help=False)
    sized.add_argument(
        "--profile", default="smoke", metavar="NAME", help=f"size: {', '.join(PROFILES)}"
    )
    training = _Parser(add_help=False)
    training.add_argument("--data", type=path, help="data folder, else PAPER_REPRO_DATA")
    training.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... or auto")
    training.add_argument("--compile", action="store_true", help="use torch.compile")
    training.add_argument(
        "--graph", action="store_true", help="replay each step as a CUDA graph (not on the CPU)"
    )
    training.add_argument(
        "--engine",
        default="auto",
        metavar="NAME",
        help=f"what computes a step, one of {', '.join(ENGINES)}: auto skips zeros where that pays",
    )
    training.add_argument(
        "--workers", type=int, help="processes that decode streamed images, instead of the device's"
    )
    training.add_argument(
        "--skip-broken", action="store_true", help="do without images that cannot be decoded"
    )
    training.add_argument(
        "--diagnostics", action="store_true", help="record perturbations, churn and sharpness"
    )

    run = commands.add_parser(
        "run",
        parents=[folders, sized, training],
        help="train one run",
        description="Train one run and write its record; go on with it if it was stopped.",
        epilog="Example: paper_repro run --method rigl --sparsity 0.9 --optimizer s2sam "
        "--option rho=0.1 --option distribution=erk",
    )
    run.add_argument(
        "--from-record",
        type=path,
        metavar="FILE",
        help="train the run of this record again, beside it, and compare; excludes all options "
        "that say what the run is",
    )
    run.add_argument(
        "--method", default="dense", metavar="NAME", help=f"one of {', '.join(METHODS)}"
    )
    run.add_argument("--sparsity", type=float, help="pruned fraction, in [0, 1)")
    run.add_argument(
        "--optimizer", default="s2sam", metavar="NAME", help=f"one of {', '.join(OPTIMIZERS)}"
    )
    run.add_argument(
        "--dataset", default="cifar10", metavar="NAME", help="the paper's, or what stands for it"
    )
    run.add_argument("--seed", type=int, default=0, help="of weights, data order and masks")
    length = run.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, help="instead of the profile's")
    length.add_argument(
        "--multiplier", type=float, default=1.0, help="of the epochs, as in RigL 5x or MEST 1.7x"
    )
    run.add_argument(
        "--model",
        metavar="NAME",
        help=f"instead of the data set's, one of {', '.join(MODELS)}; one of the paper's at the "
        "profile's size",
    )
    run.add_argument(
        "--precision", metavar="NAME", help=f"of the arithmetic, one of {', '.join(PRECISIONS)}"
    )
    run.add_argument("--train-size", type=int, help="use only so many training images")
    run.add_argument("--init", metavar="NAME", help=f"starting weights, {' or '.join(INITS)}")
    run.add_argument(
        "--rho-start", type=float, help="fraction of the training with ρ = 0 first (late phase)"
    )
    run.add_argument("--label-noise", type=float, help="fraction of training labels made wrong")
    run.add_argument("--threads", type=int, help="instead of the profile's")
    run.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the method or the optimizer, may be repeated",
    )

    many = commands.add_parser(
        "sweep",
        parents=[folders, sized, training],
        help="train what a table is missing",
        description="Train the runs of a table that have no record yet, several at once.",
    )
    many.add_argument("table", help="such as table1; an unknown one is answered with all")
    many.add_argument("--methods", nargs="+", default=[], help="only these")
    many.add_argument("--optimizers", nargs="+", default=[], help="only these")
    many.add_argument("--sparsities", nargs="+", type=float, default=[], help="only these")
    many.add_argument("--seeds", nargs="+", type=int, help="not the profile's")
    many.add_argument("--quiet", action="store_true", help="no word on what is no evidence")
    add_executor(many)

    show = commands.add_parser(
        "table",
        parents=[folders, sized],
        help="render a table",
        description="Render a table from the records: Markdown (shown too), LaTeX and CSV.",
    )
    show.add_argument("table", help="such as table1; an unknown one is answered with all")
    show.add_argument("--seeds", nargs="+", type=int, help="not the profile's")

    commands.add_parser(
        "status",
        parents=[folders],
        help="what is there",
        description="Show which records are there, which runs are under way, and what failed.",
    )
    measure.add_command(commands, folders, sized)
    add_commands(commands, folders, sized, training)
    for command in commands.choices.values():
        command.formatter_class = _Defaults
    return top


def assignment(text: str) -> tuple[str, Scalar]:
    """Name and value of an option ``name=value``: a number, true, false, none or a word."""
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise UserError(f"an option is written name=value, not {text!r}")
    for convert in (int, float):
        try:
            return name, convert(value)
        except ValueError:
            continue
    return name, {"true": True, "false": False, "none": None}.get(value.lower(), value)
