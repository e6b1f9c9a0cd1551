"""Sweeps on a real Slurm of one node; `pytest -s` shows what Slurm says on the way."""

import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import one_node
import pytest
from workplaces import PROCESSES, execute_and_tell, outcome, tiny, until, workplace

HERE = Path(__file__).parent

pytestmark = pytest.mark.slow
pytest.importorskip("submitit", reason="the extra [slurm] is not installed")

#: A sweep over runs of seconds each, as a script would start it.
SWEEP = """
import sys
from workplaces import tiny, workplace
from paper_repro.experiment.executors import Limits, Slurm
from paper_repro.experiment.sweep import sweep
from pathlib import Path
if __name__ == "__main__":
    runs = [tiny(**changes) for changes in eval(sys.argv[2])]
    done = sweep(runs, workplace(Path(sys.argv[1])), Slurm(Limits(time=sys.argv[3])))
    print(f"{len(done.trained)} trained, {len(done.failed)} failed")
    for reason in done.failed.values():
        print(f"failed: {reason}")
    sys.exit(bool(done.failed))
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A cluster; its folder."""
    if absent := one_node.lacking():
        pytest.skip(f"no Slurm can be started here, for want of {', '.join(absent)}")
    folder = tmp_path_factory.mktemp("slurm")
    one_node.start(folder)
    yield folder
    one_node.stop(folder)


class Cluster:
    """Slurm's commands, and a log of what was done and what it answered."""

    def __init__(self, folder):
        self.env = one_node.environment(folder)
        self.env["PYTHONPATH"] = f"{HERE.parents[1]}:{HERE.parent}"
        self.began = time.monotonic()

    def say(self, text):
        for line in text.splitlines():
            print(f"[{time.monotonic() - self.began:6.1f} s] {line}", flush=True)

    def do(self, *command):
        ran = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)
        self.say(f"$ {' '.join(command)}\n{ran.stdout}{ran.stderr}")
        assert ran.returncode == 0, ran.stderr

    def preempt(self, job):
        """Send the signal that comes before a preemption; does not wait.

        scancel itself does: it tries again as long as the job, already queued anew, refuses it.
        """
        self.say(f"$ scancel --signal=USR2 {job}")
        return subprocess.Popen(
            ["scancel", "--signal=USR2", job], env=self.env, stderr=subprocess.DEVNULL
        )

    def again(self, job):
        """Let a job start that was queued anew, which Slurm has wait for two minutes else."""
        until(lambda: self.states().get(job) == "PENDING")
        self.show()
        self.do("scontrol", "update", f"JobId={job}", "StartTime=now")

    def states(self):
        command = ("squeue", "--noheader", "--array", "--format=%i %T")
        out = subprocess.run(command, env=self.env, capture_output=True, text=True).stdout
        return dict(line.split() for line in out.splitlines())

    def show(self):
        self.say("squeue: " + ", ".join(f"{k} {v}" for k, v in sorted(self.states().items())))

    def about(self, job):
        command = ("scontrol", "show", "job", "--oneliner", job)
        out = subprocess.run(command, env=self.env, capture_output=True, text=True).stdout
        found = dict(re.findall(r"(\w+)=(\S+)", out))
        keys = ("JobState", "Restarts", "ExitCode", "RunTime", "TimeLimit")
        self.say(f"job {job}: " + ", ".join(f"{key}={found.get(key)}" for key in keys))
        return found

    @contextlib.contextmanager
    def sweep(self, folder, runs, time="30"):
        """A sweep in a process of its own."""
        process = subprocess.Popen(
            [sys.executable, "-c", SWEEP, str(folder), repr(runs), time],
            env=self.env,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def finish(self, name, process):
        out, _ = process.communicate(timeout=900)
        self.say("\n".join(f"{name} | {line}" for line in out.splitlines()))
        return process.returncode, out


def alone(tmp_path, configs):
    """The same runs trained in one go, beside the cluster, by a process of their own."""
    place = workplace(tmp_path / "alone")
    processes = []
    for config in configs:
        told = tmp_path / f"told-{config.fingerprint}"
        process = PROCESSES.Process(target=execute_and_tell, args=(config, place, told))
        process.start()
        processes.append(process)
    for process in processes:
        process.join()
    return place


def job_of(place, config, sweep):
    """A run's job, once it has trained some epochs."""
    log = place.folder(config) / "log.jsonl"
    until(
        lambda: (log.exists() and log.read_text().count("\n") >= 3) or sweep.poll() is not None, 120
    )
    assert sweep.poll() is None, sweep.communicate()[0]
    notes = [json.loads(path.read_text()) for path in place.runs.glob("slurm/*_runs.json")]
    return next(note[config.fingerprint] for note in notes if config.fingerprint in note)


def test_jobs_that_are_stopped_and_queued_again_end_as_if_they_had_not_been(slurm, tmp_path):
    cluster, place = Cluster(slurm), workplace(tmp_path)
    changes = [{"seed": seed, "epochs": 60} for seed in range(4)]
    configs = [tiny(**c) for c in changes]
    with cluster.sweep(tmp_path, changes) as first, cluster.sweep(tmp_path, changes) as second:
        preempted = job_of(place, configs[0], first)
        killed = job_of(place, configs[1], first)
        cluster.show()
        # As Slurm preempts: submitit's handler has the job queued again.
        sent = cluster.preempt(preempted)
        # Killed outright, and queued again by hand.
        cluster.do("scancel", "--signal=KILL", killed)
        cluster.do("scontrol", "requeue", killed)
        cluster.show()
        cluster.again(preempted)
        sent.kill()
        sent.wait()
        cluster.again(killed)
        ends = [cluster.finish("sweep 1", first), cluster.finish("sweep 2", second)]
    assert [status for status, _ in ends] == [0, 0]
    assert all("4 trained, 0 failed" in out for _, out in ends)
    for job in (preempted, killed):
        assert cluster.about(job)["Restarts"] == "1"
    # Two sweeps began at once, and each run got one job.
    assert len(list((place.runs / "slurm").glob("*_submitted.pkl"))) == 4
    assert sum("4 of 4 runs have jobs already" in out for _, out in ends) == 1
    there = alone(tmp_path, configs[:2])
    for config in configs[:2]:
        assert outcome(config, place) == outcome(config, there)
    cluster.say("both records and weights are those of uninterrupted runs, bit for bit")


def test_a_cancelled_job_is_told_and_the_next_sweep_goes_on_with_its_run(slurm, tmp_path):
    cluster, place = Cluster(slurm), workplace(tmp_path)
    changes = [{"seed": seed, "epochs": 400} for seed in range(2)]  # or it ends before it is told
    config = tiny(**changes[0])
    with cluster.sweep(tmp_path, changes) as first:
        job = job_of(place, config, first)
        cluster.do("scancel", job)
        status, out = cluster.finish("sweep 1", first)
    assert status == 1 and f"its job {job} left no record (CANCELLED)" in out
    assert place.records.get(config) is None
    done = (place.folder(config) / "log.jsonl").read_text()
    with cluster.sweep(tmp_path, changes) as second:
        status, out = cluster.finish("sweep 2", second)
    assert status == 0 and "1 of 1 runs submitted" in out and "1 trained, 0 failed" in out
    assert (place.folder(config) / "log.jsonl").read_text().startswith(done)  # not trained anew
    assert outcome(config, place) == outcome(config, alone(tmp_path, [config]))


def test_a_job_that_reaches_its_time_limit_goes_on_where_it_was(slurm, tmp_path):
    cluster, place = Cluster(slurm), workplace(tmp_path)
    # Longer than the half minute between two of Slurm's looks at time limits.
    changes = {"batch_size": 2, "train_size": 800, "epochs": 20}
    config = tiny(**changes)
    with cluster.sweep(tmp_path, [changes], time="10") as running:
        job = job_of(place, config, running)
        cluster.do("scontrol", "update", f"JobId={job}", "TimeLimit=1")
        until(lambda: cluster.states().get(job) != "RUNNING")
        cluster.show()
        assert place.records.get(config) is None
        cluster.do("scontrol", "update", f"JobId={job}", "TimeLimit=10")
        cluster.again(job)
        status, _ = cluster.finish("sweep", running)
    assert status == 0 and cluster.about(job)["Restarts"] == "1"
    log = (place.runs / "slurm" / f"{job}_0_log.out").read_text()
    cluster.say("\n".join(f"log | {line}" for line in log.splitlines()))
    assert "Calling checkpoint method" in log
    assert outcome(config, place) == outcome(config, alone(tmp_path, [config]))


def test_the_command_trains_a_table_on_the_cluster(slurm, tmp_path):
    cluster = Cluster(slurm)
    command = [
        *(sys.executable, "-m", "paper_repro", "sweep", "table1", "--methods", "rigl"),
        *("--sparsities", "0.9", "--optimizers", "sgd", "--executor", "slurm", "--time", "30"),
        *("--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")),
    ]
    ran = subprocess.run(
        command, cwd=HERE.parents[1], env=cluster.env, capture_output=True, text=True, timeout=900
    )
    cluster.say(ran.stdout + ran.stderr)
    assert ran.returncode == 0 and "2 trained, 0 failed." in ran.stdout
    assert len(list((tmp_path / "results").glob("*/*.json"))) == 2
