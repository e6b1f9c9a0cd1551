"""Bad input, interrupts and help: what any command does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import RIGL, status_of

from paper_repro.train import Trainer

HERE = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "the following arguments are required: command"),
        (("fly",), "invalid choice: 'fly'"),
        (("run", "--sparsity", "high"), "invalid float value: 'high'"),
        (("run", "--epoch", "3"), "unrecognized arguments: --epoch 3"),
        (("sweep",), "the following arguments are required: table"),
        ((*RIGL, "--multiplier", "2"), "--multiplier: not allowed with argument --epochs"),
        (("run", "--multiplier", "-1"), "multiplier must be a number above 0, not -1.0"),
        (("run", "--method", "nope"), "unknown sparse method 'nope'; known are chase, chex"),
        (("run", "--optimizer", "nope"), "unknown optimizer 'nope'; known are"),
        (("run", "--profile", "huge"), "unknown profile 'huge'; known are smoke, cpu, "),
        (
            ("run", "--profile", "cpu-bf16-12", "--dataset", "imagenet"),
            "nothing that stands for 'imagenet'; it has cifar10",
        ),
        (("run", "--method", "rigl", "--sparsity", "1"), "sparsity must be at least 0 and below"),
        (("run", "--method", "lt", "--sparsity", "1"), "sparsity must be at least 0 and below"),
        (("run", "--method", "set", "--sparsity", "-0.1"), "sparsity must be at least 0"),
        (("run", "--method", "rigl", "--sparsity", "nan"), "must be finite, not nan"),
        (("run", "--method", "rigl"), "the method 'rigl' needs a --sparsity"),
        (("run", "--method", "lt"), "the method 'lt' needs a --sparsity"),
        (("run", "--sparsity", "0.5"), "the method 'dense' has no sparsity to set"),
        ((*RIGL, "--option", "sparsity=0.5"), "the sparsity is given twice"),
        ((*RIGL, "--option", "colour=red"), "neither rigl nor s2sam has an option 'colour'"),
        ((*RIGL, "--option", "rho"), "an option is written name=value, not 'rho'"),
        ((*RIGL, "--option", "rho=wide"), "rho of optimizer 's2sam' must be a number"),
        ((*RIGL, "--option", "rho=nan"), "must be finite, not nan"),
        ((*RIGL, "--optimizer", "sam", "--option", "rho=-1"), "rho must be a finite number >= 0"),
        ((*RIGL, "--init", "zeros"), "unknown init 'zeros'; known are fan_in, released"),
        ((*RIGL, "--rho-start", "2"), "rho_start must lie in [0, 1]"),
        ((*RIGL, "--optimizer", "sgd", "--rho-start", "0.5"), "sgd has no rho"),
        ((*RIGL, "--option", "distribution=even"), "unknown distribution 'even'"),
        ((*RIGL, "--device", "cuda:99"), "the device 'cuda:99' cannot be used"),
        ((*RIGL, "--device", "meta"), "the device 'meta' cannot be used"),
        ((*RIGL, "--device", "abacus"), "the device 'abacus' cannot be used"),
        ((*RIGL, "--data", "nowhere"), "the data folder nowhere does not exist"),
        ((*RIGL, "--threads", "0"), "threads must be at least 1, not 0"),
        ((*RIGL, "--epochs", "0"), "epochs must be at least 1, not 0"),
        ((*RIGL, "--seed", "-1"), "seed must be at least 0"),
        ((*RIGL, "--results", "a-file"), "a-file is a file, not a folder"),
        ((*RIGL, "--results", "a-file/b"), "a-file/b cannot be made: Not a directory"),
        (("run", "--method", "lt", "--sparsity", "0.5", "--option", "prune_ratio=2"), "between 0"),
        (("sweep", "table99"), "unknown table 'table99'; known are"),
        (("table", "table99"), "unknown table 'table99'; known are"),
        (("sweep", "table1", "--jobs", "0"), "jobs must be at least 1, not 0"),
        (("sweep", "table1", "--methods", "nope"), "unknown sparse method 'nope'"),
        (("sweep", "table1", "--optimizers", "nope"), "unknown optimizer 'nope'"),
        (("sweep", "table1", "--sparsities", "0.42"), "at the smoke profile has the sparsity 0.42"),
        (
            ("sweep", "table1", "--methods", "mest", "chex", "--sparsities", "0.9"),
            "no run of table1 at the smoke profile has the method chex",
        ),
        (("sweep", "table1", "--optimizers", "sgd", "sam", "msam"), "the optimizer sam or msam"),
        (
            ("sweep", "table2", "--methods", "dense", "--sparsities", "0.9"),
            "no run of table2 fits that selection",
        ),
        (("sweep", "claims"), "claims wants no runs at the smoke profile"),
        (
            ("sweep", "table2", "--profile", "cpu-bf16-12"),
            "table2 wants no runs at the cpu-bf16-12 profile",
        ),
        (("campaign", "--minutes", "1e30"), "minutes must be a number above 0, at most 1000000"),
        ((*RIGL, "--graph", "--device", "cpu:0"), "--graph replays steps on a GPU"),
        ((*RIGL, "--results", "full"), "nothing can be written to full/smoke"),
        (("run", "--method", "lt", "--option", "round=0"), "numbered from 1, not 0"),
        (
            ("run", "--method", "lrr", "--option", "round=2", "--option", "prune_ratio=1.5"),
            "prune_ratio must lie between 0 and 1, not 1.5",
        ),
        (("sweep", "table1", "--seeds", "-3"), "seed must be at least 0"),
    ],
)
def test_bad_input_is_one_clear_sentence_and_status_2(argv, said, capsys):
    Path("a-file").touch()
    Path("full").mkdir()
    Path("full/smoke").touch()
    assert status_of(*argv) == 2
    out, err = capsys.readouterr()
    (sentence,) = err.splitlines()
    assert sentence.startswith("paper_repro: ") and said in sentence
    assert not out, "said before the input was found to be bad"
    assert not list(Path().glob("results/*/*.json")) and not list(Path().rglob("*.pt"))


def test_data_that_is_missing_names_the_folder(capsys, monkeypatch):
    monkeypatch.setenv("PAPER_REPRO_DATA", "no-such-folder")
    for command in (("run",), ("sweep", "table1")):
        assert status_of(*command, "--profile", "cpu") == 2
        assert "no-such-folder" in capsys.readouterr().err


def test_bad_input_ends_a_real_command_with_status_2_and_no_traceback():
    ran = subprocess.run(
        [sys.executable, "-m", "paper_repro", "run", "--method", "rigl", "--sparsity", "1.5"],
        cwd=HERE,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2 and ran.stdout == ""
    assert ran.stderr == "paper_repro: sparsity must be at least 0 and below 1, not 1.5\n"


def test_a_reader_that_goes_away_is_no_error():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "paper_repro", "status"]
    # Buffered, as it is by default: the pipe is found broken at the very end.
    usual = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    ran = subprocess.run(
        command, cwd=HERE, env=usual, stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert ran.returncode == 0 and ran.stderr == ""


def test_ctrl_c_is_one_line_and_status_130(capsys, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run_epoch", interrupt)
    assert status_of(*RIGL) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("paper_repro: stopped; the same")


def test_help_says_what_there_is(capsys):
    assert status_of("run", "--help") == 0
    shown = capsys.readouterr().out
    assert "rigl" in shown and "s2sam" in shown and "[0, 1)" in shown and "Example:" in shown
    assert "==SUPPRESS==" not in shown and "(default: None)" not in shown


@pytest.mark.parametrize("command", ["run", "sweep", "table", "measure", "campaign", "export"])
def test_every_commands_help_shows_its_defaults(command, capsys):
    assert status_of(command, "--help") == 0
    assert "(default: results)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize("table", ["table1", "table5"])
def test_make_names_a_number_of_processes_only_where_asked(table):
    def shown(*given):
        usual = {k: v for k, v in os.environ.items() if k not in ("JOBS", "MAKEFLAGS")}
        command = ["make", "-n", table, "VENV=", *given]
        return subprocess.run(
            command, cwd=HERE, env=usual, capture_output=True, text=True, check=True
        ).stdout

    assert f"sweep {table}" in shown() and "--jobs" not in shown()
    assert "--jobs 3 " in shown("JOBS=3")
