import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from workplaces import made_body, tiny, workplace

from paper_repro import progress
from paper_repro.cli import arguments
from paper_repro.cli import main as cli
from paper_repro.cli import run as run_command
from paper_repro.errors import UserError
from paper_repro.experiment.runs import execute
from paper_repro.experiment.sweep import Outcome
from paper_repro.files import exclusive
from paper_repro.train import Trainer

HERE = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty working folder, and the thread count put back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PAPER_REPRO_DATA", raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def status_of(*argv):
    try:
        return cli.main(argv)
    except SystemExit as end:
        return end.code


RIGL = ("run", "--method", "rigl", "--sparsity", "0.9", "--epochs", "1")


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
        (("sweep", "table1", "--sparsities", "0.42"), "no run of table1 fits that selection"),
        (("sweep", "table1", "--seeds", "-3"), "seed must be at least 0"),
    ],
)
def test_bad_input_is_one_clear_sentence_and_status_2(argv, said, capsys):
    Path("a-file").touch()
    assert status_of(*argv) == 2
    err = capsys.readouterr().err
    sentence = [line for line in err.splitlines() if "0/1 [" not in line]  # a bar at 0 of 1
    assert len(sentence) == 1 and sentence[0].startswith("paper_repro: ")
    assert said in sentence[0]
    assert not list(Path().glob("results/*/*.json"))


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


def test_run_trains_once_and_then_says_that_there_is_a_record(capsys, monkeypatch):
    assert status_of(*RIGL) == 0
    first = capsys.readouterr().out.splitlines()
    assert first[0] == "digits resnet_digits rigl 90.0% s2sam seed 0 (smoke)"
    (path,) = Path("results/smoke").glob("*.json")
    assert first[1] == f"fingerprint {path.stem}, record {path}"
    accuracy = json.loads(path.read_text())["accuracy"]["last"]
    assert first[-1].startswith(f"test accuracy {accuracy:.2f} % after the last epoch")
    assert "sparsity 90.0" in first[-1] and first[-1].endswith("images/s")
    monkeypatch.setattr(Trainer, "run_epoch", None)
    assert status_of(*RIGL) == 0
    again = capsys.readouterr().out.splitlines()
    assert again == [*first[:2], "It has a record already and is not trained again.", first[-1]]


@pytest.mark.slow
def test_run_translates_and_says_so_in_its_own_words(capsys):
    given = ["--dataset", "wmt14", "--optimizer", "s2sam", "--epochs", "2"]
    assert status_of("run", *given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "phrases transformer_toy dense 0.0% s2sam seed 0 (smoke)"
    assert re.match(r"test bleu \d+\.\d\d after the last epoch .* tokens/s$", lines[-1])
    (path,) = Path("results/smoke").glob("*.json")
    assert (Path("runs") / path.stem / "translations.tsv").exists()
    assert status_of("run", *given[:-1], "1") == 2  # two epochs are averaged
    assert "average is 2, but the training has 1 epochs" in capsys.readouterr().err


def test_a_sweep_trains_one_seed_of_everything_before_the_next(monkeypatch):
    asked = []
    monkeypatch.setattr(cli, "sweep", lambda wanted, *_: asked.extend(wanted) or Outcome())
    assert status_of("sweep", "table1", "--methods", "rigl", "mest", "--seeds", "7", "3") == 0
    seeds, methods = [c.seed for c in asked], [c.method.name for c in asked]
    half = len(asked) // 2
    assert seeds == [7] * half + [3] * half
    assert methods[:half] == methods[half:] and set(methods[:half]) == {"rigl", "mest"}


def test_a_run_that_diverges_is_said_and_ends_with_status_1(capsys):
    assert status_of(*RIGL, "--option", "rho=1e30") == 1
    assert "diverged: the training loss became" in capsys.readouterr().out


def test_a_run_that_breaks_is_recorded_as_failed(monkeypatch):
    def out_of_memory(self):
        raise RuntimeError("no memory left")

    monkeypatch.setattr(Trainer, "run_epoch", out_of_memory)
    with pytest.raises(RuntimeError, match="no memory left"):
        cli.main(RIGL)
    (path,) = Path("results/smoke").glob("*.json")
    record = json.loads(path.read_text())
    assert record["status"] == "failed" and record["reason"] == "RuntimeError: no memory left"


def test_a_damaged_record_and_a_damaged_checkpoint_end_with_status_2(capsys, monkeypatch):
    config = config_of(*RIGL)
    place = workplace(Path())
    place.records.path(config).parent.mkdir(parents=True)
    place.records.path(config).write_text("{")
    for command in (RIGL, ("sweep", "table1"), ("table", "table1"), ("status",)):
        if command[0] in ("sweep", "table"):  # which want the run at its full length
            full = config_of(*RIGL, "--epochs", "20", "--option", "distribution=uniform")
            place.records.path(full).write_text("{")
        assert status_of(*command) == 2
        assert "is not a run's record" in capsys.readouterr().err
    place.records.path(config).unlink()
    place.folder(config).mkdir(parents=True)
    (place.folder(config) / "checkpoint.pt").write_bytes(b"PK damaged")
    assert status_of(*RIGL) == 2
    assert "checkpoint.pt is damaged" in capsys.readouterr().err


def test_two_runs_at_once_in_one_folder_end_with_status_2(capsys):
    config = config_of(*RIGL)
    with exclusive(workplace(Path()).folder(config)):
        assert status_of(*RIGL) == 2
    assert f"another process (pid {os.getpid()}) is training in" in capsys.readouterr().err


def config_of(*argv):
    return run_command._config(arguments.parser().parse_args(argv))


def test_options_reach_the_method_and_the_optimizer():
    config = config_of(*RIGL, "--option", "delta_t=7", "--option", "rho=1", "--seed", "4")
    assert config.method["delta_t"] == 7 and config.optimizer["rho"] == 1.0
    assert (config.seed, config.epochs, config.method["sparsity"]) == (4, 1, 0.9)
    none = config_of(*RIGL, "--optimizer", "sam", "--option", "adaptive=true")
    assert none.optimizer["adaptive"] is True


def test_a_training_is_lengthened_by_a_multiplier():
    longer = ("run", "--method", "mest", "--sparsity", "0.9", "--multiplier", "1.7")
    assert config_of(*longer).epochs == 34  # of 20
    assert config_of(*longer, "--profile", "paper").epochs == 272
    assert config_of(*longer[:-2]) == config_of(*longer[:-1], "1")


def test_the_precision_is_the_profiles_or_the_one_asked_for():
    dense = ("run", "--profile")
    assert config_of(*dense, "paper").precision == "tf32"
    assert config_of(*dense, "paper", "--precision", "bf16").precision == "bf16"
    with pytest.raises(UserError, match="unknown precision 'fp8'; known are float32, tf32, bf16"):
        config_of(*dense, "paper", "--precision", "fp8")


def test_a_sparsity_is_reached_by_as_many_rounds_as_the_ratio_takes():
    def rounds(*more):
        method = config_of("run", "--method", "lt", *more).method
        return method["round"], method["prune_ratio"], method["sparsity"]

    target = ("--sparsity", "0.9")
    assert rounds(*target) == (4, 0.5, 0.9)  # the smoke profile prunes half a round
    assert rounds(*target, "--option", "prune_ratio=0.2") == (11, 0.2, 0.9)
    assert rounds(*target, "--option", "round=5") == (5, 0.5, 0.9)
    assert rounds("--option", "round=5") == (5, 0.5, None)


def test_no_sparsity_at_all_is_dense_training():
    assert config_of("run", "--method", "lt", "--sparsity", "0").method.name == "dense"
    assert config_of("run").method.name == "dense"


def test_help_says_what_there_is(capsys):
    assert status_of("run", "--help") == 0
    shown = capsys.readouterr().out
    assert "rigl" in shown and "s2sam" in shown and "[0, 1)" in shown and "Example:" in shown
    assert "==SUPPRESS==" not in shown and "(default: None)" not in shown


def test_status_shows_records_tables_runs_under_way_and_failures(capsys):
    place = workplace(Path())
    for seed, status in enumerate(("finished", "finished", "diverged", "failed")):
        body = {**made_body(), "reason": f"reason {seed}\nand more"}
        place.records.write(tiny(seed=seed), status, body)

    def stop(config, epoch):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(tiny(seed=7), place, stop)
    killed_early = place.folder(tiny(seed=8))
    killed_early.mkdir()
    for name in ("lock", "checkpoint.pt"):  # and no log yet
        (killed_early / name).touch()
    done = place.folder(tiny(seed=0))  # killed between its record and the checkpoint's removal
    done.mkdir()
    for name in ("lock", "checkpoint.pt"):
        (done / name).touch()
    with exclusive(place.folder(tiny(seed=9))):
        assert status_of("status") == 0
    shown = capsys.readouterr().out
    lines = {line.split("  ")[0]: line.split() for line in shown.splitlines()}
    assert lines["smoke"] == ["smoke", "2", "1", "1"]
    assert lines["table1"][:4] == ["table1", "0", "of", "100"]
    interrupted = " ".join(lines[tiny(seed=7).fingerprint])
    assert f"1 of 2 epochs interrupted {tiny(seed=7)}" in interrupted
    assert "0 of ? epochs interrupted" in " ".join(lines[tiny(seed=8).fingerprint])
    assert f"training (pid {os.getpid()})" in " ".join(lines[tiny(seed=9).fingerprint])
    assert tiny(seed=0).fingerprint not in shown
    assert lines[tiny(seed=2).fingerprint][-2:] == ["reason", "2"]
    assert lines[tiny(seed=3).fingerprint][1] == "failed" and "and more" not in shown


def test_status_counts_the_runs_of_a_table(capsys):
    config = config_of(*RIGL, "--epochs", "20", "--option", "distribution=uniform")
    place = workplace(Path())
    place.records.write(config, "finished", made_body())
    assert status_of("status") == 0
    shown = capsys.readouterr().out
    assert "1 of 100" in shown and "claims" not in shown  # which wants no runs of its own


def test_status_shows_the_rest_beside_a_damaged_record(capsys):
    place = workplace(Path())
    for seed in (0, 1):
        place.records.write(tiny(seed=seed), "finished", made_body())
    place.records.path(tiny()).write_text("{")
    assert status_of("status") == 2
    out, err = capsys.readouterr()
    assert "smoke      1" in out
    assert err.count("\n") == 1 and tiny().fingerprint in err


def test_table_writes_three_files_and_shows_the_first(capsys):
    assert status_of("table", "table1", "--seeds", "5", "5") == 0
    shown = capsys.readouterr().out
    folder = Path("results/smoke/tables")
    assert {p.name for p in folder.iterdir()} == {
        f"table1.{kind}" for kind in ("md", "tex", "csv", "runs.csv")
    }
    assert (folder / "table1.md").read_text() in shown
    assert "0 of 50 runs have a record" in shown  # one seed, though it was named twice


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def test_a_bar_in_a_log_is_a_few_whole_lines(monkeypatch):
    stream = Stream(terminal=False)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.bar(total=5000, desc="sweep", unit="epoch") as bar:
        for i in range(5000):
            bar.set_postfix_str(str(i), refresh=False)
            bar.update()
    text = stream.getvalue()
    assert "\r" not in text and text.endswith("\n")
    assert 2 <= len(text.splitlines()) <= 3 and "5000/5000" in text.splitlines()[-1]
    assert all(line.startswith("sweep: ") for line in text.splitlines())


def test_a_bar_in_a_log_reports_now_and_then(monkeypatch):
    monkeypatch.setattr(progress, "_LOG_INTERVAL", 0.0)
    stream = Stream(terminal=False)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.bar(total=30) as bar:
        for _ in range(30):
            bar.update()
    assert len(stream.getvalue().splitlines()) >= 30


def test_a_bar_on_a_terminal_moves(monkeypatch):
    stream = Stream(terminal=True)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.bar(total=3) as bar:
        bar.update(3)
    assert "\r" in stream.getvalue()
