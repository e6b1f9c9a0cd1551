"""The Slurm executor with commands that only pretend; tests/cluster tries a real one."""

import os
import pickle
import re
import signal
import stat
import subprocess
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from workplaces import lottery, made_body, outcome, tiny, until, workplace

from paper_repro.cli import main as cli
from paper_repro.errors import UserError
from paper_repro.experiment.executors import Limits, Slurm, job, queue
from paper_repro.experiment.executors import slurm as module
from paper_repro.experiment.executors.job import Job
from paper_repro.experiment.executors.limits import minutes
from paper_repro.experiment.runs import execute, record_failure
from paper_repro.experiment.sweep import missing, sweep
from paper_repro.files import exclusive, worker_in

pytest.importorskip("submitit", reason="the extra [slurm] is not installed")

COMMANDS = {
    # Notes the script it is given, and puts its jobs into the queue.
    "sbatch": """
        sleep 0.2
        id=$(($(cat "$FAKE/count") + 1)); echo $id > "$FAKE/count"
        cp "$1" "$FAKE/$id.sh"
        last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
        if [ -z "$last" ]; then echo "$id|PENDING" >> "$FAKE/queue"
        else for i in $(seq 0 $last); do echo "${id}_$i|PENDING" >> "$FAKE/queue"; done; fi
        echo "Submitted batch job $id"
    """,
    "squeue": 'echo "$@" >> "$FAKE/asked"; cat "$FAKE/queue"',
    "scontrol": 'echo "JobId=1 JobState=NODE_FAIL Reason=None"',
    "srun": "exit 1",
}


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """A folder with what is in the queue, and each script submitted as ``<job>.sh``."""
    folder = tmp_path / "pretend"
    folder.mkdir()
    (folder / "count").write_text("0")
    (folder / "queue").touch()
    for name, text in COMMANDS.items():
        script = folder / name
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    return folder


def flags(script):
    """The options of a submitted script."""
    found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script.read_text(), re.M)
    return {name: value.strip("'") for name, value in found}


# -- limits --------------------------------------------------------------------------------------


@given(st.integers(0, 30), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_every_way_to_write_a_time_means_the_same(days, hours, mins, secs):
    whole = 24 * 60 * days + 60 * hours + mins
    if whole == 0:
        return
    assert minutes(f"{days}-{hours}:{mins}:{secs}") == whole + (secs > 0)
    assert minutes(f"{days}-{hours}:{mins}") == minutes(str(whole)) == whole
    assert minutes(f"{24 * days + hours}:{mins}:{secs}") == whole + (secs > 0)
    assert minutes(f"{whole}:{secs}") == whole + (secs > 0)


@pytest.mark.parametrize("time", ["", "soon", "-5", "0", "0:30", "1:2:3:4", "1-", "4h", "٤"])
def test_what_is_no_time_is_refused(time):
    with pytest.raises(UserError, match="time"):
        minutes(time)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--time", "4h"), "a time is written as 90, 4:00:00 or 1-12"),
        (("--memory", "lots"), "memory is written as 16G or 500M, not 'lots'"),
        (("--cpus", "0"), "cpus must be at least 1, not 0"),
        (("--gpus", "-1"), "gpus must be at least 0, not -1"),
        (("--jobs", "0"), "jobs must be at least 1, not 0"),
        (("--slurm", "array=0-9"), "the sweep sets the option array of sbatch itself"),
        (("--slurm", "mem=4G"), "the option mem of sbatch itself; use --memory"),
        (("--slurm", "open_mode=append"), "the sweep sets the option open-mode"),
        (("--slurm", "=x"), "an option of sbatch is written as qos=high"),
        (("--slurm", "comment=a\nb"), "is of one line"),
    ],
)
def test_limits_that_cannot_be_are_refused_in_a_sentence(argv, said, pretend, capsys):
    assert cli.main(["sweep", "table1", "--executor", "slurm", *argv]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1 + said.count("\n")
    assert not list(pretend.glob("*.sh"))


@pytest.mark.parametrize("option", ["time=5", "cpus=2", "slurm=qos=high", "partition=gpu"])
def test_what_only_jobs_have_is_refused_where_there_are_none(option, capsys):
    assert cli.main(["sweep", "table1", f"--{option}"]) == 2
    assert "is of jobs of a cluster; add --executor slurm" in capsys.readouterr().err


def test_without_submitit_or_slurm_one_sentence_says_so(pretend, capsys, monkeypatch):
    command = ["sweep", "table1", "--executor", "slurm"]
    with monkeypatch.context() as patch:
        patch.setattr(module.importlib.util, "find_spec", lambda name: None)
        assert cli.main(command) == 2
    assert "needs submitit, which pip install" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(pretend.parent))
    assert cli.main(command) == 2
    assert "there is no sbatch here" in capsys.readouterr().err


# -- submission ----------------------------------------------------------------------------------


def test_an_array_is_submitted_with_what_its_jobs_may_use(tmp_path, pretend, monkeypatch):
    monkeypatch.chdir(tmp_path)
    limits = Limits(
        *("1-12", 7, 3, 1, "16G", "fast", "lab"), more={"qos": "high", "exclusive": True}
    )
    place = workplace(tmp_path, device="auto", runs=(tmp_path / "runs").relative_to(tmp_path))
    done = sweep([tiny(), tiny(seed=1)], place, Slurm(limits, wait=False))
    assert set(done.submitted) == {tiny().fingerprint, tiny(seed=1).fingerprint}
    script = pretend / "1.sh"
    assert {
        **{"array": "0-1%2", "time": "2160", "cpus-per-task": "3", "gpus-per-node": "1"},
        **{"mem": "16G", "partition": "fast", "account": "lab", "qos": "high", "exclusive": ""},
        **{"requeue": "", "job-name": queue.NAME, "signal": "USR2@90", "open-mode": "append"},
        "error": str(tmp_path / "runs/slurm/%A_%a_0_log.err"),
    }.items() <= flags(script).items()
    text = script.read_text()
    assert re.search(r"^srun .*--cpus-per-task=3 ", text, re.M)
    assert f"export PYTHONPATH={os.path.dirname(os.path.dirname(cli.__file__))[:-12]}" in text
    left = pickle.loads((tmp_path / "runs/slurm/1_1_submitted.pkl").read_bytes())
    assert left.function.config == tiny(seed=1)
    where = left.function.place
    assert where.runs == tmp_path / "runs" and where.results.is_absolute()
    assert where.device == "cuda"  # as asked for, whatever the machine has that submits
    assert left.function.threads == 1  # the smoke profile's, however many cpus


def test_threads_follow_the_cpus_and_the_profile(tmp_path, pretend):
    def threads(config, limits):
        place = workplace(tmp_path, device="auto")
        made = Slurm(limits)._job(config, place, set())
        assert made.place.device == "cpu"
        return made.threads

    free = tiny(profile="one without a limit")
    assert threads(free, Limits(cpus=6)) == 6 and threads(free, Limits()) == 1
    assert threads(tiny(), Limits(cpus=6)) == 1
    assert Limits(more={"gres": "gpu:a100:1"}).any_gpu and not Limits(more={"qos": "x"}).any_gpu


def test_rounds_wait_for_the_jobs_of_the_rounds_they_start_from(tmp_path, pretend):
    place, wanted = workplace(tmp_path), [lottery(0.75), lottery(0.7), tiny()]
    todo = missing(wanted, place)
    Slurm(wait=False).train(todo, place)
    scripts = [pretend / f"{i}.sh" for i in range(1, 4)]
    assert [flags(s).get("dependency") for s in scripts] == [None, "afterany:1", "afterany:2"]
    assert flags(scripts[0])["array"] == "0-1%2" and "array" not in flags(scripts[1])
    needed = {c.fingerprint for c in todo if c not in wanted}
    for path in (place.runs / "slurm").glob("*_submitted.pkl"):
        left = pickle.loads(path.read_bytes()).function
        assert left.need_weights == (left.config.fingerprint in needed)


def test_arrays_are_as_long_as_slurm_takes_and_share_the_number_at_once(
    tmp_path, pretend, monkeypatch
):
    monkeypatch.setattr(module, "_ARRAY", 2)
    place = workplace(tmp_path)
    Slurm(Limits(jobs=2), wait=False).train([tiny(seed=s) for s in range(5)], place)
    scripts = [flags(pretend / f"{i}.sh") for i in range(1, 4)]
    assert [s.get("array") for s in scripts] == ["0-1%2", "0-1%2", None]
    assert [s.get("dependency") for s in scripts] == [None, "afterany:1", "afterany:2"]


def test_two_sweeps_at_once_submit_each_run_once(tmp_path, pretend):
    place = workplace(tmp_path)
    shared = [tiny(seed=s) for s in range(4)]
    parts = [shared[:3], shared[1:], shared]
    found = []

    def submit(configs):
        found.append(set(Slurm(wait=False).train(configs, place).submitted))

    sweeps = [threading.Thread(target=submit, args=(part,)) for part in parts]
    for one in sweeps:
        one.start()
    for one in sweeps:
        one.join()
    ids = [line.split("|")[0] for line in (pretend / "queue").read_text().splitlines()]
    assert len(ids) == len(set(ids)) == len(shared)
    runs = [pickle.loads(p.read_bytes()).function.config for p in place.runs.glob("slurm/*d.pkl")]
    assert sorted(c.seed for c in runs) == [0, 1, 2, 3]
    # Each sweep knows of all jobs that train its runs, its own and the others'.
    assert sorted(map(len, found)) == [3, 3, 4]


def test_what_slurm_refuses_is_said_in_its_words(tmp_path, pretend):
    (pretend / "sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: error: invalid partition specified: x' >&2\nexit 1\n"
    )
    with pytest.raises(UserError, match="cannot be submitted: sbatch: error: invalid partition"):
        Slurm(wait=False).train([tiny()], workplace(tmp_path))
    (pretend / "squeue").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(UserError, match="Slurm does not answer"):
        Slurm(wait=False).train([tiny()], workplace(tmp_path))


# -- waiting -------------------------------------------------------------------------------------


def test_what_became_of_jobs_is_told_from_records_results_and_slurm(tmp_path, pretend, capsys):
    place = workplace(tmp_path)
    runs = [tiny(seed=s) for s in range(4)]
    good, bad, lost, busy = runs
    Slurm(wait=False).train(runs, place)
    assert queue.states() == {f"1_{i}": "PENDING" for i in range(4)}
    assert f"--user={os.getuid()} --name={queue.NAME}" in (pretend / "asked").read_text()
    place.records.write(good, "finished", made_body())
    record_failure(bad, place, "no memory")
    folder = place.runs / "slurm"
    for i, said in ((0, ""), (1, "no memory"), (3, "another process (pid 1) is training")):
        (folder / f"1_{i}_0_result.pkl").write_bytes(pickle.dumps(("success", said)))
    (pretend / "queue").write_text("")
    # A sweep over the same runs: all jobs are gone, and what has no record is submitted anew.
    jobs = {c.fingerprint: f"1_{i}" for i, c in enumerate(runs)}
    done = module._Watch(runs, place, jobs).outcome()
    assert done.trained == [good.fingerprint]
    assert done.failed[bad.fingerprint] == "no memory"
    assert "another process" in done.failed[busy.fingerprint]
    assert "its job 1_2 left no record (NODE_FAIL)" in done.failed[lost.fingerprint]
    assert place.records.get(lost) is None  # that a node died is no failure of the run
    assert capsys.readouterr().err.count("failed: ") == 3


def test_a_sweep_waits_while_jobs_are_queued_and_slurm_restarts(tmp_path, pretend, monkeypatch):
    place, looks = workplace(tmp_path), []
    answers = [{"1": "PENDING"}, None, {"1": "RUNNING"}, {}, {}]

    def states():
        looks.append(len(looks))
        if len(looks) == 5:  # written on another machine, and seen here a look later
            place.records.write(tiny(), "finished", made_body())
        return answers[looks[-1]]

    monkeypatch.setattr(module.queue, "states", states)
    done = module._Watch([tiny()], place, {tiny().fingerprint: "1"}).outcome()
    assert done.trained == [tiny().fingerprint] and len(looks) == 5


def test_ctrl_c_leaves_the_jobs_and_says_how_to_end_them(tmp_path, pretend, monkeypatch, capsys):
    def stop(seconds):
        raise KeyboardInterrupt

    # Its own clock alone: subprocess sleeps too.
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=stop, monotonic=time.monotonic))
    with pytest.raises(KeyboardInterrupt):
        sweep([tiny()], workplace(tmp_path), Slurm())
    assert "The jobs go on without this command; `scancel 1` ends them." in capsys.readouterr().out


# -- a job ---------------------------------------------------------------------------------------


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
        until((place.folder(config) / "log.jsonl").exists)
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
    assert (place.folder(config) / "checkpoint.pt").exists()


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
    assert place.records.get(config).status == "failed"


def test_a_job_is_queued_again_as_long_as_it_gets_on(tmp_path):
    place = workplace(tmp_path)
    stuck = a_job(tiny(), place, seconds=60.0)

    def start(one):
        one.started, one.before = time.monotonic(), one._saved()

    for count in (1, 2):
        start(stuck)
        stuck = stuck.checkpoint().function
        assert stuck.idle == count
    start(stuck)
    with pytest.raises(UserError, match="limit of 1 minutes came 3 times before a first"):
        stuck.checkpoint()
    path = place.folder(tiny()) / "checkpoint.pt"
    path.parent.mkdir(parents=True)
    path.touch()
    again = stuck.checkpoint().function
    assert again == replace(stuck, idle=0)
    # Preempted long before its time is over, it is not to blame.
    early = replace(stuck, seconds=1e6)
    start(early)
    assert early.checkpoint().function.idle == 2
