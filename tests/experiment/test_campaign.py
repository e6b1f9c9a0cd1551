"""A campaign trains the most telling runs first, stops in time, and loses nothing when killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from paper_repro.data import download
from paper_repro.errors import UserError
from paper_repro.experiment import campaign as module
from paper_repro.experiment.campaign import STAGES, Campaign, Stage, plan
from paper_repro.experiment.profiles import PROFILES, profile
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


def wants(size):
    """What every table wants at a profile, as the command line finds it."""
    return {name: TABLES.build(Spec(name), profile=size).runs() for name in TABLES}


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


# -- order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_run_of_every_table_is_planned_once(name):
    size = profile(name)
    planned = [c.fingerprint for c in plan(wants(size), size)]
    wanted = {c.fingerprint for t in TABLES for c in TABLES.build(Spec(t), profile=size).runs()}
    assert len(planned) == len(set(planned))
    assert set(planned) == wanted


def test_the_stages_of_the_paper_come_in_their_order():
    size = profile("paper")
    planned = plan(wants(size), size)
    position = {c.fingerprint: i for i, c in enumerate(planned)}
    seen = set()
    end = 0
    for stage in STAGES:
        if stage.table not in TABLES:
            continue
        runs = TABLES.build(Spec(stage.table), profile=size).runs()
        own = {
            c.fingerprint
            for c in runs
            if (stage.dataset is None or c.dataset == stage.dataset)
            and (not stage.first or c.seed == size.seeds[0])
        } - seen
        assert sorted(position[name] for name in own) == list(range(end, end + len(own)))
        seen |= own
        end += len(own)
    assert {c.sparsity for c in planned[:16]} == {0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98}
    assert {c.method.name for c in planned[:48]} == {"dense", "mest"}
    assert {c.seed for c in planned[:16]} == {0}
    first = [c for c in planned[48:] if c.seed == 0][:20]
    assert {c.dataset for c in first} == {"cifar10"}


def test_within_a_stage_whole_seeds_come_first_and_chains_last_in_theirs():
    tables = {"one": [chain(), *(run(seed=s) for s in (1, 0)), run("rigl", seed=1)]}
    ordered = plan(tables, SIZE, [Stage("one")])
    assert [(c.seed, c.method.name) for c in ordered] == [
        (0, "mest"),
        (0, "lt"),
        (1, "mest"),
        (1, "rigl"),
    ]


def test_a_stage_can_be_one_seed_or_one_dataset_and_may_be_missing():
    tables = {
        "a": [run(seed=1), run(seed=0)],
        "b": [run("rigl", seed=1), run("rigl", seed=0)],
    }
    stages = [Stage("absent"), Stage("b", "cifar100"), Stage("b", "cifar10", first=True)]
    ordered = plan(tables, SIZE, stages)
    assert [(c.method.name, c.seed) for c in ordered] == [
        ("rigl", 0),
        ("mest", 0),
        ("mest", 1),
        ("rigl", 1),
    ]


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

    def swept(configs, place, jobs, deadline):
        seen.update(jobs=jobs, deadline=deadline)
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
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Blocker())
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
    changed["accuracy"]["last"] = 1.0
    path.write_text(json.dumps(changed))
    status, out, _ = command("import", archive, *there)
    assert status == 1 and "1 conflicting" in out and path.stem in out
    archive.write_bytes(b"nonsense")
    status, out, err = command("import", archive, *there)
    assert status == 2 and not out and err.count("\n") == 1


@pytest.mark.parametrize(
    "bad", [["--minutes", "0"], ["--minutes", "nan"], ["--minutes", "1", "--jobs", "0"], []]
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
