"""The command line as a function, for tests."""

from paper_repro.cli import arguments
from paper_repro.cli import main as cli
from paper_repro.cli import run as run_command

__all__ = ["RIGL", "config_of", "status_of"]

RIGL = ("run", "--method", "rigl", "--sparsity", "0.9", "--epochs", "1")


def status_of(*argv):
    try:
        return cli.main(argv)
    except SystemExit as end:
        return end.code


def config_of(*argv):
    return run_command._config(arguments.parser().parse_args(argv))
