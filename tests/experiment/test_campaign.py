"""A campaign trains the most telling runs first, stops in time, and loses nothing when killed."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from workplaces import made_body

from paper_repro.data import download
from paper_repro.errors import UserError
from paper_repro.experiment import campaign as module
from paper_repro.experiment.campaign import Campaign, Report
from paper_repro.experiment.profiles import profile
from paper_repro.experiment.runs import Workplace, execute, record_failure
from paper_repro.experiment.sweep import Outcome
from paper_repro.optim import OPTIMIZERS
from paper_repro.registry import Spec
from paper_repro.sparse.lt import spec_reaching
from tables import TABLES

ROOT = Path(__file__).resolve().parents[2]
SIZE = replace(
    profile("smoke"),
    settings={"epochs": 3, "batch_size": 32, "train_size": 160},
    seeds=(0, 1),
)


def run(method="mest", optimizer="s2sam", seed=0, size=SIZE, **options):
    options.setdefault("sparsity", 0.9)
    spec = size.method(method, **options) if method != "dense" else size.method("dense")
    return size.config("cifar10", "resnet32x2", spec, OPTIMIZERS.spec(optimizer), seed)


def chain(size=SIZE):
    spec = spec_reaching(0.5, 0.5)
    return size.config("cifar10", "resnet32x2", spec, OPTIMIZERS.spec("sgd"), 0)


def some():
    return [run("rigl"), chain()]


def place(folder, **options):
    return Workplace(runs=folder / "runs", results=folder / "results", **options)


def essence(records):
    """What must not depend on when and how a run was executed."""
    return {
        r.config.fingerprint: [
            {k: v for k, v in line.items() if k not in ("seconds", "images_per_second")}
            for line in r.body["curve"]
        ]
        for r in records
    }


# -- what is trained -----------------------------------------------------------------------------


def test_what_failed_before_comes_last_and_data_that_is_missing_is_left_out(tmp_path, monkeypatch):
    def no_network(*arguments):
        raise download.Failed("no network")

    monkeypatch.setattr(download, "cifar", no_network)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    good, bad = run(), run("rigl")
    absent = replace(run(), dataset="cifar10")
    here = place(tmp_path, data=tmp_path)
    record_failure(bad, here, "a test")
    campaign = Campaign([bad, absent, good], here)
    assert [c.fingerprint for c in campaign.todo] == [good.fingerprint, bad.fingerprint]
    assert list(campaign.unusable) == ["cifar10"]
    with pytest.raises(UserError, match="cifar10"):
        Campaign([absent], here)


# -- time ----------------------------------------------------------------------------------------


def test_the_report_counts_epochs_in_whole_runs(tmp_path, monkeypatch):
    first, second = run(), run("rigl")
    seen = {}

    def swept(configs, place, executor):
        seen.update(vars(executor))
        return Outcome([first.fingerprint], {}, {first.fingerprint: 3, second.fingerprint: 1})

    monkeypatch.setattr("paper_repro.experiment.campaign.sweep", swept)
    campaign = Campaign([first, second], place(tmp_path))
    campaign.started -= 3600  # an hour ago
    report = campaign.run(seconds=3600.5, jobs=3)
    assert seen == {"jobs": 3, "deadline": campaign.started + 3600.5}
    assert report.runs == pytest.approx(4 / 3)
    assert report.runs_per_hour == pytest.approx(4 / 3, rel=0.01)
    assert report.left == 2  # nothing was written


# Imports stand below, where the processes that the campaign starts do not repeat them.
SCRIPT = """
if __name__ == "__main__":
    import json, os, sys
    os.cpu_count = lambda: 1  # one thread, as in the test's own process
    from pathlib import Path
    from paper_repro.experiment.campaign import Campaign
    from paper_repro.config import RunConfig
    from paper_repro.experiment.runs import Workplace
    configs = [RunConfig.from_dict(plain) for plain in json.loads(sys.argv[2])]
    place = Workplace(runs=Path(sys.argv[1], "runs"), results=Path(sys.argv[1], "results"))
    print(Campaign(configs, place).run(seconds=120, jobs=1).left)
"""


def test_killed_at_a_random_time_it_ends_as_if_never_stopped(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for config in some():
        execute(config, place(whole))
    torch.set_num_threads(threads)
    configs = json.dumps([config.to_dict() for config in some()])
    script = tmp_path / "campaign.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start():
        return subprocess.Popen(
            [sys.executable, str(script), str(cut), configs],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def progress():
        return sum(len(path.read_bytes()) for path in cut.glob("runs/*/log.jsonl"))

    process = start()
    while progress() == 0 and process.poll() is None:
        time.sleep(0.01)
    time.sleep(random.Random(time.time_ns()).uniform(0, 0.5))
    assert process.poll() is None, "the campaign was over before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert start().communicate(timeout=120)[0].strip() == "0"
    records = place(cut).records
    assert essence(records) == essence(place(whole).records)
    assert len(list(records)) == 3  # LT at 50 % starts from a dense parent
    assert {r.status for r in records} == {"finished"}


def test_speed_is_measured_with_a_run_that_can_start_alone(tmp_path, monkeypatch):
    # A round whose parent is done is missing without it, and cannot be trained from nothing.
    measured = []
    monkeypatch.setattr(module, "measured", lambda config, *_: measured.append(config) or {1: 9.0})
    work = Campaign([chain(), run("rigl")], place(tmp_path))
    work.todo = [chain(), run("rigl")]
    assert work.jobs(10.0) == (1, {1: 9.0}) and measured.pop() == run("rigl")
    work.todo = [chain()]
    work.jobs(10.0)
    dense = measured.pop()
    assert dense.method.name == "dense" and dense.parent() is None
    assert replace(dense, method=chain().method) == chain()
    assert work.jobs(10.0, given=5) == (5, {}) and not measured


# -- the command line ----------------------------------------------------------------------------

OTHERS = "sklearn", "pyarrow", "torchvision", "matplotlib", "pandas", "scipy", "tabulate", "PIL"
BLOCKED = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None  # as if it was not installed, also for those who only ask
from paper_repro.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_campaign_needs_nothing_but_torch_numpy_and_tqdm(tmp_path):
    from tests.data.made_cifar import pictures, write_pickle

    images, labels = pictures(64, 0)
    folder = tmp_path / "data" / "cifar-10-batches-py"
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        write_pickle(folder / name, images, labels)
    arguments = [
        "campaign",
        *("--profile", "paper", "--minutes", "0.02", "--jobs", "1", "--device", "cpu"),
        *("--data", tmp_path / "data", "--runs", tmp_path / "runs"),
        *("--results", tmp_path / "results"),
    ]
    ran = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(blocked=OTHERS), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert "runs per hour" in ran.stdout
    assert "cifar100" in ran.stdout  # left out, and said


def test_records_travel_by_export_and_import(tmp_path, capsys):
    from paper_repro.cli.main import main

    def command(*arguments):
        status = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    execute(run(), place(tmp_path))
    there = ("--runs", tmp_path / "r", "--results", tmp_path / "other")
    archive = tmp_path / "records.tar.gz"
    said = command("export", archive, "--results", tmp_path / "results")
    assert said == (0, f"1 records written to {archive}\n", "")
    status, out, _ = command("import", archive, *there)
    assert status == 0 and "1 new" in out
    path = next((tmp_path / "other").glob("smoke/*.json"))
    changed = json.loads(path.read_text())
    changed["environment"]["torch"] = "another"
    path.write_text(json.dumps(changed))
    status, out, _ = command("import", archive, *there)
    assert status == 1 and "1 conflicting" in out and path.stem in out
    archive.write_bytes(b"nonsense")
    status, out, err = command("import", archive, *there)
    assert status == 2 and not out and err.count("\n") == 1


@pytest.mark.parametrize(
    "bad",
    [
        ["--minutes", "0"],
        ["--minutes", "nan"],
        ["--minutes", "inf"],
        ["--minutes", "1e307"],
        ["--minutes", "1", "--jobs", "0"],
        [],
        ["--dry-run", "--tables", "table0"],
        ["--dry-run", "--minutes", "-1"],
    ],
)
def test_bad_options_are_one_sentence(bad, tmp_path, capsys):
    from paper_repro.cli.main import main

    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    try:
        status = main(["campaign", *folders, *bad])
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    assert capsys.readouterr().err.strip().count("\n") == 0


def test_a_dry_run_shows_the_plan_and_trains_nothing(tmp_path, capsys, trained):
    from paper_repro.cli.main import main

    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    tables = ["--tables", "control", "ablation-rho"]
    assert main(["campaign", "--dry-run", *tables, *folders]) == 0
    said = capsys.readouterr().out
    # Dense and 90 %: SGD, SAM, S2-SAM; and six further radii: two seeds each.
    assert "24 runs to train." in said and "First 20 of 24 runs" in said
    assert said.count("(smoke), weight decay") == 20
    assert "What it would decide" in said and "C: positive control" in said
    assert "n = 0 -> 2 after" in said and "1a" not in said
    assert not trained and not list(tmp_path.glob("results/*/*.json"))


def test_a_campaign_of_some_tables_trains_only_theirs(tmp_path, monkeypatch):
    from paper_repro.cli import campaign as command
    from paper_repro.cli.main import main

    asked = []

    class Recorded(Campaign):
        def __init__(self, wanted, place, started):
            asked.extend(wanted)
            super().__init__(wanted, place, started)
            assert self.started < planned[0]  # planning counts

        def jobs(self, seconds, given=None):
            return 1, {}

        def run(self, seconds, jobs):
            return Report(Outcome(), 0.0, 1.0, 0)

    planned = []
    built = command.plan
    timed = lambda *a: planned.append(time.monotonic()) or built(*a)  # noqa: E731
    monkeypatch.setattr(command, "plan", timed)
    monkeypatch.setattr(command, "Campaign", Recorded)
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    assert main(["campaign", "--minutes", "1", "--tables", "control", *folders]) == 0
    assert len(asked) == 12
    assert {c.method.name for c in asked} == {"dense", "mest"}
    assert {c.optimizer.name for c in asked} == {"sgd", "sam", "s2sam"}


def campaign(tmp_path, *more):
    from paper_repro.cli.main import main

    folders = ("--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results"))
    return main(["campaign", *folders, *more])


def test_a_plan_needs_no_data_but_that_of_its_runs(tmp_path, capsys, monkeypatch):
    def fetch(*arguments):
        raise AssertionError("it fetches what no run of it wants")

    monkeypatch.setattr(download, "cifar", fetch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PAPER_REPRO_DATA", raising=False)
    body = made_body()
    body["environment"] |= {"device_type": "cpu", "threads": 1}
    other = replace(run(), dataset="cifar10")  # of the same profile
    place(tmp_path).records.write(other, "finished", body)
    assert campaign(tmp_path, "--dry-run", "--tables", "control") == 0
    assert "12 runs to train." in capsys.readouterr().out


def test_tables_that_want_no_runs_are_not_said_to_have_them_all(tmp_path, capsys):
    assert campaign(tmp_path, "--dry-run", "--tables", "claims", "flops") == 0
    assert capsys.readouterr().out == "smoke: these tables want no runs.\n"


def test_a_run_whose_record_is_damaged_is_left_out_with_what_starts_from_it(
    tmp_path, capsys, trained
):
    def to_train(table):
        assert campaign(tmp_path, "--dry-run", "--tables", table) == 0
        out, err = capsys.readouterr()
        return int(re.search(r"(\d+) runs to train", out)[1]), err

    def damage(config):
        path = place(tmp_path).records.path(config)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{")

    whole, _ = to_train("ablation-ratio")
    wanted = list(TABLES.build(Spec("control"), profile=profile("smoke")).runs())
    damage(wanted[0])  # dense, SGD, the first seed
    count, said = to_train("control")
    assert count == 11 and said.count("left out: ") == 1 and wanted[0].fingerprint in said
    # Of chains with SGD and S2-SAM and of two seeds, those that start from it.
    assert to_train("ablation-ratio")[0] == whole * 3 // 4
    for config in wanted:
        damage(config)
    assert campaign(tmp_path, "--minutes", "1", "--tables", "control") == 0
    assert "smoke: every other record is there." in capsys.readouterr().out
    assert not trained


def test_a_campaign_with_damaged_records_trains_the_others(tmp_path, capsys, monkeypatch):
    wanted = list(TABLES.build(Spec("control"), profile=profile("smoke")).runs())
    records = place(tmp_path).records
    records.path(wanted[0]).parent.mkdir(parents=True)
    records.path(wanted[0]).write_text("{")
    swept = []
    monkeypatch.setattr(module, "sweep", lambda todo, *_: swept.extend(todo) or Outcome())
    assert campaign(tmp_path, "--minutes", "1", "--jobs", "1", "--tables", "control") == 0
    assert {c.fingerprint for c in swept} == {c.fingerprint for c in wanted[1:]}


@pytest.mark.parametrize(
    ("jobs", "name", "cores"),
    [(None, "paper", 8), (1, "paper", 8), (3, "paper", 6), (3, "smoke", 3), (99, "smoke", 8)],
)
def test_the_forecast_is_of_the_cores_that_processes_keep_busy(monkeypatch, jobs, name, cores):
    from paper_repro.cli import campaign as command

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert command._cores(profile(name), jobs) == cores


def test_the_forecast_is_of_the_threads_that_processes_may_have(monkeypatch):
    from paper_repro.cli import campaign as command

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert command._cores(profile("paper"), 3) == 3
