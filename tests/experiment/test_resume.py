"""A run that was stopped, killed or damaged goes on, or says in a sentence why it cannot."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from workplaces import (
    PROCESSES,
    execute_and_tell,
    lottery,
    outcome,
    tiny,
    until,
    untimed,
    workplace,
)

from paper_repro.errors import UserError
from paper_repro.experiment import runs
from paper_repro.experiment.runs import execute
from paper_repro.files import load_tensors, save_tensors, worker_in
from paper_repro.optim import OPTIMIZERS

pytestmark = pytest.mark.usefixtures("one_thread")


def stop_after(epochs):
    """A progress callback that ends the run as Ctrl-C would."""

    def progress(config, epoch):
        if epoch == epochs:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize(
    "config", [tiny(epochs=3), lottery(0.75, optimizer=OPTIMIZERS.spec("sgd"))], ids=str
)
def test_an_interrupted_run_goes_on_and_ends_as_if_never_stopped(tmp_path, trained, config):
    whole, cut = workplace(tmp_path / "whole"), workplace(tmp_path / "cut")
    execute(config, whole)
    trained.clear()
    with pytest.raises(KeyboardInterrupt):
        execute(config, cut, stop_after(1))
    execute(config, cut)
    assert outcome(config, cut) == outcome(config, whole)
    assert all(n == config.epochs for n in trained.values())  # no epoch twice


def test_a_run_goes_on_with_the_kind_of_steps_that_it_began_with(tmp_path):
    # Replayed and plain steps differ in rounding: a mixture would be neither run.
    config = tiny(epochs=3)
    for begun, resumed in ((True, False), (False, True)):
        whole = workplace(tmp_path / f"whole {begun}", graph=begun)
        execute(config, whole)
        folder = tmp_path / f"cut {begun}"
        with pytest.raises(KeyboardInterrupt):
            execute(config, workplace(folder, graph=begun), stop_after(1))
        record = execute(config, workplace(folder, graph=resumed))
        assert record.body["environment"]["graph"] is begun
        assert outcome(config, workplace(folder)) == outcome(config, whole)


def spoil(checkpoint, how):
    state = load_tensors(checkpoint)
    if how == "damaged":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
    elif how == "of another run":
        save_tensors(checkpoint, {**state, "fingerprint": "0123456789abcdef"})
    elif how == "of another version":
        save_tensors(checkpoint, {k: v for k, v in state.items() if k != "method"})
    elif how == "of another network":
        save_tensors(checkpoint, {**state, "model": {}})
    else:
        save_tensors(checkpoint, [1, 2])


@pytest.mark.parametrize(
    "how",
    ["damaged", "of another run", "of another version", "of another network", "something else"],
)
def test_a_checkpoint_that_cannot_be_used_is_named_and_left_alone(tmp_path, how):
    place = workplace(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        execute(tiny(), place, stop_after(1))
    checkpoint = place.folder(tiny()) / "checkpoint.pt"
    spoil(checkpoint, how)
    before = checkpoint.read_bytes()
    with pytest.raises(UserError, match=r"checkpoint\.pt .*delete it to train") as caught:
        execute(tiny(), place)
    assert "\n" not in str(caught.value)
    assert checkpoint.read_bytes() == before and place.records.get(tiny()) is None


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_a_checkpoint_that_there_is_too_little_memory_for_is_not_blamed(
    tmp_path, monkeypatch, error
):
    def fail(self, state):
        raise error

    place = workplace(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        execute(tiny(), place, stop_after(1))
    monkeypatch.setattr(runs.Trainer, "load_state_dict", fail)
    with pytest.raises(type(error)):
        execute(tiny(), place)


def announced(told):
    lines = told.read_text().splitlines() if told.exists() else []
    return [int(line.split()[1]) for line in lines]


def test_a_run_killed_at_any_moment_loses_at_most_the_epoch_in_flight(tmp_path):
    config = tiny(epochs=5, train_size=224)
    whole, cut = workplace(tmp_path / "whole"), workplace(tmp_path / "cut")
    execute(config, whole)
    pace = random.Random(0)
    seconds = sum(line["seconds"] for line in whole.records.get(config).body["curve"])
    reached, killed = 0, 0
    for attempt_number in range(20):
        told = tmp_path / f"told{attempt_number}"
        process = PROCESSES.Process(target=execute_and_tell, args=(config, cut, told), daemon=True)
        process.start()
        until(lambda p=process, t=told: announced(t) or not p.is_alive())
        if killed < 3:
            process.join(pace.uniform(0, seconds / 2))
        else:
            process.join()
        if process.is_alive():
            killed += 1
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        if announced(told):
            assert announced(told)[0] >= reached  # it went on where the one before was
            reached = announced(told)[-1]
        if cut.records.done(config):
            break
    assert killed >= 2 and reached == config.epochs
    assert outcome(config, cut) == outcome(config, whole)


def trains(process, folder):
    return any(worker_in(run) == f"pid {process.pid}" for run in folder.glob("*"))


@pytest.mark.slow
def test_the_command_killed_again_and_again_ends_as_if_never_stopped(tmp_path):
    pace = random.Random(1)
    here = Path(__file__).parents[2]

    def command(folder):
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "paper_repro", "run", "--method", "lt"),
                *("--sparsity", "0.75", "--epochs", "3", "--threads", "1"),
                *("--runs", str(folder / "runs"), "--results", str(folder / "results")),
            ],
            cwd=here,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert command(whole).wait(300) == 0
    kills = 0
    while True:
        process = command(cut)
        until(lambda p=process: p.poll() is not None or trains(p, cut / "runs"))
        try:
            process.wait(pace.uniform(0.0, 4.0) if kills < 8 else None)
            break
        except subprocess.TimeoutExpired:
            kills += 1
            process.kill()
            process.wait()
    assert process.returncode == 0 and kills >= 3
    done = list(workplace(whole).records)
    assert len(done) == 3
    for record in done:
        assert outcome(record.config, workplace(cut)) == outcome(record.config, workplace(whole))
    assert untimed(done[0].body["curve"])


def from_a_gpu(checkpoint):
    """The checkpoint as a graphed run on CUDA leaves it, in an older version."""
    state = load_tensors(checkpoint)
    del state["places"], state["device_type"]
    generator = torch.arange(16, dtype=torch.uint8)  # CUDA's: a seed and an offset
    save_tensors(
        checkpoint,
        {
            **state,
            "generator": generator,
            "cuda_generator": generator,
            "graphed": True,
            "method": {**state["method"], "generator": generator},
        },
    )


def test_a_run_begun_on_a_gpu_goes_on_here_as_asked_and_says_where_it_has_been(tmp_path):
    config, ends = tiny(epochs=3), []
    for name in ("once", "again"):
        place = workplace(tmp_path / name, engine="sparse")
        with pytest.raises(KeyboardInterrupt):
            execute(config, workplace(tmp_path / name, engine="dense"), stop_after(1))
        from_a_gpu(place.folder(config) / "checkpoint.pt")
        body = execute(config, place).body
        assert [line["epoch"] for line in body["curve"]] == [1, 2, 3]
        assert body["environment"]["engine"] == "sparse" and not body["environment"]["graph"]
        assert body["earlier"] == [{"device_type": "cuda", "engine": "dense", "after_epoch": 0}]
        ends.append(outcome(config, place))
    assert ends[0] == ends[1]


def test_a_record_names_every_environment_that_a_run_had(tmp_path, monkeypatch):
    config, place = tiny(epochs=4), workplace(tmp_path)
    for commit, epochs in (("one", 1), ("one", 2), ("two", 3)):
        seen = {"commit": commit, "dirty": False, "device": "here", "device_type": "cpu"}
        monkeypatch.setattr(runs, "environment", lambda device, seen=seen: seen)
        with pytest.raises(KeyboardInterrupt):
            execute(config, place, stop_after(epochs))
    body = execute(config, place).body
    assert [(e["commit"], e["after_epoch"]) for e in body["earlier"]] == [("one", 0)]
    assert body["environment"]["commit"] == "two" and "after_epoch" not in body["environment"]


def test_a_run_that_stayed_where_it_was_says_nothing_of_other_places(tmp_path):
    place = workplace(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        execute(tiny(), place, stop_after(1))
    assert "earlier" not in execute(tiny(), place).body
