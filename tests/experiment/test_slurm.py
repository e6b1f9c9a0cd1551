"""What the Slurm executor submits and waits for, with commands that only pretend."""

import os
import pickle
import re
import threading
import time
from types import SimpleNamespace

import pytest
from workplaces import lottery, made_body, tiny, workplace

from paper_repro.cli import main as cli
from paper_repro.errors import UserError
from paper_repro.experiment.executors import Limits, Slurm, queue
from paper_repro.experiment.executors import slurm as module
from paper_repro.experiment.runs import record_failure
from paper_repro.experiment.sweep import missing, sweep

pytest.importorskip("submitit", reason="the extra [slurm] is not installed")


def flags(script):
    """The options of a submitted script."""
    found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script.read_text(), re.M)
    return {name: value.strip("'") for name, value in found}


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


def test_a_round_whose_weights_a_child_needs_has_not_ended_well_without_them(tmp_path, pretend):
    place, child = workplace(tmp_path), lottery(0.75)
    parent = child.parent()
    for config in (parent, child):
        place.records.write(config, "finished", made_body())
    jobs = {parent.fingerprint: "1", child.fingerprint: "2"}
    left = module._Watch([parent, child], place, jobs).outcome()
    assert left.trained == [child.fingerprint] and list(left.failed) == [parent.fingerprint]
    place.weights(parent).parent.mkdir(parents=True, exist_ok=True)
    place.weights(parent).touch()
    whole = module._Watch([parent, child], place, jobs).outcome()
    assert whole.trained == [parent.fingerprint, child.fingerprint] and not whole.failed


def test_of_anothers_array_only_the_job_that_matters_is_waited_for(tmp_path, pretend):
    place, child = workplace(tmp_path), lottery(0.75)
    parent = child.parent()
    (pretend / "queue").write_text("12_3|RUNNING\n12_4|PENDING\n")
    place.folder(parent).mkdir(parents=True)
    (place.folder(parent) / "job.json").write_text('{"job": "12_3"}')
    Slurm(wait=False).train([parent, child], place)
    assert flags(pretend / "1.sh")["dependency"] == "afterany:12_3"


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
    command = ["sweep", "table1", "--executor", "slurm", "--methods", "rigl"]
    monkeypatch.chdir(tmp_path)
    assert cli.main(command) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "paper_repro: stopped; the same command waits for them again"
