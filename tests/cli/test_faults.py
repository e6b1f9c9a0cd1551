"""Faults of the machine and nonsense for input: a sentence each, and nothing lost."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from workplaces import made_body, tiny

from benchmarks import __main__ as bench
from paper_repro.cli import main as cli
from paper_repro.errors import UserError
from paper_repro.experiment.records import Records, read
from paper_repro.experiment.runs import Workplace, attempt, execute
from paper_repro.files import check_target, load_tensors, save_tensors
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS
from paper_repro.sparse.lt import spec_reaching
from paper_repro.train import Trainer

RUN = ("run", "--method", "rigl", "--sparsity", "0.9", "--epochs", "1", "--device", "cpu")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path):
    """The working folder, see conftest.py."""
    return tmp_path


def said(capsys, *argv):
    """The one sentence with which a command ends, its status being 2."""
    try:
        status = cli.main(argv)
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("paper_repro: ") and "Traceback" not in error and "\n" not in error
    return error


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ((*RUN, "--threads", "2147483648"), "threads must be at most"),
        ((*RUN, "--threads", "-1"), "threads must be at least 1"),
        ((*RUN, "--runs", "a\0b"), "cannot hold the character NUL"),
        (("export", "a\0b"), "cannot hold the character NUL"),
        (("export", "x" * 300), "cannot be written"),
        ((*RUN[:5], "--multiplier", "1e300"), "makes 2e+301 epochs"),
        ((*RUN[:5], "--multiplier", "1e-9"), "makes 2e-08 epochs"),
        ((*RUN[:5], "--multiplier", "nan"), "multiplier must be a number above 0"),
        ((*RUN[:5], "--epochs", str(10**30)), "epochs must be at most 1000000"),
        (
            ("run", "--method", "lt", "--sparsity", "0.9", "--option", "prune_ratio=0.001"),
            "takes 2302 rounds",
        ),
        (("run", "--method", "lt", "--option", "round=5000"), "at most 100"),
        (("run", "--from-record", "nothing.json"), "nothing.json cannot be read"),
    ],
)
def test_nonsense_is_a_sentence(capsys, argv, sentence):
    assert sentence in said(capsys, *argv)
    assert not list(Path().rglob("*.pt"))


def an_archive(here):
    Records(here / "results").write(tiny(), "finished", made_body())
    assert cli.main(["export", "ours.tar.gz"]) == 0
    return here / "ours.tar.gz"


def test_export_replaces_its_own_archives_and_nothing_else(here, capsys):
    first = an_archive(here).read_bytes()
    assert cli.main(["export", "ours.tar.gz"]) == 0
    assert (here / "ours.tar.gz").read_bytes() == first
    thesis = here / "thesis.tex"
    thesis.write_text("years of work")
    capsys.readouterr()
    assert "is not an archive of records" in said(capsys, "export", "thesis.tex")
    assert thesis.read_text() == "years of work"
    assert cli.main(["export", "thesis.tex", "--force"]) == 0
    assert thesis.read_bytes() == first
    folder = here / "folder"
    (folder / "inside").mkdir(parents=True)
    os.mkfifo(here / "pipe")
    (here / "link").symlink_to("/dev/null")
    (here / "nowhere").symlink_to("/nonexistent/file")
    capsys.readouterr()
    for target in ("folder", "pipe", "link", "nowhere", "/dev/null"):
        for force in ([], ["--force"]):
            assert "is no regular file" in said(capsys, "export", target, *force)
    assert "is a file, not a folder" in said(capsys, "export", "thesis.tex/records.tar.gz")
    assert (folder / "inside").is_dir()
    assert Path("/dev/null").is_char_device()


def test_benchmarks_write_over_their_own_results_only(here, capsys):
    (here / "notes.json").write_text('{"mine": 1}')
    assert bench.main(["--quick", "--out", "notes.json", "--device", "cpu"]) == 2
    assert "is not a benchmark's result" in capsys.readouterr().err
    assert (here / "notes.json").read_text() == '{"mine": 1}'
    assert bench.main(["--quick", "--out", "/dev/null", "--device", "cpu"]) == 2
    assert "no regular file" in capsys.readouterr().err
    (here / "old.json").write_text('{"environment": {}, "started": "today"}')
    check_target(Path("old.json"), bench._is_result, "a benchmark's result")
    with pytest.raises(SystemExit) as ended:
        bench.main(["nothing"])
    assert ended.value.code == 2


def test_benchmarks_say_first_what_will_not_do(here, capsys, monkeypatch):
    monkeypatch.setattr(bench, "measure", None)  # would be found after it
    for device in ("nope", "meta", "cuda:99"):
        for out in ([], ["--out", "x.json"]):
            assert bench.main(["--device", device, *out]) == 2
            assert f"the device '{device}' cannot be used" in capsys.readouterr().err
    # Where nobody may write, whoever they are.
    assert bench.main(["--quick", "--device", "cpu", "--out", "/proc/sys/x.json"]) == 2
    assert "nothing can be written to /proc/sys" in capsys.readouterr().err


def test_an_export_is_of_where_a_profiles_records_lie(here, capsys):
    Records(here / "results").write(tiny(profile="cpu"), "finished", made_body())
    assert cli.main(["export", "old.tar.gz", "--profile", "cpu-bf16-12"]) == 0
    assert "1 records" in capsys.readouterr().out
    assert "no records of the paper profile" in said(capsys, "export", "x", "--profile", "paper")


def python(code, **options):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})},
        **options,
    )


def test_an_output_that_is_ascii_or_closed_is_no_fault(here):
    Records(here / "results").write(tiny(), "finished", made_body())
    code = "import sys; from paper_repro.cli.main import main; sys.exit(main(['status']))"
    ran = python(code, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert ran.returncode == 0 and "smoke" in ran.stdout and not ran.stderr
    shell = f'"{sys.executable}" -c "{code}"'
    ran = subprocess.run(
        ["bash", "-c", f"{shell} >&- 2>{here}/error"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 0 and not (here / "error").read_text()


@pytest.fixture
def full_disk():
    """As a full disk: writing beyond some kilobytes of a file fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield fill
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_a_sentence_and_the_run_goes_on_where_there_is_room(here, capsys, full_disk):
    place = Workplace(runs=here / "runs", results=here / "results")
    full_disk(20_000)  # enough for a config, not for a checkpoint
    assert cli.main(RUN) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("paper_repro: File too large: ") and last.endswith("checkpoint.pt")
    assert "File too large" in attempt(tiny(), place)
    full_disk(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert not list(here.rglob("*.tmp")) and not list(here.rglob("*.pt"))
    assert not list(place.results.rglob("*.json"))  # no failure of the run's own
    assert cli.main(RUN) == 0


def test_tensors_on_a_full_disk_fail_by_the_disks_own_error(here, full_disk):
    save_tensors(here / "a.pt", torch.ones(3))
    full_disk(1000)
    with pytest.raises(OSError, match="File too large"):
        save_tensors(here / "a.pt", torch.ones(30_000))
    full_disk(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert torch.equal(load_tensors(here / "a.pt"), torch.ones(3))


def stopped(place, config):
    """A run's checkpoint after an epoch."""

    class Stop(Exception):
        pass

    def progress(_config, epoch):
        if epoch == 1:
            raise Stop

    with pytest.raises(Stop):
        execute(config, place, progress)
    return place.folder(config) / "checkpoint.pt"


def shapes(state):
    state["optimizer"]["state"][0]["momentum_buffer"] = torch.ones(2)


DAMAGE = {
    "beyond its end": (lambda s: s.update(epoch=99), "it is of epoch 99"),
    "before its start": (lambda s: s.update(epoch=-1), "it is of epoch -1"),
    "no number": (lambda s: s.update(epoch="two"), "it is of epoch 'two'"),
    "of another curve": (lambda s: s.update(curve=[]), "its curve is not that of 1 epochs"),
    "momentum of another shape": (shapes, "its momentum_buffer has the shape"),
    "weights of another shape": (
        lambda s: s["model"].update({"fc.weight": torch.ones(2)}),
        "does not fit this run",
    ),
    "lacking": (lambda s: s.pop("method"), "does not fit this run"),
}


@pytest.mark.parametrize(("damage", "sentence"), DAMAGE.values(), ids=DAMAGE)
def test_a_checkpoint_that_cannot_be_is_refused(here, damage, sentence):
    place = Workplace(runs=here / "runs", results=here / "results", engine="dense")
    config = tiny(epochs=2)
    path = stopped(place, config)
    state = load_tensors(path)
    damage(state)
    save_tensors(path, state)
    with pytest.raises(UserError, match=sentence) as caught:
        execute(config, place)
    assert str(path) in str(caught.value)


def test_a_run_does_not_go_on_on_other_data(here):
    place = Workplace(runs=here / "runs", results=here / "results", engine="dense")
    config = tiny(epochs=2)
    path = stopped(place, config)
    whole = path.read_bytes()
    state = load_tensors(path)
    digest = state["places"][-1]["data"]
    state["places"][-1]["data"] = "another"
    save_tensors(path, state)
    with pytest.raises(UserError, match=rf"began on other training data \(another\).*{digest}"):
        execute(config, place)
    path.write_bytes(whole)
    record = execute(config, place)
    assert record.body["environment"]["data"] == digest and "earlier" not in record.body


def test_a_parent_whose_weights_are_not_finite_is_refused(here):
    place = Workplace(runs=here / "runs", results=here / "results")
    config = tiny(method=spec_reaching(0.5, 0.5))
    parent = config.parent()
    execute(parent, place)
    left = load_tensors(place.weights(parent))
    left["weights"]["conv1.weight"][0] = torch.nan
    save_tensors(place.weights(parent), left)
    with pytest.raises(UserError, match=r"not finite \(conv1.weight\)"):
        execute(config, place)


@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("dense", "lt", "lrr")])
def test_a_run_that_diverges_under_any_method_is_a_result_and_not_tried_for_ever(here, name):
    known = METHODS.defaults(name)
    short = {"sparsity": 0.5, "delta_t": 1, "updates": 6, "period": 0.4}
    options = {k: v for k, v in short.items() if k in known}
    place = Workplace(runs=here / "runs", results=here / "results")
    config = tiny(
        method=METHODS.spec(name, **options),
        optimizer=OPTIMIZERS.spec("sgd"),
        lr=1e30,
        epochs=4,
    )
    record = execute(config, place)
    assert record.status == "diverged", record.body["reason"]
    assert place.records.done(config)


def test_an_update_that_fails_on_weights_that_are_finite_is_a_fault(here, monkeypatch):
    def broken(self):
        raise RuntimeError("svd did not converge")

    trainer_step = Trainer.train_epoch
    monkeypatch.setattr(Trainer, "train_epoch", broken)
    place = Workplace(runs=here / "runs", results=here / "results")
    assert "svd did not converge" in attempt(tiny(), place)
    assert place.records.get(tiny()).status == "failed"
    monkeypatch.setattr(Trainer, "train_epoch", trainer_step)


def test_a_record_says_what_to_train_again_and_what_came_out_differently(here, capsys):
    assert cli.main(RUN) == 0
    (path,) = Path("results/smoke").glob("*.json")
    before = path.read_bytes()
    capsys.readouterr()
    assert cli.main(["run", "--from-record", str(path), "--device", "cpu"]) == 0
    assert "It came out the same, bit for bit." in capsys.readouterr().out
    assert path.read_bytes() == before
    again = read(next(Path("runs/again/results/smoke").glob("*.json")))
    assert again.body["environment"]["threads"] == read(path).body["environment"]["threads"]
    changed = json.loads(before)
    changed["curve"][0]["train_loss"] += 1.0
    changed["environment"]["torch"] = "1.0"
    path.write_text(json.dumps(changed))
    assert cli.main(["run", "--from-record", str(path), "--device", "cpu"]) == 1
    out = capsys.readouterr().out
    assert "It was trained again before" in out and "It came out differently." in out
    assert "the curves part in epoch 1: train_loss" in out and "torch: 1.0, and now" in out
    for flag in (
        *("--seed=3", "--label-noise=0.4", "--rho-start=0.5"),
        *("--compile", "--graph", "--results=elsewhere"),
    ):
        refused = said(capsys, "run", "--from-record", str(path), flag)
        assert f"and so does {flag.split('=')[0]}" in refused
    assert not Path("elsewhere").exists()
    changed["environment"]["ranks"] = "x"
    path.write_text(json.dumps(changed))
    assert "its ranks is 'x'" in said(capsys, "run", "--from-record", str(path))
