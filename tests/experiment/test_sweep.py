import contextlib
import functools
import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from workplaces import (
    PROCESSES,
    execute_and_tell,
    lottery,
    made_body,
    outcome,
    tiny,
    until,
    workplace,
)

from paper_repro.errors import UserError
from paper_repro.experiment.executors import Local
from paper_repro.experiment.executors import local as module
from paper_repro.experiment.runs import execute, record_failure
from paper_repro.experiment.sweep import missing, sweep
from paper_repro.files import exclusive, worker_in
from paper_repro.progress import bar


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    """Two processes of one thread each, and one thread here, on whatever machine."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def names(configs):
    return [config.fingerprint for config in configs]


def ancestors(config):
    parent = config.parent()
    return [] if parent is None else [*ancestors(parent), parent]


def test_what_is_missing_comes_once_and_after_the_parents_it_needs(tmp_path):
    wanted = [lottery(0.75), lottery(0.7), tiny(), tiny()]
    todo = names(missing(wanted, workplace(tmp_path)))
    chain = names([*ancestors(lottery(0.75)), lottery(0.75)])
    assert sorted(todo) == sorted({*chain, lottery(0.7).fingerprint, tiny().fingerprint})
    assert [n for n in todo if n in chain] == chain
    assert todo.index(lottery(0.5).parent().fingerprint) < todo.index(lottery(0.7).fingerprint)


def test_what_has_a_record_is_not_missing_unless_it_failed(tmp_path):
    place = workplace(tmp_path)
    for seed, status in enumerate(("finished", "diverged", "failed")):
        place.records.write(tiny(seed=seed), status, made_body())
    assert names(missing([tiny(seed=s) for s in range(3)], place)) == [tiny(seed=2).fingerprint]


def test_a_finished_parent_is_missing_only_if_its_weights_are_needed_and_gone(tmp_path):
    place, child = workplace(tmp_path), lottery(0.75)
    first, second = ancestors(child)
    for config in (first, second):
        place.records.write(config, "finished", made_body())
    assert names(missing([child], place)) == names([first, second, child])
    place.weights(second).parent.mkdir(parents=True)
    place.weights(second).touch()
    assert names(missing([child], place)) == names([child])
    place.records.write(child, "finished", made_body())
    place.weights(second).unlink()
    assert missing([child], place) == []


def test_nothing_is_started_where_nothing_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_Worker", None)
    place = workplace(tmp_path)
    place.records.write(tiny(), "finished", made_body())
    done = sweep([tiny()], place)
    assert (done.trained, done.failed) == ([], {})


def test_a_number_of_processes_below_one_is_refused(tmp_path):
    with pytest.raises(UserError, match="jobs must be at least 1, not 0"):
        sweep([tiny()], workplace(tmp_path), Local(0))


def test_data_that_is_missing_is_said_once_and_not_by_every_run(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_Worker", None)
    place = workplace(tmp_path, data=tmp_path / "nowhere")
    with pytest.raises(UserError, match="nowhere does not exist"):
        sweep([tiny(dataset="cifar10", seed=s) for s in range(3)], place)


def test_parallel_runs_equal_serial_ones_and_failures_do_not_stop_them(tmp_path, capfd):
    serial, parallel = workplace(tmp_path / "serial"), workplace(tmp_path / "parallel")
    good = [tiny(), *ancestors(lottery(0.7)), lottery(0.7), lottery(0.75)]
    for config in good:
        execute(config, serial)
    # The batch is larger than the data; a lottery ticket would start from such a run.
    bad, orphan = tiny(batch_size=97), lottery(0.5, batch_size=97)
    record_failure(tiny(), parallel, "out of memory in an earlier sweep")
    # A finished parent whose weights are gone, needed by two runs that start at the same time.
    parents = ancestors(lottery(0.7))
    for config in parents:
        parallel.records.write(config, "finished", serial.records.get(config).body)
    kept = {c: parallel.records.path(c).read_bytes() for c in parents}

    done = sweep([bad, orphan, lottery(0.7), lottery(0.75), tiny()], parallel, Local(2))

    assert set(done.trained) == set(names(good))
    assert all(done.epochs[name] == 2 for name in done.trained)
    assert set(done.failed) == set(names([bad, orphan, *ancestors(orphan)]))
    assert "batch_size" in done.failed[bad.fingerprint]
    assert "which failed" in done.failed[orphan.fingerprint]
    for config in good:
        assert outcome(config, parallel) == outcome(config, serial)
    for config in (bad, orphan, *ancestors(orphan)):
        assert parallel.records.get(config).status == "failed"
    assert kept == {c: parallel.records.path(c).read_bytes() for c in parents}
    out, err = capfd.readouterr()
    assert err.count("failed: ") == 3 and "Traceback" not in err and not out


class Fake:
    """Stands for a process: notes what it is given and says at once that it is done."""

    given: ClassVar[list] = []
    ended: ClassVar[list] = []

    def __init__(self, threads):
        self.connection, self.theirs = multiprocessing.Pipe()
        self.config, self.ready = None, False

    def give(self, config, place, need_weights):
        self.config = config
        self.given.append((config.fingerprint, need_weights))
        self.theirs.send("")

    def terminate(self):
        self.ended.append("terminate")

    def stop(self):
        self.ended.append("stop")
        self.connection.close()


def test_a_parent_is_trained_once_before_the_rounds_that_need_its_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_Worker", Fake)
    monkeypatch.setattr(Fake, "given", [])
    monkeypatch.setattr(Fake, "ended", [])
    place, wanted = workplace(tmp_path), [lottery(0.7), lottery(0.75), tiny()]
    parents = names(ancestors(lottery(0.7)))
    for config in ancestors(lottery(0.7)):  # that they have a record must not hide the loss
        place.records.write(config, "finished", made_body())
    sweep(wanted, place, Local(3))
    order = [name for name, _ in Fake.given]
    assert sorted(order) == sorted([*parents, *names(wanted)])
    assert {name for name, needed in Fake.given if needed} == set(parents)
    assert [n for n in order if n in parents] == parents
    assert order.index(parents[-1]) < min(order.index(n) for n in names(wanted[:2]))
    # All processes are told to end before the first is waited for.
    assert Fake.ended == ["terminate"] * (len(Fake.ended) // 2) + ["stop"] * (len(Fake.ended) // 2)
    assert "stop" in Fake.ended


def orphaned(place):
    """A sweep whose lottery ticket's parent another process trains, and the ticket."""
    child = lottery(0.5)
    state = module._Sweep(missing([child], place), place, 1, bar(disable=True))
    state.waiting.remove(child.parent())
    state._give_up(child.parent(), "another process (pid 1) is training in it", recorded=True)
    return state, child


def test_a_round_whose_parent_another_process_finishes_meanwhile_is_trained(tmp_path):
    place = workplace(tmp_path)
    state, child = orphaned(place)
    place.records.write(child.parent(), "finished", made_body())
    place.weights(child.parent()).parent.mkdir(parents=True)
    place.weights(child.parent()).touch()
    assert state._next() == child
    assert child.fingerprint not in state.outcome.failed and place.records.get(child) is None


@pytest.mark.parametrize("busy", [True, False])
def test_a_round_whose_parent_another_process_trains_has_not_failed(tmp_path, busy):
    place = workplace(tmp_path)
    state, child = orphaned(place)
    record_failure(child.parent(), place, "out of memory in an earlier sweep")
    with exclusive(place.folder(child.parent())) if busy else contextlib.nullcontext():
        assert state._next() is None
    said = state.outcome.failed[child.fingerprint]
    if busy:
        assert "which another process trains" in said and place.records.get(child) is None
    else:
        assert "which failed" in said and place.records.get(child).status == "failed"


def test_a_process_that_ctrl_c_comes_upon_as_it_starts_is_ended(monkeypatch):
    started = []

    @contextlib.contextmanager
    def interrupted():
        yield
        started.extend(multiprocessing.active_children())
        raise KeyboardInterrupt  # as one that was held

    before = set(multiprocessing.active_children())
    monkeypatch.setattr(module, "_interrupts_held", interrupted)
    with pytest.raises(KeyboardInterrupt):
        module._Worker(1)
    (process,) = set(started) - before
    assert process.exitcode == -signal.SIGKILL


def next_worker(config, place, before):
    worker = worker_in(place.folder(config))
    return worker if worker not in (None, "pid unknown", before) else None


def kill_worker_on(config, place, times):
    """SIGKILL the process that trains ``config``, and the one that tries again, ..."""
    worker = None
    for _ in range(times):
        worker = until(functools.partial(next_worker, config, place, worker))
        os.kill(int(worker.split()[1]), signal.SIGKILL)


def test_a_run_whose_process_is_killed_is_tried_once_more_and_the_others_go_on(tmp_path):
    place = workplace(tmp_path)
    unlucky, doomed, others = tiny(epochs=8), tiny(epochs=9), [tiny(seed=5), tiny(seed=6)]
    killers = [
        threading.Thread(target=kill_worker_on, args=(config, place, times), daemon=True)
        for config, times in ((unlucky, 1), (doomed, 2))
    ]
    for killer in killers:
        killer.start()
    done = sweep([unlucky, doomed, *others], place, Local(2))
    for killer in killers:
        killer.join(60)
    assert set(done.trained) == set(names([unlucky, *others]))
    assert set(done.failed) == {doomed.fingerprint}
    record = place.records.get(doomed)
    assert record.status == "failed" and "died twice (exit code -9)" in record.body["reason"]
    alone = workplace(tmp_path / "alone")
    execute(unlucky, alone)
    assert outcome(unlucky, place) == outcome(unlucky, alone)


def test_processes_that_cannot_even_start_end_the_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_serve", operator.is_)  # something that returns at once
    with pytest.raises(UserError, match="__main__"):
        sweep([tiny(), tiny(seed=1)], workplace(tmp_path), Local(1))
    assert list(workplace(tmp_path).records) == []


def test_a_run_that_another_process_trains_is_left_to_it(tmp_path):
    place, config = workplace(tmp_path), tiny(epochs=10_000)
    other = PROCESSES.Process(
        target=execute_and_tell, args=(config, place, tmp_path / "told"), daemon=True
    )
    other.start()
    until((tmp_path / "told").exists)
    try:
        done = sweep([config], place)
    finally:
        other.kill()
        other.join()
    assert f"(pid {other.pid}) is training in" in done.failed[config.fingerprint]
    assert place.records.get(config) is None


def test_a_sweep_stops_at_its_deadline_and_another_goes_on(tmp_path):
    place, config = workplace(tmp_path), tiny(epochs=10_000)
    log = place.folder(config) / "log.jsonl"

    def stop_soon(original=module.time.monotonic):
        return original() + (1e6 if log.exists() else 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.time, "monotonic", stop_soon)
        done = sweep([config], place, Local(deadline=module.time.monotonic() + 1e5))
    assert done.trained == [] and done.failed == {} and done.epochs[config.fingerprint] >= 1
    assert worker_in(place.folder(config)) is None and place.records.get(config) is None
    assert (place.folder(config) / "checkpoint.pt").exists()


def start_sweep(configs, place):
    sweep(configs, place, Local(2))


def test_no_process_trains_on_when_the_sweep_is_killed(tmp_path):
    # Epochs of seconds: the process must not go on even to the end of one.
    place, config = workplace(tmp_path), tiny(batch_size=2, train_size=None, epochs=10_000)
    folder = place.folder(config)
    running = PROCESSES.Process(target=start_sweep, args=([config], place))
    running.start()
    try:
        until((folder / "log.jsonl").exists)
        worker = worker_in(folder)
        assert worker and worker != f"pid {running.pid}"
    finally:
        running.kill()
        running.join()
    epochs = (folder / "log.jsonl").read_text()
    until(lambda: worker_in(folder) is None)
    assert (folder / "log.jsonl").read_text() == epochs
    assert place.records.get(config) is None  # its end was no failure of the run


# The command itself, on runs so long that none of them ends of its own accord.
LONG_SWEEP = """
import dataclasses, sys
from paper_repro.cli import main as cli
from paper_repro.experiment import profiles
smoke = profiles.PROFILES["smoke"]
long = dataclasses.replace(smoke, settings={**smoke.settings, "epochs": 10_000})
profiles.PROFILES = {"smoke": long}
sys.exit(cli.main(sys.argv[1:]))
"""


def test_ctrl_c_stops_every_process_with_one_line_and_status_130(tmp_path):
    place = workplace(tmp_path)
    command = subprocess.Popen(
        [
            *(sys.executable, "-c", LONG_SWEEP, "sweep", "table1", "--methods", "snip"),
            *("--sparsities", "0.9", "--optimizers", "sgd", "--jobs", "2"),
            *("--runs", str(place.runs), "--results", str(place.results)),
        ],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, as a terminal would give it
        # Parallel test workers ignore Ctrl-C, and what they start would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until(lambda: len(list(place.runs.glob("*/log.jsonl"))) == 2)
        # The processes themselves do not even notice: it is the sweep's to stop them.
        lengths = {log: len(log.read_text()) for log in place.runs.glob("*/log.jsonl")}
        for log in lengths:
            os.kill(int(worker_in(log.parent).split()[1]), signal.SIGINT)
        until(lambda: all(len(log.read_text()) > n for log, n in lengths.items()))
        os.killpg(command.pid, signal.SIGINT)
        out, err = command.communicate(timeout=300)
    finally:
        command.kill()
    assert command.returncode == 130
    assert err.splitlines()[-1] == (
        "paper_repro: stopped; the same command goes on from the last finished epochs"
    )
    assert "KeyboardInterrupt" not in err and "Traceback" not in err + out
    assert all(worker_in(folder) is None for folder in place.runs.iterdir())
    assert len(list(place.runs.glob("*/checkpoint.pt"))) == 2 and not list(place.records)


def test_a_small_profile_keeps_its_threads_whatever_the_jobs(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    place, shown = workplace(tmp_path), bar(disable=True)
    other = tiny(profile="one without a limit")
    assert module._Sweep([tiny()], place, 1, shown).threads == 1
    assert module._Sweep([other], place, 2, shown).threads == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert module._Sweep([other], place, 2, shown).threads == 3
