"""What a job of the Slurm executor does on its node."""

import os
import signal
import subprocess
import threading
import time
from dataclasses import replace

import made_imagenet
import pytest
import torch
from workplaces import lottery, outcome, tiny, until, workplace

from paper_repro.data import loader
from paper_repro.errors import UserError
from paper_repro.experiment import runs
from paper_repro.experiment.executors import job
from paper_repro.experiment.executors.job import Job
from paper_repro.experiment.runs import execute, record_failure
from paper_repro.files import exclusive, save_tensors, worker_in

pytest.importorskip("submitit", reason="the extra [slurm] is not installed")


def a_job(config, place, **changes):
    settings = {"need_weights": False, "threads": 1, "seconds": 3600.0}
    return Job(config, place, **{**settings, **changes})


@pytest.fixture(autouse=True)
def put_back():
    before, handler = torch.get_num_threads(), signal.getsignal(signal.SIGUSR2)
    yield
    torch.set_num_threads(before)
    signal.signal(signal.SIGUSR2, handler)


def test_a_job_trains_its_run_as_any_process_does(tmp_path, one_thread):
    here, there = workplace(tmp_path / "here"), workplace(tmp_path / "there")
    execute(tiny(), here)
    torch.set_num_threads(2)
    assert a_job(tiny(), there)() == ""
    assert torch.get_num_threads() == 1
    assert outcome(tiny(), there) == outcome(tiny(), here)


def test_a_job_leaves_a_run_to_the_process_that_has_it(tmp_path, monkeypatch, trained):
    place = workplace(tmp_path)
    monkeypatch.setenv("SLURMD_NODENAME", "node7")
    with exclusive(place.folder(tiny())):
        assert worker_in(place.folder(tiny())) == f"pid {os.getpid()} on node7"
        assert f"(pid {os.getpid()} on node7) is training in" in a_job(tiny(), place)()
    assert place.records.get(tiny()) is None and not trained


def test_a_job_that_starts_again_outlasts_the_locks_of_its_dead_node(tmp_path, monkeypatch):
    place, waited = workplace(tmp_path), []
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    stack = exclusive(place.folder(tiny()))
    stack.__enter__()

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 2:
            stack.__exit__(None, None, None)

    monkeypatch.setattr(job.time, "sleep", sleep)
    assert a_job(tiny(), place)() == ""
    assert len(waited) == 2 and place.records.done(tiny())


def test_a_round_whose_parent_failed_is_given_up(tmp_path, trained):
    place, child = workplace(tmp_path), lottery(0.7)
    record_failure(child.parent(), place, "no memory")
    assert "which failed" in a_job(child, place)()
    assert place.records.get(child).status == "failed" and not trained


def test_a_device_that_a_node_lacks_is_no_failure_of_the_run(tmp_path):
    place = workplace(tmp_path, device="cuda:99")
    assert "'cuda:99' cannot be used" in a_job(tiny(), place)()
    assert place.records.get(tiny()) is None


def signalled(place, config, handler, **changes):
    """What a job says that gets USR2, for which submitit has set ``handler``, in mid-run."""
    signal.signal(signal.SIGUSR2, handler)

    def send():
        until((place.folder(config) / "log.jsonl").exists)  # and the checkpoint is being saved
        os.kill(os.getpid(), signal.SIGUSR2)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        return a_job(config, place, **changes)()
    finally:
        thread.join()


def test_a_requeue_that_fails_is_no_failure_of_the_run(tmp_path):
    def handler(signum, frame):
        raise subprocess.CalledProcessError(1, ["scontrol", "requeue", "7"])

    place, config = workplace(tmp_path), tiny(epochs=10_000)
    assert "not queued again: Command" in signalled(place, config, handler)
    assert place.records.get(config) is None


def test_a_requeue_that_ends_its_own_command_has_worked(tmp_path):
    def handler(signum, frame):
        raise subprocess.CalledProcessError(-signal.SIGTERM, ["scontrol", "requeue", "7"])

    place, config = workplace(tmp_path), tiny(epochs=10_000)
    with pytest.raises(SystemExit):
        signalled(place, config, handler)
    assert place.records.get(config) is None and worker_in(place.folder(config)) is None


def test_a_job_that_never_gets_anywhere_in_its_time_is_a_failure(tmp_path):
    place, config = workplace(tmp_path), tiny(epochs=10_000)

    def handler(signum, frame):
        raise UserError("its time limit came too often")

    assert signalled(place, config, handler) == "its time limit came too often"
    record = place.records.get(config)
    assert (record.status, record.body["reason"]) == ("failed", "its time limit came too often")


@pytest.mark.parametrize("where", ["a picture", "a file"])
def test_a_job_that_gets_nowhere_blames_no_picture_and_no_file(tmp_path, monkeypatch, where):
    def handler(signum, frame):
        raise UserError("its time limit came too often")

    def stop(*args, **options):  # in the middle of what takes every error for damage
        os.kill(os.getpid(), signal.SIGUSR2)

    place, config = workplace(tmp_path), tiny()
    if where == "a picture":
        data = made_imagenet.load(
            made_imagenet.write_tree(tmp_path / "imagenet"), tmp_path, workers=0, skip_broken=True
        )
        monkeypatch.setattr(runs, "data_of", lambda config, place: data)
        monkeypatch.setattr(loader, "decode", stop)
        config = tiny(dataset="imagenet", batch_size=3, train_size=None)
    else:
        checkpoint = place.folder(config) / "checkpoint.pt"
        checkpoint.parent.mkdir(parents=True)
        save_tensors(checkpoint, {})
        monkeypatch.setattr(torch, "load", stop)
    signal.signal(signal.SIGUSR2, handler)
    assert a_job(config, place)() == "its time limit came too often"
    record = place.records.get(config)
    assert (record.status, record.body["reason"]) == ("failed", "its time limit came too often")


def test_a_job_that_is_stopped_while_it_waits_for_a_lock_has_not_failed(tmp_path, monkeypatch):
    def handler(signum, frame):
        raise subprocess.CalledProcessError(1, ["scontrol", "requeue", "7"])

    def sleep(seconds):
        os.kill(os.getpid(), signal.SIGUSR2)

    place = workplace(tmp_path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setattr(job.time, "sleep", sleep)
    signal.signal(signal.SIGUSR2, handler)
    with exclusive(place.folder(tiny())):
        assert "not queued again: Command" in a_job(tiny(), place)()
    assert place.records.get(tiny()) is None


def test_a_job_is_queued_again_as_long_as_it_gets_on(tmp_path):
    place = workplace(tmp_path)
    stuck = a_job(tiny(), place, seconds=600.0)

    def start(one, ran):
        one.started, one.before = time.monotonic() - ran, one._saved()

    for count in (1, 2):
        start(stuck, ran=430)  # it took 20 s to start, and Slurm warned 150 s before the limit
        stuck = stuck.checkpoint().function
        assert stuck.idle == count
    start(stuck, ran=430)
    with pytest.raises(UserError, match="limit of 10 minutes came 3 times before a first"):
        stuck.checkpoint()
    path = place.folder(tiny()) / "checkpoint.pt"
    path.parent.mkdir(parents=True)
    path.touch()
    again = stuck.checkpoint().function
    assert again == replace(stuck, idle=0)
    # Preempted long before its time is over, it is not to blame.
    for seconds, ran in ((1e6, 430), (120.0, 1)):
        early = replace(stuck, seconds=seconds)
        start(early, ran)
        assert early.checkpoint().function.idle == stuck.idle == 2
